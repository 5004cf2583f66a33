"""Tar shards as rows."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from reading import good, problems, rows

from vlmrecipes.data.sample import Drop
from vlmrecipes.data.sources import webdataset
from vlmrecipes.data.sources.candidate import Candidate
from vlmrecipes.data.sources.files import Files
from vlmrecipes.errors import InputError
from vlmrecipes.ingestion import ingest

SOURCE = 'type = "webdataset"\npath = "{path}"\nimage = "{{jpg}}"\nprompt = "Read."\nanswer = "{{txt}}"\n'
Members = Sequence[tuple[str, bytes]]


def tar(path: Path, members: Members) -> None:
    with tarfile.open(path, "w") as shard:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))


def read(path: Path) -> list[webdataset.RawRow]:
    return list(webdataset.rows(Files(path.parent, (path,))))


def test_members_of_one_name_are_a_row_in_any_order(tmp_path: Path) -> None:
    tar(
        tmp_path / "a.tar",
        [("x/1.txt", b"one"), ("x/1.jpg", b"j1"), ("x/2.JPG", b"j2"), ("x/2.txt", "zwö".encode()), ("README", b"none")],
    )
    tar(tmp_path / "b.tar", [("x/1.jpg", b"j3"), ("x/1.txt", b"three")])
    found = good(tmp_path, SOURCE.format(path="{a,b}.tar"))
    assert [(row.key, row.images[0], row.references[0]) for row in found] == [
        ("a.tar:x/1", b"j1", "one"),
        ("a.tar:x/2", b"j2", "zwö"),
        ("b.tar:x/1", b"j3", "three"),
    ]


def test_json_numbers_and_several_images_are_columns(tmp_path: Path) -> None:
    about = json.dumps({"q": "Same?", "answers": ["no", "nein"], "page": 7}).encode()
    members = [("1.left.png", b"l"), ("1.json", about), ("1.right.png", b"r"), ("1.cls", b"3\n")]
    tar(tmp_path / "a.tar", members)
    source = 'type = "webdataset"\npath = "a.tar"\nimage = ["{left.png}", "{right.png}"]\nprompt = "{json.q}"\n'
    [row] = good(tmp_path, source + 'answer = "{json.answers}"\ngroup = "{json.page}"\nmetadata = ["cls", "__key__"]\n')
    assert (row.images, row.references, row.group) == ((b"l", b"r"), ("no", "nein"), "7")
    assert row.metadata == {"cls": 3, "__key__": "1"}


def test_texts_come_without_byte_order_mark_and_last_line_break(tmp_path: Path) -> None:
    tar(
        tmp_path / "a.tar",
        [("1.jpg", b"j"), ("1.txt", b"\xef\xbb\xbfone\r\ntwo\r\n"), ("2.jpg", b"j"), ("2.txt", b"x\n\n")],
    )
    assert [row.references for row in good(tmp_path, SOURCE.format(path="a.tar"))] == [("one\ntwo",), ("x\n",)]


def test_member_names_of_no_unicode_are_drops_where_they_are_used(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", [("caf\udce9.jpg", b"j"), ("caf\udce9.txt", b"x")])
    [row] = good(tmp_path, SOURCE.format(path="a.tar"))
    assert row.key == r"a.tar:caf\udce9"
    [drop] = rows(tmp_path, SOURCE.format(path="a.tar") + 'group = "{__key__}"\n')
    assert isinstance(drop, Drop)
    assert (drop.reason, drop.message.encode()[:9]) == ("bad_row", b"caf\\udce9")


def test_gzipped_shards_and_globs_are_read(tmp_path: Path) -> None:
    tar(tmp_path / "plain.tar", [("1.jpg", b"j"), ("1.txt", b"one")])
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress((tmp_path / "plain.tar").read_bytes()))
    assert [row.references for row in good(tmp_path, SOURCE.format(path="*.gz"))] == [("one",)]


def test_bad_rows_are_drops_and_the_next_row_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "MAX_ROW_BYTES", 1000)
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for name, kind, target in (
            ("1.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("2.jpg", tarfile.LNKTYPE, "3.jpg"),
            ("3.jpg", tarfile.FIFOTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            shard.addfile(info)
        for name, data in [
            ("4.jpg", b"j"),
            ("4.jpg", b"j"),
            ("5.jpg", bytes(1001)),
            ("6.json", b"{"),
            ("7.txt", b"\xff"),
            ("8.json", b'"\\ud800"'),
            ("9.cls", b"x"),
            ("a.png", b"x"),
            ("a.png.json", b"1"),
            ("b.jpg", b"j"),
            ("b.txt", b"x"),
        ]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
        shard.addfile(tarfile.TarInfo("../../c.jpg"))
    found = rows(tmp_path, SOURCE.format(path="a.tar"))
    assert [(row.key, row.reason) for row in found if isinstance(row, Drop)] == [
        *((f"a.tar:{n}", "bad_row") for n in "123456789a"),
        ("a.tar:../../c", "missing_column"),
    ]
    assert [row.key for row in found if isinstance(row, Candidate)] == ["a.tar:b"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "set.toml"}


def test_shards_that_are_none_or_break_off_are_told(tmp_path: Path) -> None:
    tar(tmp_path / "whole.tar", [(f"{n:03}.{kind}", bytes(2000)) for n in range(60) for kind in ("jpg", "txt")])
    whole = (tmp_path / "whole.tar").read_bytes()
    damaged = bytearray(whole)
    damaged[2560 * 100 : 2560 * 100 + 300] = b"\x07" * 300  # the header of a member behind those looked at first
    for name, data in (
        ("text.tar", b"no tar at all" * 100),
        ("empty.tar", b""),
        ("cut.tar", whole[: 2560 * 110 + 700]),
        ("damaged.tar", bytes(damaged)),
        ("cut.tar.gz", gzip.compress(whole, 0)[:-30000]),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=rf"source\[0\]\.path: cannot be read: {name}: not a tar file, or damaged"):
            rows(tmp_path, SOURCE.format(path=name))
    assert set(problems(tmp_path, SOURCE.format(path="{0..3}.tar"))) == {"source[0].path"}
    assert set(problems(tmp_path, SOURCE.format(path="whole.tar").replace("{jpg}", "{png}"))) == {"source[0].image"}


@given(order=st.permutations(["1.jpg", "1.txt", "1.cls", "1.a.b"]))
def test_the_order_inside_a_row_does_not_matter(tmp_path_factory: pytest.TempPathFactory, order: list[str]) -> None:
    path = tmp_path_factory.mktemp("shard") / "a.tar"
    tar(path, [(name, b"1") for name in order])
    [row] = read(path)
    assert row.columns == {"__key__": "1", "jpg": b"1", "txt": "1", "cls": 1, "a": {"b": b"1"}}


@given(data=st.binary(max_size=3000), cut=st.integers(0, 10240))
def test_any_bytes_are_rows_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int) -> None:
    path = tmp_path_factory.mktemp("shard") / "a.tar"
    tar(path, [("1.jpg", b"j" * 600), ("1.txt", b"x"), ("2.jpg", b"")])
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] + data + whole[cut + len(data) :])
    try:
        found = read(path)
    except ValueError as error:
        assert str(error).startswith("a.tar: ")  # noqa: PT017
    else:
        assert all(row.key.startswith("a.tar:") for row in found)


def test_shards_are_ingested(tmp_path: Path) -> None:
    members = []
    for number in range(5):
        buffer = io.BytesIO()
        Image.effect_noise((30 + number, 20), 50).save(buffer, "JPEG")
        members += [(f"{number}.jpg", buffer.getvalue()), (f"{number}.txt", f"line {number}".encode())]
    tar(tmp_path / "a.tar", members[:6])
    tar(tmp_path / "b.tar", members[6:])
    (tmp_path / "set.toml").write_text(f'name = "set"\n[[source]]\n{SOURCE.format(path="*.tar")}')
    first = ingest(tmp_path / "set.toml", store=str(tmp_path / "store"), workers=1)
    assert first["rows"] == {"read": 5, "samples": 5, "dropped": 0}
    tar(tmp_path / "a.tar", members[4:])
    tar(tmp_path / "b.tar", members[:4])
    moved = ingest(tmp_path / "set.toml", store=str(tmp_path / "store"), workers=1)
    assert (moved["snapshot"], moved["fingerprint"]) == ("set@2", first["fingerprint"])
