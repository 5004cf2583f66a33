"""Where image bytes come from, and where they may not."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlmrecipes.data import images
from vlmrecipes.data.images import ImageError, image_bytes


def encoded(kind: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    picture = Image.effect_noise(size, 64)
    picture.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "inner").mkdir(parents=True)
    (tmp_path / "root" / "inner" / "a.png").write_bytes(b"inside")
    (tmp_path / "secret.png").write_bytes(b"secret")
    return tmp_path / "root"


def reason(reference: Any, root: Path) -> str:
    with pytest.raises(ImageError) as caught:
        image_bytes(reference, root)
    assert caught.value.message
    return caught.value.reason


def test_paths_inside_the_root_are_read_however_they_are_written(root: Path) -> None:
    for path in ("inner/a.png", "./inner/../inner/a.png", str(root / "inner" / "a.png"), "../root/inner/a.png"):
        assert image_bytes(path, root) == b"inside"


def test_paths_that_leave_the_root_are_refused(root: Path) -> None:
    for path in ("../secret.png", str(root.parent / "secret.png"), "inner/../../secret.png", "/etc/passwd"):
        assert reason(path, root) == "outside_root"
    assert reason({"bytes": None, "path": "../secret.png"}, root) == "outside_root"


def test_a_sibling_folder_whose_name_starts_like_the_root_is_outside(root: Path) -> None:
    sibling = root.parent / "root-2"
    sibling.mkdir()
    (sibling / "a.png").write_bytes(b"other")
    assert reason("../root-2/a.png", root) == "outside_root"


def test_links_are_followed_and_may_not_leave_the_root(root: Path) -> None:
    (root / "out.png").symlink_to(root.parent / "secret.png")
    (root / "folder").symlink_to(root.parent)
    (root / "in.png").symlink_to(root / "inner" / "a.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    assert reason("out.png", root) == "outside_root"
    assert reason("folder/secret.png", root) == "outside_root"
    assert image_bytes("in.png", root) == b"inside"
    assert reason("loop.png", root) == "missing_image"


def test_a_root_that_is_itself_a_link_is_fine(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert image_bytes("inner/a.png", link) == b"inside"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_base64_is_read_with_and_without_its_prefix(root: Path, kind: str) -> None:
    raw = encoded(kind)
    text = base64.b64encode(raw).decode()
    assert image_bytes(f"data:image/x;base64,{text}", root) == raw
    assert image_bytes(text, root) == raw
    assert image_bytes({"bytes": text}, root) == raw


def test_bytes_and_tables_of_bytes_are_taken(root: Path) -> None:
    assert image_bytes(b"raw", root) == b"raw"
    assert image_bytes({"bytes": b"raw", "path": "../secret.png"}, root) == b"raw"
    assert image_bytes({"bytes": None, "path": "inner/a.png"}, root) == b"inside"
    assert image_bytes({"path": "inner/a.png"}, root) == b"inside"


@pytest.mark.parametrize(
    "reference",
    [
        "none.png",
        "inner",
        ".",
        "a\0b",
        "x" * 301,
        "/" + "x" * 300 + "!",
        "data:image/png;base64,@@@",
        "data:",
        None,
        3,
        {},
        {"bytes": None, "path": None},
        {"bytes": 3},
        ["a.png"],
    ],
)
def test_what_is_no_image_is_told(root: Path, reference: Any) -> None:
    if reference == "data:":
        assert image_bytes(reference, root) == b""
    else:
        assert reason(reference, root) in {"missing_image", "outside_root"}


def test_a_file_that_is_too_large_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 5)
    assert reason("inner/a.png", root) == "too_large"


STEPS = st.sampled_from(
    ["..", ".", "inner", "out", "up", "a.png", "secret.png", "root", "etc", "passwd", "", "~", "\\", "*"]
)


@given(
    steps=st.lists(STEPS, max_size=8),
    start=st.sampled_from(["", "/", "//", "./", "file://", "~/", "{here}/", "{here}/../"]),
)
def test_no_path_leaves_the_root(tmp_path_factory: pytest.TempPathFactory, steps: list[str], start: str) -> None:
    here = maze(tmp_path_factory)
    text = start.format(here=here) + "/".join(steps)
    try:
        data = image_bytes(text, here / "root")
    except ImageError as error:
        refusal = error.reason
    else:
        refusal = "" if data == b"inside" else "escaped"
    assert refusal in {"", "missing_image", "outside_root"}


@given(text=st.text(max_size=40))
def test_any_text_is_an_image_inside_the_root_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    try:
        data = image_bytes(text, maze(tmp_path_factory) / "root")
    except ImageError:
        return
    assert data == b"inside" or text.startswith("data:")


_mazes: list[Path] = []


def maze(factory: pytest.TempPathFactory) -> Path:
    """A root with links that stay and links that leave."""
    if not _mazes:
        here = factory.mktemp("maze")
        (here / "root" / "inner").mkdir(parents=True)
        (here / "root" / "inner" / "a.png").write_bytes(b"inside")
        (here / "secret.png").write_bytes(b"secret")
        (here / "root" / "secret.png").symlink_to("../secret.png")
        (here / "root" / "out").symlink_to("..")
        (here / "root" / "inner" / "up").symlink_to("..")
        _mazes.append(here)
    return _mazes[0]


def test_pipes_and_devices_are_not_read(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    assert reason("pipe.png", root) == "missing_image"
    assert reason("/dev/zero", Path("/dev")) == "missing_image"


def test_bytes_and_base64_have_the_limit_of_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 300)
    assert reason(bytes(301), root) == "too_large"
    assert reason("data:;base64," + "A" * 500, root) == "too_large"
    assert image_bytes(bytes(300), root) == bytes(300)
