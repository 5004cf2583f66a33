"""Paths that name several files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrecipes.data.sources.files import _expanded, declared_files
from vlmrecipes.errors import InputError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for name in ("a/0.tar", "a/1.tar", "a/2.txt", "b/deep/0.tar", "x[1].tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path / "set.toml"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a/0.tar", ["0.tar"]),
        ("x[1].tar", ["x[1].tar"]),
        ("a/*.tar", ["0.tar", "1.tar"]),
        ("**/*.tar", ["a/0.tar", "a/1.tar", "b/deep/0.tar", "x[1].tar"]),
        ("a/{0..1}.tar", ["0.tar", "1.tar"]),
        ("a/{1..0}.tar", ["0.tar", "1.tar"]),
        ("{a,b/deep}/0.tar", ["a/0.tar", "b/deep/0.tar"]),
        ("{a,b}/**/{0,1}.tar", ["a/0.tar", "a/1.tar", "b/deep/0.tar"]),
    ],
)
def test_wildcards_and_braces_name_files_in_order(file: Path, text: str, names: list[str]) -> None:
    if text == "{a,b}/**/{0,1}.tar":
        with pytest.raises(InputError, match="no file fits"):  # b holds no 1.tar, and that is told
            declared_files(text, file, "path")
        text = "{a,b}/**/[01].tar"
    assert [name for name, _ in declared_files(text, file, "path").named()] == names


def test_two_stars_enter_linked_folders_and_no_circle(file: Path) -> None:
    (file.parent / "a" / "more").symlink_to(file.parent / "b")
    (file.parent / "b" / "up").symlink_to(file.parent)
    names = ["0.tar", "1.tar", "more/deep/0.tar", "more/up/x[1].tar"]
    assert [name for name, _ in declared_files("a/**/*.tar", file, "path").named()] == names
    assert [name for name, _ in declared_files("a/**", file, "path").named()] == [*names[:2], "2.txt", *names[2:]]
    assert [name for name, _ in declared_files("**/deep/**/0.tar", file, "path").named()] == [
        "a/more/deep/0.tar",
        "b/deep/0.tar",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a/{0..2}.tar", "no such file: '2.tar'"),
        ("a/*.png", "no file fits"),
        ("a", "is a folder; give a file or a glob"),
        ("none.tar", "no such file or folder"),
        ("a/*/../../0.tar", "may not follow a wildcard"),
        ("a/{0..999999}.tar", "names more than 100000 files"),
        ("{0..999}/{0..999}.tar", "names more than 100000 files"),
    ],
)
def test_what_is_not_there_is_told_with_its_key(file: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        declared_files(text, file, "source[0].path")
    assert caught.value.problems[0].key == "source[0].path"


def test_ranges_keep_their_leading_zeros() -> None:
    assert _expanded("s-{008..011}.tar") == ["s-008.tar", "s-009.tar", "s-010.tar", "s-011.tar"]


@given(st.text(st.sampled_from("{},.0a9"), max_size=14))
def test_any_text_is_spelled_out_or_refused(text: str) -> None:
    try:
        names = _expanded(text)
    except ValueError:
        return
    assert names
    assert all("{a,b}" not in name for name in names)
