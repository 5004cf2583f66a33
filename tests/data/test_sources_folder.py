"""Folders of images with metadata files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image
from reading import good, problems, rows

from vlmrecipes.data.declaration import read_declaration
from vlmrecipes.data.sample import Drop
from vlmrecipes.data.sources.folder import files
from vlmrecipes.errors import InputError
from vlmrecipes.ingestion import ingest

SOURCE = 'type = "folder"\npath = "set"\nimage = "{image}"\nprompt = "Read."\nanswer = "{text}"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("set/a.png", "set/deep/b.png", "set/deep/c.png", "secret.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path / "set"


def listed(path: Path, *lines: object) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def test_metadata_files_give_the_rows_with_paths_relative_to_themselves(folder: Path) -> None:
    listed(folder / "metadata.jsonl", {"file_name": "a.png", "text": "A", "shop": 1})
    (folder / "deep" / "metadata.csv").write_text("file_name,text\nb.png,B\n./c.png,C\n", "utf-8")
    found = good(folder.parent, SOURCE + 'group = "{parent}"\nmetadata = ["path", "stem"]\n')
    assert [(row.key, row.images, row.references[0], row.group) for row in found] == [
        ("deep/metadata.csv:deep/b.png", ("deep/b.png",), "B", "deep"),
        ("deep/metadata.csv:deep/c.png", ("deep/c.png",), "C", "deep"),
        ("metadata.jsonl:a.png", ("a.png",), "A", "."),
    ]
    assert found[0].metadata == {"path": "deep/b.png", "stem": "b"}


def test_keys_stay_when_the_lines_change_places(folder: Path) -> None:
    lines = [{"file_name": "a.png", "text": "A"}, {"file_name": "deep/b.png", "text": "B"}]
    keys = []
    for order in (lines, lines[::-1]):
        listed(folder / "metadata.jsonl", *order)
        keys.append({row.key for row in good(folder.parent, SOURCE)})
    assert keys[0] == keys[1] == {"metadata.jsonl:a.png", "metadata.jsonl:deep/b.png"}


def test_a_row_may_list_several_images_under_names_of_their_own(folder: Path) -> None:
    listed(
        folder / "deep" / "metadata.jsonl",
        {"file_names": ["b.png", "c.png"], "before_file_name": "../a.png", "views_file_names": ["b.png"], "text": "A"},
    )
    [row] = good(folder.parent, SOURCE.replace('"{image}"', '["{images}", "{before}", "{views}"]'))
    assert row.images == ("deep/b.png", "deep/c.png", "deep/../a.png", "deep/b.png")


def test_lines_without_an_image_and_broken_lines_are_drops(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "text": "A"}\n{broken\n{"text": "B"}\n{"file_name": null, "text": "C"}\n'
        '{"file_name": ["a"], "text": "D"}\n'
    )
    found = rows(folder.parent, SOURCE)
    assert [(row.key, row.reason) if isinstance(row, Drop) else row.images for row in found] == [
        ("a.png",),
        ("metadata.jsonl:2", "bad_row"),
        ("metadata.jsonl:3", "bad_row"),
        ("metadata.jsonl:4", "missing_image"),
        ("a",),
    ]


def test_a_pattern_beside_metadata_and_one_that_leads_outside_are_problems(folder: Path) -> None:
    listed(folder / "metadata.jsonl", {"file_name": "a.png", "text": "A"})
    patterns = ("*.png", "../*.png", "/etc/*", "", ".")
    told = problems(folder.parent, *(SOURCE + f'pattern = "{pattern}"\n' for pattern in patterns))
    assert list(told) == [f"source[{number}].pattern" for number in range(5)]
    assert "has no meaning beside metadata.jsonl" in told["source[0].pattern"]


def test_texts_and_metadata_that_lie_outside_are_not_read(folder: Path) -> None:
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "a.txt").symlink_to(folder.parent / "secret.txt")
    source = SOURCE.replace("{image}", "{path}").replace("{text}", "{stem}")
    found = {row.key: row.message for row in rows(folder.parent, source) if isinstance(row, Drop)}
    assert "outside the declared root" in found["a.png"]
    listed(folder.parent / "metadata.jsonl", {"file_name": "a.png", "text": "secret"})
    (folder / "deep" / "metadata.jsonl").symlink_to(folder.parent / "metadata.jsonl")
    [row] = rows(folder.parent, SOURCE)
    assert isinstance(row, Drop)
    assert "outside the declared root" in row.message


def test_texts_beside_images_come_without_byte_order_mark_and_last_line_break(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    (folder / "deep" / "b.txt").write_bytes(b" b \n\n")
    (folder / "deep" / "c.txt").write_bytes(b"c")
    found = good(folder.parent, SOURCE.replace("{image}", "{path}"))
    assert [row.references for row in found] == [("one\ntwo",), (" b \n",), ("c",)]


def test_linked_folders_are_entered_once_on_each_way_and_what_lies_outside_is_a_drop(folder: Path) -> None:
    (folder.parent / "elsewhere" / "deep").mkdir(parents=True)
    for name in ("e.png", "e.txt", "deep/f.png"):
        (folder.parent / "elsewhere" / name).write_bytes(b"x")
    (folder / "again").symlink_to(folder / "deep")
    (folder / "deep" / "up").symlink_to(folder)  # a circle
    (folder / "self").symlink_to("self")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "linked").symlink_to(folder.parent / "elsewhere")
    found = rows(folder.parent, SOURCE.replace("{image}", "{path}").replace("{text}", "{stem}"))
    assert [(row.key, row.reason if isinstance(row, Drop) else "") for row in found] == [
        ("a.png", ""),
        ("again/b.png", ""),
        ("again/c.png", ""),
        ("deep/b.png", ""),
        ("deep/c.png", ""),
        ("gone.png", ""),  # and a drop when it is to be read
        ("linked/deep/f.png", "outside_root"),
        ("linked/e.png", "outside_root"),
    ]
    assert files(folder) == []
    listed(folder / "deep" / "metadata.jsonl", {"file_name": "b.png", "text": "B"})
    assert [row.images for row in good(folder.parent, SOURCE)] == [("again/b.png",), ("deep/b.png",)]
    assert [name for name, _ in files(folder)] == ["again/metadata.jsonl", "deep/metadata.jsonl"]


def test_links_that_multiply_folders_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmrecipes.data.sources.files.MOST", 100)
    for name in "123456":
        (folder / name).mkdir()
        for other in "123456":
            (folder / name / other).symlink_to(folder / other)
    told = problems(folder.parent, SOURCE)
    assert "lead to more than 100 folders" in told["source[0].path"]


def test_file_names_of_no_unicode_are_drops_with_their_name_spelled_out(folder: Path) -> None:
    for name in (b"caf\xe9.png", b"caf\xe9.txt"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"x")
    for name in ("a", "deep/b", "deep/c"):
        (folder / f"{name}.txt").write_text(name)
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    source = SOURCE.replace("{image}", "{path}")
    [drop] = [row for row in rows(folder.parent, source) if isinstance(row, Drop)]
    assert (drop.key, drop.reason) == (r"caf\udce9.png", "bad_row")
    assert r"caf\udce9.png: not Unicode text" in drop.message
    (folder.parent / "set.toml").write_text(f'name = "set"\nmax_dropped = 0.5\n[[source]]\n{source}')
    result = ingest(folder.parent / "set.toml", store=str(folder.parent / "store"), workers=1)
    assert (result["rows"], result["drops"]) == ({"read": 4, "samples": 3, "dropped": 1}, {"bad_row": 1})
    moved = folder.parent.rename(os.fsdecode(os.fsencode(folder.parent) + b"\xe9"))
    assert "which is not Unicode text: rename it" in problems(moved, source)["source[0]"]


def test_a_folder_whose_images_no_sample_would_show_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "set.toml").write_text('name = "set"\n[[source]]\n' + SOURCE.replace('image = "{image}"\n', ""))
    with pytest.raises(InputError, match=r'\[0\] shows none of the images in its folder: add image = "\{path\}"'):
        read_declaration(tmp_path / "set.toml")
