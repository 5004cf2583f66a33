"""Statistics and differences of snapshots that were really ingested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from command import inside
from curated import declared, ingested, project
from hypothesis import given
from hypothesis import strategies as st

from vlmrecipes.data import scripts
from vlmrecipes.data.difference import difference
from vlmrecipes.data.export import FORMATS, export
from vlmrecipes.data.gallery import write_page
from vlmrecipes.data.scripts import script, script_counts
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.data.statistics import answers, describe, prompt_text, spread, statistics
from vlmrecipes.errors import InputError


@pytest.mark.parametrize(
    ("character", "expected"),
    [
        ("a", "Latin"),
        ("\u017f", "Latin"),
        ("\uff42", "Latin"),
        ("я", "Cyrillic"),
        ("Ω", "Greek"),
        ("漢", "Han"),
        ("か", "Hiragana"),
        ("ｶ", "Katakana"),
        ("한", "Hangul"),
        ("א", "Hebrew"),
        ("अ", "Devanagari"),
        ("7", "digits"),
        ("٣", "digits"),
        ("€", "other"),
        ("\u0301", "other"),
        ("\U0001d400", "other"),
        (" ", ""),
        ("\ud800", ""),
    ],
)
def test_the_script_of_a_character(character: str, expected: str) -> None:
    assert script(character) == expected


@given(st.lists(st.text(max_size=12), max_size=8), st.sampled_from((1, 9, 1 << 20)))
def test_scripts_are_counted_as_one_by_one(texts: list[str], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts, "_CHARACTERS_AT_ONCE", at_once)
        found = script_counts(texts, [2] * len(texts))
    names = {script(character) for text in texts for character in text} - {""}
    assert set(found) == names
    for name in names:
        per_text = [sum(script(character) == name for character in text) for text in texts]
        assert found[name] == {"characters": 2 * sum(per_text), "texts": 2 * sum(count > 0 for count in per_text)}


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50))
def test_a_spread_counts_every_value_once(values: list[int]) -> None:
    found = spread(np.array(values))
    edges, counts = found["histogram"]["edges"], found["histogram"]["counts"]
    assert sum(counts) == len(values) == found["count"]
    assert len(counts) <= 24
    assert len(edges) == len(counts) + 1
    assert edges[0] <= found["min"] <= found["p50"] <= found["max"] <= edges[-1]
    assert found["p50"] in values


def test_the_answer_is_the_commonest_reference() -> None:
    found = answers(pa.chunked_array([[["yes"], ["no", "yes", "no"], ["yes"], ["2"]]]))
    assert found["distinct"] == 3
    assert found["majority"] == 0.5
    assert found["top"][0] == {"answer": "yes", "count": 2, "share": 0.5}


def test_a_prompt_is_what_the_user_says() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Read."}]},
        {"role": "assistant", "content": [{"type": "text", "text": "x"}]},
        {"role": "user", "content": "Again."},
    ]
    assert prompt_text(messages) == "Read.\nAgain."


def test_texts_read_in_pieces_give_the_same_as_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingested(declared(tmp_path / "a", project(tmp_path / "a", 10)), tmp_path / "store")
    snapshot = open_snapshot(str(tmp_path / "store"), "pages")
    whole = statistics(snapshot)
    monkeypatch.setattr("vlmrecipes.data.statistics.PIECE", 3)
    assert statistics(snapshot) == whole
    assert describe(snapshot)["examples"] == [sample.content() for sample in snapshot.samples()[:5]]


def test_statistics_say_what_was_ingested(tmp_path: Path) -> None:
    rows = [*project(tmp_path / "a", 10), {"image": "gone.png", "q": "Read.", "text": "x"}]
    ingested(declared(tmp_path / "a", rows, "max_dropped = 0.5"), tmp_path / "store")
    found = statistics(open_snapshot(str(tmp_path / "store"), "pages"))
    assert found["images"]["count"] == 10
    assert found["images"]["formats"] == {"PNG": 10}
    assert found["images"]["sizes"] == {"90x24": 10}
    assert found["images"]["aspect"]["p50"] == 3.75
    assert found["images"]["a_sample"] == {"1": 20}
    assert found["prompt"]["distinct"] == 2
    assert found["prompt"]["characters"]["max"] == len("Number?")
    assert found["references"]["scripts"]["Latin"] == {"characters": 50, "texts": 10}
    assert found["references"]["scripts"]["digits"] == {"characters": 20, "texts": 20}
    assert found["drops"] == {"reasons": {"missing_image": 1}, "sources": {"jsonl-0": 1}}
    assert sum(side["samples"] for side in found["splits"].values()) == 20
    assert found["answers"]["distinct"] == 20


def test_statistics_of_an_empty_side_and_of_texts_alone(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"q": "Say", "text": "yes"}\n', "utf-8")
    file = tmp_path / "set.toml"
    source = 'type = "jsonl"\npath = "rows.jsonl"\nprompt = "{q}"\nanswer = "{text}"\nsplit = "train"\n'
    file.write_text(f'name = "words"\n[[source]]\n{source}', "utf-8")
    ingested(file, tmp_path / "store")
    found = describe(open_snapshot(str(tmp_path / "store"), "words"))["statistics"]
    assert found["images"]["count"] == 0
    assert found["images"]["width"] == {"count": 0}
    assert found["splits"]["eval"] == {"samples": 0, "groups": 0, "images": 0}
    json.dumps(found)


def test_a_difference_names_what_was_added_removed_and_changed(tmp_path: Path) -> None:
    rows, store = project(tmp_path / "a", 12), str(tmp_path / "store")
    ingested(declared(tmp_path / "a", rows[:-4]), tmp_path / "store")
    rows[0]["text"] = "mended"
    rows[2]["q"] = "Read it."
    ingested(declared(tmp_path / "a", [*rows[:4], *rows[6:]]), tmp_path / "store")
    before, after = open_snapshot(store, "pages@1"), open_snapshot(store, "pages@2")
    found = difference(before, after)
    assert (found["added"], found["removed"], found["changed"], found["unchanged"]) == (4, 2, 2, 16)
    assert found["changes"] == {"messages": 1, "references": 1}
    assert {"before": ["pages 0"], "after": ["mended"]} in [c.get("references") for c in found["examples"]["changed"]]
    assert (
        found["stats"]["splits.train.samples"]["change"]
        + found["stats"].get("splits.eval.samples", {"change": 0})["change"]
        == 2
    )
    back = difference(after, before)
    assert (back["added"], back["removed"], back["changed"]) == (2, 4, 2)
    nothing = difference(after, after)
    assert not any(nothing[kind] for kind in ("added", "removed", "changed", "stats", "changes"))


def test_images_prepared_otherwise_are_changed_samples(tmp_path: Path) -> None:
    rows, store = project(tmp_path / "a", 6), str(tmp_path / "store")
    ingested(declared(tmp_path / "a", rows), tmp_path / "store")
    ingested(declared(tmp_path / "a", rows, "prepare.max_side = 45"), tmp_path / "store")
    found = difference(open_snapshot(store, "pages@1"), open_snapshot(store, "pages@2"))
    assert (found["added"], found["removed"], found["changed"]) == (0, 0, 12)
    assert found["changes"]["images"] == 12
    assert found["stats"]["images.width.p50"] == {"before": 90, "after": 45, "change": -45}


def test_moves_between_sides_are_counted(tmp_path: Path) -> None:
    rows, store = project(tmp_path / "a", 8), str(tmp_path / "store")
    for side in ("train", "eval"):
        ingested(declared(tmp_path / "a", rows, source=f'split = "{side}"'), tmp_path / "store")
    found = difference(open_snapshot(store, "pages@1"), open_snapshot(store, "pages@2"))
    assert found["splits"] == {"train->eval": 16, "eval->train": 0}
    assert (found["added"], found["removed"], found["changed"], found["unchanged"]) == (0, 0, 0, 0)


def test_different_datasets_have_no_difference(tmp_path: Path) -> None:
    for name in ("one", "two"):
        ingested(declared(tmp_path / name, project(tmp_path / name, 2), name=name), tmp_path / "store")
    one, two = (open_snapshot(str(tmp_path / "store"), name) for name in ("one", "two"))
    with pytest.raises(InputError, match="one@1 and two@1 are different datasets"):
        difference(one, two)


def test_a_snapshot_without_samples_can_be_looked_at_like_any_other(tmp_path: Path) -> None:
    rows, store = [{"image": "gone.png", "q": "?", "text": "x"}], tmp_path / "store"
    (tmp_path / "a").mkdir()
    ingested(declared(tmp_path / "a", rows, "max_dropped = 1.0"), store)
    ingested(declared(tmp_path / "a", [*rows, *project(tmp_path / "a", 2)], "max_dropped = 1.0"), store)
    none, some = (open_snapshot(str(store), f"pages@{number}") for number in (1, 2))
    found = describe(none)["statistics"]
    assert found["answers"] == {"distinct": 0, "majority": 0.0, "top": []}
    assert (found["images"]["count"], found["drops"]["reasons"]) == (0, {"missing_image": 1})
    assert difference(none, some)["added"] == 4
    assert difference(some, none)["removed"] == 4
    assert write_page(none, tmp_path / "page.html")["bytes"] > 0
    assert export(none, tmp_path / "out", FORMATS)["files"] > 0
    for words in (("show", "pages@1"), ("diff", "pages@1", "pages@2"), ("verify", "pages@1")):
        assert inside("snapshots", *words, "--store", store).returncode == 0
