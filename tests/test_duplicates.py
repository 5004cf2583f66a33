"""Near duplicates, contaminated rows and splits, from files to a snapshot."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter

from vlmrecipes.data.snapshot import Snapshot, open_snapshot
from vlmrecipes.errors import InputError
from vlmrecipes.ingestion import ingest

REAL = Path(os.environ.get("VLMRECIPES_DATA", "/nonexistent"))
needs_real = pytest.mark.skipif(not (REAL / "neardup_groups").is_dir(), reason="VLMRECIPES_DATA is not set")
Row = dict[str, Any]


def painted(seed: int, side: int = 160) -> Image.Image:
    """Return a picture of smooth random colours, different for every seed."""
    small = Image.frombytes("RGB", (8, 8), random.Random(seed).randbytes(192))
    return small.resize((side, side), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))


def brought(  # noqa: PLR0913 - what a declaration says
    folder: Path, rows: list[Row], rules: str, *, source: str = "", name: str = "set", store: str = "store"
) -> tuple[dict[str, Any], Snapshot]:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    file = folder / f"{name}.toml"
    file.write_text(
        f'name = "{name}"\nmax_dropped = 0.9\n[[source]]\ntype = "jsonl"\npath = "{name}.jsonl"\nimage = "{{image}}"\n'
        f'prompt = "{{q}}"\nanswer = "{{text}}"\n{source}\n{rules}\n',
        "utf-8",
    )
    result = ingest(file, store=str(folder / store), workers=1)
    return result, open_snapshot(str(folder / store), name)


def copies(folder: Path, count: int) -> list[Row]:
    """Write `count` pictures, each with a smaller and a recompressed copy."""
    folder.mkdir(exist_ok=True)
    rows = []
    for seed in range(count):
        picture = painted(seed)
        picture.save(folder / f"{seed}.png")
        picture.resize((90, 90)).save(folder / f"{seed}-small.png")
        picture.save(folder / f"{seed}-again.jpg", quality=40)
        rows += [
            {"image": f"{seed}{end}", "q": "?", "text": "x", "n": seed} for end in (".png", "-small.png", "-again.jpg")
        ]
    return rows


def test_smaller_and_recompressed_copies_are_dropped_and_name_the_larger(tmp_path: Path) -> None:
    result, snapshot = brought(tmp_path, copies(tmp_path, 12), "[dedup]\nnear = 4")
    assert result["duplicates"]["near"] == 24
    samples = {sample.id: sample for sample in snapshot.samples()}
    assert len(samples) == 12
    sizes = snapshot.sizes()
    for drop in snapshot.drops():
        assert drop["reason"] == "near_duplicate"
        assert 0 <= drop["distance"] <= 4
        assert sizes[drop["images"][0]] <= sizes[samples[drop["twin"]].images[0]] == (160, 160)
    assert all(sample.duplicates for sample in samples.values())


def test_near_copies_with_other_texts_stay_together_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows = [row | {"text": f"answer {place}"} for place, row in enumerate(copies(tmp_path, 30))]
    found = []
    for turn, order in enumerate((rows, rows[::-1])):
        result, snapshot = brought(tmp_path, order, "[dedup]\nnear = 4\n[split]\neval = 0.3", store=f"store-{turn}")
        assert result["rows"]["dropped"] == 0
        assert result["leaks"] == {"images": 0, "duplicate_groups": 0, "groups": 0}
        sides: dict[str, set[str]] = {}
        for sample in snapshot.samples():
            sides.setdefault(sample.duplicates, set()).add(sample.split)
        assert len(sides) == 30
        assert all(len(both) == 1 for both in sides.values())
        found.append((result["fingerprint"], [sample.duplicates for sample in snapshot.samples()]))
    assert found[0] == found[1]


def test_rows_that_come_later_move_nobody_from_eval_to_train(tmp_path: Path) -> None:
    rows = [row | {"text": f"answer {place}"} for place, row in enumerate(copies(tmp_path, 40))]
    rules = "[dedup]\nnear = 4\n[split]\neval = 0.3"
    _, before = brought(tmp_path, [row for row in rows if "-" in row["image"]], rules)
    result, after = brought(tmp_path, rows, rules)
    assert result["moves"]["to_train"] == 0
    assert {sample.id for sample in before.samples("eval")} <= {sample.id for sample in after.samples("eval")}


def test_a_group_that_joins_two_moves_the_training_one_to_eval_and_the_summary_says_so(tmp_path: Path) -> None:
    rows = [row | {"text": f"answer {place}"} for place, row in enumerate(copies(tmp_path, 40)) if place % 3 == 0]
    rules = "[split]\neval = 0.3"
    _, before = brought(tmp_path, rows, rules)
    by = {sample.references[0]: sample for sample in before.samples()}
    held = next(row for row in rows if by[row["text"]].split == "eval")
    train = next(row for row in rows if by[row["text"]].split == "train")
    bridge = {"image": [held["image"], train["image"]], "q": "Both?", "text": "yes"}
    result, after = brought(tmp_path, [*rows, bridge], rules)
    assert result["moves"] == {"to_eval": 1, "to_train": 0}
    assert {s.split for s in after.samples() if s.references[0] in {held["text"], train["text"], "yes"}} == {"eval"}


def test_training_rows_near_anothers_eval_side_are_dropped_and_name_its_sample(tmp_path: Path) -> None:
    rows = copies(tmp_path, 10)
    originals, smaller = rows[0::3], rows[1::3]
    _, bench = brought(tmp_path, originals[:4], "[split]\neval = 1.0", name="bench")
    result, snapshot = brought(
        tmp_path, smaller, '[dedup]\nnear = 4\ndecontaminate = ["bench@1"]\n[split]\neval = 0.0', name="mine"
    )
    assert result["drops"] == {"contaminated": 4}
    wanted = {f"bench@1 {sample.id}" for sample in bench.samples()}
    assert {drop["twin"] for drop in snapshot.drops()} == wanted


def test_an_unknown_benchmark_is_told_with_its_place_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dedup.decontaminate\[1\]: no snapshot 'gone@2'") as error:
        brought(tmp_path, [{"image": "a.png", "q": "?", "text": "x"}], '[dedup]\ndecontaminate = ["none", "gone@2"]')
    assert len(error.value.problems) == 2


def test_contradictions_are_told_and_kept(tmp_path: Path) -> None:
    rows = copies(tmp_path, 2)[::3]
    result, _ = brought(tmp_path, [*rows, rows[0] | {"text": "y"}], "")
    assert result["rows"]["samples"] == 3
    told = [{"rows": ["jsonl-0 set.jsonl:1", "jsonl-0 set.jsonl:3"], "answers": ["x", "y"]}]
    assert result["contradictions"] == {"count": 1, "examples": told}


def test_strata_get_their_share_and_growth_keeps_who_was_in_eval(tmp_path: Path) -> None:
    rows = [
        row | {"text": f"{row['n']}", "kind": "rare" if row["n"] % 5 == 0 else "common"} for row in copies(tmp_path, 40)
    ]
    rows, rules = rows[::3], '[split]\neval = 0.25\nstratify = "{kind}"'
    _, before = brought(tmp_path, rows[:30], rules, source='metadata = ["kind"]')
    result, after = brought(tmp_path, rows, rules, source='metadata = ["kind"]')
    assert [s.metadata["kind"] for s in after.samples("eval")].count("rare") == 2
    assert result["splits"] == {"train": 30, "eval": 10}
    assert result["moves"]["to_train"] == 0
    assert {s.id for s in before.samples("eval")} <= {s.id for s in after.samples("eval")}


def real(tmp_path: Path, name: str, texts: str, near: int) -> tuple[dict[str, Any], Snapshot]:
    file = tmp_path / f"{name}.toml"
    file.write_text(
        f'name = "{name}"\nmax_dropped = 0.1\n[[source]]\ntype = "jsonl"\npath = "{REAL / name}/manifest.jsonl"\n'
        f'image = "{{image}}"\n{texts}\n[dedup]\nnear = {near}\n',
        "utf-8",
    )
    return ingest(file, store=str(tmp_path / "store"), workers=1), open_snapshot(str(tmp_path / "store"), name)


@needs_real
def test_all_size_and_recompression_groups_are_found_and_nothing_else(tmp_path: Path) -> None:
    texts = 'prompt = "?"\nanswer = "{image}"\nmetadata = ["group", "kind", "image"]'
    result, snapshot = real(tmp_path, "neardup_groups", texts, 4)
    assert result["drops"] == {"undecodable": 2}
    turned = ("rotat", "flip", "exif")
    upright = [s for s in snapshot.samples() if not any(word in s.metadata["image"] for word in turned)]
    groups: dict[str, set[str]] = {}
    for sample in upright:
        groups.setdefault(sample.metadata["group"], set()).add(sample.duplicates or sample.id)
    assert {group: len(names) for group, names in groups.items()} == dict.fromkeys(groups, 1)
    names = {sample.duplicates: sample.metadata["group"] for sample in snapshot.samples() if sample.duplicates}
    assert all(names[s.duplicates] == s.metadata["group"] for s in snapshot.samples() if s.duplicates)


@needs_real
def test_receipts_of_one_shop_are_found_and_no_receipt_is_lost(tmp_path: Path) -> None:
    texts = 'prompt = "?"\nanswer = "{fields.company}, {fields.date}, {fields.address}, {fields.total}"'
    result, snapshot = real(tmp_path, "sroie_receipts", texts, 10)
    # Looked at one by one: two receipts scanned twice, eleven of one shop and four pairs of others.
    assert 21 <= result["duplicates"]["near_images"] <= 25
    assert result["duplicates"]["exact"] + result["duplicates"]["near"] <= 2
    assert result["rows"]["samples"] >= 107
    assert snapshot.manifest["leaks"] == {"images": 0, "duplicate_groups": 0, "groups": 0}


@needs_real
def test_statements_about_pictures_that_look_alike_are_not_merged_and_eval_keeps_its_share(tmp_path: Path) -> None:
    texts = 'prompt = "{question}"\nanswer = "{answer}"\ngroup = "{identifier}"\nlimit = 900'
    result, snapshot = real(tmp_path, "nlvr", texts, 4)
    kept = {sample.id: sample for sample in snapshot.samples()}
    rows = {f"manifest.jsonl:{n}": json.loads(line) for n, line in enumerate((REAL / "nlvr/manifest.jsonl").open(), 1)}
    for drop in snapshot.drops():
        twin, row = kept[drop["twin"]], rows[drop["key"]]
        assert (twin.references, row["statement"] in str(twin.messages)) == ((row["answer"],), True)
    assert result["brought_to_eval"] <= 12, "scenes that look alike do not join"
    assert result["largest_group"] <= 24
