"""Sources: files and folders to rows, and rows to candidates."""

from __future__ import annotations

import json
import re
import tomllib
import typing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import declared, good, problems, rows

from vlmrecipes.data.declaration import Declaration
from vlmrecipes.data.sample import Drop
from vlmrecipes.data.source_tables import Source
from vlmrecipes.data.sources import open_sources
from vlmrecipes.data.sources.candidate import Candidate
from vlmrecipes.errors import InputError
from vlmrecipes.tables import parse

PLAIN = 'image = "{image}"\nprompt = "Read."\nanswer = "{text}"\n'


def jsonl(path: Path, *values: Any) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), "utf-8")


def reasons(found: list[Candidate | Drop]) -> list[tuple[str, str] | str]:
    return [(row.key, row.reason) if isinstance(row, Drop) else row.references[0] for row in found]


def test_broken_json_lines_are_drops_that_name_their_line(tmp_path: Path) -> None:
    lines = [
        b'{"image": "a.png", "text": "one"}',
        b"{broken",
        b"",
        b"[1, 2]",
        b'{"image": "a.png", "text": "caf\xe9"}',
        b"[" * 100_000,
        b'{"image": "a.png", "text": "\\ud800"}',
        b'{"image": "a.png"}',
        b'{"image": "", "text": "x"}',
        b'{"image": null, "text": "x"}',
        b'{"image": "a.png", "text": "  "}',
        b'{"image": "a.png", "text": null}',
        b'{"image": "a.png", "text": "\\ud83d\\ude00"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    assert reasons(rows(tmp_path, 'type = "jsonl"\npath = "a.jsonl"\n' + PLAIN)) == [
        "one",
        ("a.jsonl:2", "bad_row"),
        ("a.jsonl:4", "bad_row"),
        ("a.jsonl:5", "bad_row"),
        ("a.jsonl:6", "bad_row"),
        ("a.jsonl:7", "bad_row"),
        ("a.jsonl:8", "missing_column"),
        ("a.jsonl:9", "missing_image"),
        ("a.jsonl:10", "missing_image"),
        ("a.jsonl:11", "no_answer"),
        ("a.jsonl:12", "no_answer"),
        "😀",
    ]


def test_csv_records_of_the_wrong_length_and_of_no_utf8_are_drops(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbfimage,text\na.png,one\na.png\na.png,two,three\n"b.png","two\nlines"\n\na.png,caf\xe9\n'
    (tmp_path / "a.csv").write_bytes(content)
    assert reasons(rows(tmp_path, 'type = "csv"\npath = "a.csv"\n' + PLAIN)) == [
        "one",
        ("a.csv:3", "bad_row"),
        ("a.csv:4", "bad_row"),
        "two\nlines",
        ("a.csv:8", "bad_row"),
    ]


def test_a_csv_header_that_names_a_column_twice_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,text,text,,\na.png,one,two,,\n")
    told = problems(tmp_path, 'type = "csv"\npath = "a.csv"\n' + PLAIN)
    assert told == {"source[0].path": "cannot be read: a.csv: 2 columns are called 'text'; give each a name of its own"}
    (tmp_path / "a.csv").write_text("image,text,,\na.png,one,,\n")
    assert good(tmp_path, 'type = "csv"\npath = "a.csv"\n' + PLAIN)[0].references == ("one",)


def test_parquet_columns_may_hold_bytes_and_paths(tmp_path: Path) -> None:
    table = pa.table(
        {
            "image": [{"bytes": b"png", "path": "a.png"}, {"bytes": None, "path": "b.png"}, None],
            "text": ["one", "two", "three"],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    found = rows(tmp_path, 'type = "parquet"\npath = "a.parquet"\n' + PLAIN)
    assert reasons(found) == ["one", "two", ("a.parquet:2", "missing_image")]
    assert isinstance(found[0], Candidate)
    assert found[0].images == ({"bytes": b"png", "path": "a.png"},)


def test_a_folder_gives_its_images_with_the_text_beside_them(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    (pages / "deep").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "deep/c.png", "notes.md"):
        (pages / name).write_bytes(b"x")
    (pages / "b.txt").write_text("bee", "utf-8")
    (pages / "deep" / "c.txt").write_bytes(b"\xff")
    source = 'type = "folder"\npath = "pages"\nimage = "{path}"\nprompt = "Read {stem}."\nanswer = "{text}"\n'
    found = rows(tmp_path, source + 'group = "{parent}"\n')
    assert reasons(found) == [("a.JPG", "missing_column"), "bee", ("deep/c.png", "bad_row")]
    assert isinstance(found[1], Candidate)
    assert (found[1].images, found[1].group) == (("b.png",), ".")
    assert len(rows(tmp_path, source.replace("{text}", "{name}") + 'pattern = "*.png"\n')) == 1


def test_explode_makes_a_row_of_each_element_that_sees_the_page(tmp_path: Path) -> None:
    jsonl(
        tmp_path / "a.jsonl",
        {"image": "a.png", "page": 1, "lines": [{"text": "x", "box": [0, 0, 1, 2]}, {"text": "y", "box": [0, 0, 1]}]},
        {"image": "b.png", "page": 2, "lines": []},
        {"image": "c.png", "page": 3, "lines": "none"},
        {"image": "d.png", "page": 4, "lines": [{"text": "z", "box": [0, 0, "NaN", 1], "page": 9}]},
        {"image": "e.png", "page": 5, "lines": [{"text": "w", "box": "0,0,1,1"}, {"text": "v", "box": [1, 1, 2, 2.5]}]},
    )
    source = 'type = "jsonl"\npath = "a.jsonl"\nexplode = "lines"\ncrop = "{box}"\nmetadata = ["page"]\n'
    found = rows(tmp_path, source + PLAIN)
    assert reasons(found) == [
        "x",
        ("a.jsonl:1/1", "bad_crop"),
        ("a.jsonl:3", "bad_row"),
        ("a.jsonl:4/0", "bad_crop"),
        ("a.jsonl:5/0", "bad_crop"),
        "v",
    ]
    assert isinstance(found[0], Candidate)
    assert (found[0].crop, found[0].metadata, found[0].key) == ((0, 0, 1, 2), {"page": 1}, "a.jsonl:1/0")


def test_explode_of_plain_values_puts_each_in_the_column(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", {"image": "a.png", "text": ["x", "y"]})
    assert [
        row.references for row in good(tmp_path, 'type = "jsonl"\npath = "a.jsonl"\nexplode = "text"\n' + PLAIN)
    ] == [
        ("x",),
        ("y",),
    ]


def test_a_row_may_have_several_images_and_several_answers(tmp_path: Path) -> None:
    jsonl(
        tmp_path / "a.jsonl", {"a": "1.png", "b": ["2.png", "3.png"], "q": "Same?", "answers": ["yes", None, "no", 1]}
    )
    source = 'type = "jsonl"\npath = "a.jsonl"\nimage = ["{a}", "{b}"]\nprompt = "{q}"\nanswer = "{answers}"\n'
    [row] = good(tmp_path, source)
    assert row.images == ("1.png", "2.png", "3.png")
    assert row.references == ("yes", "no", "1")
    assert row.messages == ({"role": "user", "content": [{"type": "image"}] * 3 + [{"type": "text", "text": "Same?"}]},)


def test_rows_without_an_image_are_text_only(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", {"q": "2 + 2 = ?", "a": 4})
    [row] = good(tmp_path, 'type = "jsonl"\npath = "a.jsonl"\nprompt = "{q}"\nanswer = "{a}"\n')
    assert (row.images, row.references) == ((), ("4",))
    assert row.messages == ({"role": "user", "content": [{"type": "text", "text": "2 + 2 = ?"}]},)


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
    {"role": "assistant", "content": "A cat."},
    {"role": "user", "content": "And this?"},
    {"role": "assistant", "content": [{"type": "text", "text": "A "}, {"type": "text", "text": "dog."}]},
]


@pytest.mark.parametrize("name", ["chat", "{chat}"])
def test_a_chat_of_many_turns_ends_with_its_reference(tmp_path: Path, name: str) -> None:
    jsonl(tmp_path / "a.jsonl", {"image": "a.png", "chat": CHAT})
    [row] = good(tmp_path, f'type = "jsonl"\npath = "a.jsonl"\nimage = "{{image}}"\nmessages = "{name}"\n')
    assert row.references == ("A dog.",)
    assert [message["role"] for message in row.messages] == ["system", "user", "assistant", "user"]
    assert row.messages[1]["content"] == CHAT[1]["content"]
    assert row.messages[3]["content"] == [{"type": "text", "text": "And this?"}]


def test_images_that_a_chat_does_not_mark_open_its_first_user_turn(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    jsonl(tmp_path / "a.jsonl", {"images": ["a.png", "b.png"], "chat": chat})
    [row] = good(tmp_path, 'type = "jsonl"\npath = "a.jsonl"\nimage = "{images}"\nmessages = "chat"\n')
    assert row.messages[1]["content"] == [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "q"}]


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        ("text", "bad_messages"),
        ([], "bad_messages"),
        (["text"], "bad_messages"),
        ([{"role": "tool", "content": "x"}, CHAT[2]], "bad_messages"),
        ([{"role": "user"}, CHAT[2]], "bad_messages"),
        ([{"role": "user", "content": [{"type": "video"}]}, CHAT[2]], "bad_messages"),
        ([{"role": "user", "content": [{"type": "image"}] * 2}, CHAT[2]], "bad_messages"),
        ([{"role": "system", "content": "x"}, CHAT[2]], "bad_messages"),
        ([CHAT[1]], "no_answer"),
        ([CHAT[2]], "no_answer"),
        ([CHAT[1], {"role": "assistant", "content": " "}], "no_answer"),
    ],
)
def test_chats_that_cannot_be_learned_are_drops(tmp_path: Path, chat: Any, reason: str) -> None:
    jsonl(tmp_path / "a.jsonl", {"image": "a.png", "chat": chat})
    found = rows(tmp_path, 'type = "jsonl"\npath = "a.jsonl"\nimage = "{image}"\nmessages = "chat"\n')
    assert reasons(found) == [("a.jsonl:1", reason)]


def test_a_limit_counts_rows_after_explode(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", *({"image": "a.png", "text": ["x", "y"]} for _ in range(3)))
    assert len(good(tmp_path, 'type = "jsonl"\npath = "a.jsonl"\nexplode = "text"\nlimit = 3\n' + PLAIN)) == 3


def test_sides_may_be_declared_by_the_source_or_by_each_row(tmp_path: Path) -> None:
    jsonl(
        tmp_path / "a.jsonl", *({"image": "a.png", "text": "x", "side": side} for side in ("train", "eval", "", "dev"))
    )
    source = 'type = "jsonl"\npath = "a.jsonl"\n' + PLAIN
    found = rows(tmp_path, source + 'split = "{side}"\n')
    assert [row.reason if isinstance(row, Drop) else row.split for row in found] == ["train", "eval", None, "bad_row"]
    assert {row.split for row in good(tmp_path, source + 'split = "eval"\n')} == {"eval"}


def test_metadata_is_kept_as_scalars_that_json_can_hold(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"image": "a.png", "text": "x", "n": NaN, "list": [1], "yes": true}\n{"image": "a", "text": "y"}'
    )
    source = 'type = "jsonl"\npath = "a.jsonl"\nmetadata = ["n", "list", "yes"]\n' + PLAIN
    assert [row.metadata for row in good(tmp_path, source)] == [
        {"n": "nan", "list": "[1]", "yes": True},
        {"n": None, "list": None, "yes": None},
    ]


def test_absent_columns_are_told_with_their_place_and_what_there_is(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", {"image": "a.png", "text": "x"})
    told = problems(
        tmp_path,
        'type = "jsonl"\npath = "a.jsonl"\nimage = "{picture}"\nprompt = "Read {what}."\nanswer = "{text}"\n'
        'crop = "{box}"\ngroup = "{page}"\nmetadata = ["shop"]\n',
    )
    assert set(told) == {f"source[0].{key}" for key in ("image", "prompt", "crop", "group", "metadata")}
    assert told["source[0].image"] == "column 'picture' is not in the rows (there are: image, text)"


def test_a_column_of_any_name_fills_a_text(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", {"Scan": "a.png", "Full Text": "words", "2024": "yes", "a.b": "dotted"})
    source = 'type = "jsonl"\npath = "a.jsonl"\nimage = "{Scan}"\nanswer = "{Full Text}"\n'
    [row] = good(tmp_path, source + """prompt = '{ 2024 } {{"a": {a.b}}}'""")
    assert row.messages[0]["content"][-1]["text"] == 'yes {"a": dotted}'
    assert row.references == ("words",)


def test_braces_that_are_no_column_are_told_with_the_way_to_write_them(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", {"image": "a.png", "text": "x"})
    source = 'type = "jsonl"\npath = "a.jsonl"\nimage = "{image}"\nanswer = "{text}"\n'
    told = problems(tmp_path, source + """prompt = 'Answer as {"a": 1}.'""")
    assert told["source[0].prompt"].startswith("""column '"a": 1' is not in the rows""")
    assert told["source[0].prompt"].endswith("write {{ and }} for braces of the text itself")
    for prompt in ('{"a": {"b": 1}}', "Sets {", "Read {}."):
        with pytest.raises(
            InputError, match=r"prompt: a brace that holds no column .*: write \{\{ and \}\} for braces"
        ):
            declared(tmp_path, source + f"prompt = '{prompt}'")


def test_what_is_null_is_empty_and_what_is_no_text_a_drop(tmp_path: Path) -> None:
    empty = {"q": None, "a": "yes", "g": None, "k": None}
    jsonl(
        tmp_path / "a.jsonl",
        {"q": "Same?", "a": ["yes", None, float("nan")], "g": "page", "k": "own"},
        empty,
        empty | {"g": float("nan")},
        empty | {"a": float("nan")},
        empty | {"a": [{"answer": "yes", "id": 1}]},
        empty | {"q": ["Same?"]},
        empty | {"g": {"page": 1}},
    )
    source = 'type = "jsonl"\npath = "a.jsonl"\nkey = "{k}"\nprompt = "{q}"\nanswer = "{a}"\ngroup = "{g}"\n'
    found = rows(tmp_path, source)
    texts = [
        (r.key, r.messages[0]["content"][0]["text"], r.references, r.group) for r in found if isinstance(r, Candidate)
    ]
    assert texts == [
        ("own", "Same?", ("yes",), "page"),
        ("a.jsonl:2", "", ("yes",), ""),
        ("a.jsonl:3", "", ("yes",), ""),
    ]
    drops = {row.key: (row.reason, row.message) for row in found if isinstance(row, Drop)}
    assert drops["a.jsonl:4"][0] == "no_answer"
    assert drops["a.jsonl:5"] == (
        "bad_row",
        "column 'a' holds named values, not a text: say what inside it is meant, such as {a.answer}, or `explode` it",
    )
    assert "{q.0}" in drops["a.jsonl:6"][1]
    assert "{g.page}" in drops["a.jsonl:7"][1]


def test_the_problems_of_all_sources_are_told_at_once(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", {"image": "a.png", "text": "x"})
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "header.csv").write_text("image,text\n")
    (tmp_path / "no.parquet").write_text("no parquet")
    (tmp_path / "folder").mkdir()
    told = problems(
        tmp_path,
        'type = "jsonl"\npath = "none.jsonl"\n' + PLAIN,
        'type = "jsonl"\npath = "a.jsonl"\n' + PLAIN,
        'type = "jsonl"\npath = "empty.jsonl"\n' + PLAIN,
        'type = "csv"\npath = "header.csv"\n' + PLAIN,
        'type = "parquet"\npath = "no.parquet"\n' + PLAIN,
        'type = "jsonl"\npath = "folder"\n' + PLAIN,
        'type = "folder"\npath = "folder"\n' + PLAIN,
        'type = "folder"\npath = "a.jsonl"\n' + PLAIN,
        'type = "jsonl"\npath = "a.jsonl"\nroot = "nowhere"\n' + PLAIN,
        'type = "jsonl"\npath = "${VLMRECIPES_NOT_SET}/a.jsonl"\n' + PLAIN,
        'type = "jsonl"\npath = "a.jsonl"\nexplode = "lines"\n' + PLAIN,
        'type = "folder"\npath = "folder"\npattern = "/*.png"\n' + PLAIN,
    )
    assert list(told) == [
        "source[0].path",
        "source[2]",
        "source[3]",
        "source[4].path",
        "source[5].path",
        "source[6]",
        "source[7].path",
        "source[8].root",
        "source[9].path",
        "source[10].explode",
        "source[11].pattern",
    ]
    assert "not a Parquet file" in told["source[4].path"]
    assert "holds no rows" in told["source[2]"]


def test_paths_may_name_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_DATA", str(tmp_path / "deep"))
    (tmp_path / "deep").mkdir()
    jsonl(tmp_path / "deep" / "a.jsonl", {"image": "a.png", "text": "x"})
    declaration, file = declared(tmp_path, 'type = "jsonl"\npath = "${SOME_DATA}/a.jsonl"\n' + PLAIN)
    [opened] = open_sources(declaration, file)
    assert opened.root == tmp_path / "deep"


def test_a_file_that_breaks_off_is_told_and_no_row_goes_missing(tmp_path: Path) -> None:
    table = pa.table({"image": [f"{n}.png" for n in range(4000)], "text": [str(n) * 40 for n in range(4000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=500, compression="snappy", use_dictionary=False)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(InputError, match=r"source\[0\]\.path: cannot be read"):
        rows(tmp_path, 'type = "parquet"\npath = "a.parquet"\n' + PLAIN)


README = Path(__file__).parents[2] / "README.md"


def test_the_readme_has_an_example_of_every_type_that_passes_check() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    [example] = [block for block in blocks if 'type = "webdataset"' in block]
    declaration = parse(Declaration, {"name": "set", **tomllib.loads(example)}, "README.md")
    union = typing.get_args(typing.get_args(Source)[0])
    types = {typing.get_args(table.model_fields["type"].annotation)[0] for table in union}
    said = {source.type for source in declaration.source}
    assert types - said == {"csv", "parquet", "page"}  # of the same form as another, which the example says


def test_the_schema_has_every_type() -> None:
    schema = Declaration.model_json_schema()
    mapping = schema["properties"]["source"]["items"]["discriminator"]["mapping"]
    assert set(mapping) == set("jsonl csv parquet folder hub webdataset alto page synthetic".split())  # noqa: SIM905
    for reference in mapping.values():
        table = schema["$defs"][reference.rpartition("/")[2]]
        assert all(field.get("description") for name, field in table["properties"].items() if name != "type")


SIDED = 'name = "{name}"\ntype = "{kind}"\npath = "x"\nprompt = "?"\nanswer = "x"\nsplit = "{side}"\n'


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("a", "jsonl", ""), ("a", "jsonl", "")),
        (("a", "jsonl", "train"), ("a", "csv", "eval")),
        (("a", "jsonl", "train"), ("a", "jsonl", "train")),
        (("jsonl-1", "jsonl", ""), ("", "jsonl", "")),
    ],
)
def test_two_sources_of_one_name_are_a_problem(tmp_path: Path, first: Any, second: Any) -> None:
    keys = ("name", "kind", "side")
    sources = [SIDED.format(**dict(zip(keys, one, strict=True))) for one in (first, second)]
    with pytest.raises(InputError, match=rf"source: \[1\] has the name of \[0\], '{first[0]}': give each its own"):
        declared(tmp_path, *sources)


def test_the_two_sides_of_a_source_may_share_its_name(tmp_path: Path) -> None:
    declaration, _ = declared(
        tmp_path, *(SIDED.format(name="a", kind="jsonl", side=side) for side in ("train", "eval"))
    )
    assert [source.name for source in declaration.source] == ["a", "a"]
