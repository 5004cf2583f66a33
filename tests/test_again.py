"""The same recipe on other data: what the comparison says against counts made by hand."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command import inside, one_object
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import vlmrecipes
from vlmrecipes.again.grid import combinations
from vlmrecipes.again.plans import plan_again
from vlmrecipes.again.ranges import Range, assignments, ends, space
from vlmrecipes.compare.work import compare_runs
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.errors import InputError, MissingExtraError
from vlmrecipes.lineage.trace import lineage_of
from vlmrecipes.records import predictions, record

if TYPE_CHECKING:
    from scored import Scored

ADDED = 20


@dataclass
class Grown:
    """A project whose rows have changed since it was scored, and the run that was done again on them."""

    store: str
    whole: str
    cut: str
    withdrawn: set[str]
    """Pictures of eval samples that are gone."""
    corrected: dict[str, str]
    """The new text of eval samples, by picture."""
    rerun: dict[str, Any]

    def folder(self, run: str) -> Path:
        return Path(self.store) / "runs" / run

    def said(self, run: str) -> dict[str, tuple[str, str]]:
        """Return (prediction, reference) by image key."""
        rows = predictions.read(self.folder(run) / predictions.NAME).to_pylist()
        return {row["images"][0]: (" ".join(row["prediction"].split()), row["references"][0]) for row in rows}


@pytest.fixture(scope="module")
def grown(scored_store: Scored, tmp_path_factory: pytest.TempPathFactory) -> Grown:
    project = tmp_path_factory.mktemp("grown") / "project"
    shutil.copytree(Path(scored_store.store).parent, project)
    store, data = str(project / "store"), project / "data"
    rows = [json.loads(line) for line in (data / "rows.jsonl").read_text().splitlines()]
    sides = {
        side: [int(sample.key.partition(":")[2]) - 1 for sample in open_snapshot(store, "example").samples(side)]  # type: ignore[arg-type]
        for side in ("train", "eval")
    }
    gone = {*sides["eval"][:2], sides["train"][0]}
    changed = {*sides["eval"][2:5], sides["train"][1]}
    for place in changed:
        rows[place]["text"] += " corrected"
    kept = [row for place, row in enumerate(rows) if place not in gone]
    for number in range(ADDED):
        image = Image.open(data / rows[number]["image"]).rotate(180)
        image.save(data / "images" / f"new-{number}.png")
        kept.append({"image": f"images/new-{number}.png", "text": f"New {number}"})
    (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    vlmrecipes.ingest(project / "datasets" / "example.toml", store=store, workers=1)
    words = ("rerun", scored_store.whole, "--data", "latest", "--store", store, "-o", project / "why.html", "--json")
    return Grown(
        store,
        scored_store.whole,
        scored_store.cut,
        {rows[place]["image"] for place in sides["eval"][:2]},
        {rows[place]["image"]: rows[place]["text"] for place in sides["eval"][2:5]},
        one_object(inside(*words)),
    )


def cer(pairs: list[tuple[str, str]]) -> float:
    """Return edits over characters of the references, by the textbook table."""
    edits = 0
    for said, reference in pairs:
        row = list(range(len(reference) + 1))
        for i, one in enumerate(said, 1):
            before, row[0] = row[0], i
            for j, other in enumerate(reference, 1):
                before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
        edits += row[-1]
    return edits / sum(len(reference) for _, reference in pairs)


def by_hand(grown: Grown, before: str, after: str) -> dict[str, float]:
    """Return every step of cer, from the predictions of two runs and nothing else."""
    a, b = (grown.said(run) for run in (before, after))
    kept = a.keys() & b.keys()
    told = {
        "a": cer(list(a.values())),
        "without": cer([a[key] for key in kept]),
        "judged": cer([(a[key][0], b[key][1]) for key in kept]),
        "kept": cer([b[key] for key in kept]),
        "b": cer(list(b.values())),
    }
    steps = {"removed": ("a", "without"), "corrected": ("without", "judged"), "model": ("judged", "kept")}
    steps |= {"added": ("kept", "b"), "change": ("a", "b")}
    return {"a": told["a"], "b": told["b"]} | {step: told[end] - told[start] for step, (start, end) in steps.items()}


def test_the_samples_are_counted_as_they_were_changed(grown: Grown) -> None:
    a, b = (grown.said(run) for run in (grown.whole, grown.rerun["run"]))
    found = grown.rerun["comparison"]["attribution"]["samples"]
    assert len(a.keys() - b.keys()) == found["removed"] == len(grown.withdrawn) == 2
    assert sum(a[key][1] != b[key][1] for key in a.keys() & b.keys()) == found["corrected"] == len(grown.corrected) == 3
    assert sum(text.startswith("New ") for _, text in b.values()) == found["added"] > 0
    assert found["common"] == len(a) - 5
    assert (found["a"], found["b"]) == (len(a), len(b))
    assert {text for _, text in b.values()} >= set(grown.corrected.values())
    for told in grown.rerun["comparison"]["data"]:
        assert (told["before"], told["after"]) == ("example@1", "example@2")
        assert (told["added"], told["removed"], told["changed"]) == (ADDED, 3, 4)
    assert [told["role"] for told in grown.rerun["comparison"]["data"]] == ["eval"], "nothing was learned"


def test_the_change_of_one_model_is_all_of_the_data(grown: Grown) -> None:
    walk = grown.rerun["comparison"]["attribution"]["metrics"]["cer"]
    assert walk["model"] == 0
    assert walk["data"] == walk["change"] != 0
    for step, value in by_hand(grown, grown.whole, grown.rerun["run"]).items():
        assert walk[step] == pytest.approx(value, abs=1e-12), step
    assert walk["b"] == grown.rerun["metrics"]["tuned"]["cer"]["value"]
    assert walk["corrected"] > 0 < walk["added"], "texts that no picture shows"


def test_a_change_of_data_and_model_is_told_apart(grown: Grown) -> None:
    found = compare_runs([grown.cut, grown.rerun["run"]], store=grown.store)
    walk, hand = found["attribution"]["metrics"]["cer"], by_hand(grown, grown.cut, grown.rerun["run"])
    for step, value in hand.items():
        assert walk[step] == pytest.approx(value, abs=1e-12), step
    assert walk["model"] < 0, "an answer that is not cut off is better"
    assert walk["test"]["verdict"] == "better"
    assert walk["test"]["low"] <= walk["model"] <= walk["test"]["high"]
    assert walk["test"]["n"] == found["attribution"]["samples"]["common"] + 3
    assert sum(walk[step] for step in ("removed", "corrected", "model", "added")) == pytest.approx(walk["change"])


def test_lines_and_page_tell_the_steps(grown: Grown) -> None:
    shown = inside("compare", grown.cut, grown.rerun["run"], "--store", grown.store).stdout
    assert "where the change comes from" in shown
    assert "removed 2" in shown
    assert "corrected 3" in shown
    assert f"eval data example@1 to example@2: added {ADDED}, removed 3, changed 4" in shown
    page = Path(grown.rerun["comparison"]["path"]).read_text()
    assert "Data or model" in page
    assert "3 references corrected" in page


def test_a_rerun_names_the_run_before_it(grown: Grown) -> None:
    assert grown.rerun["rerun_of"] == grown.whole
    sealed = record.read(grown.folder(grown.rerun["run"]))
    assert sealed["parents"] == [{"run": grown.whole, "as": "rerun"}]
    assert record.check_seal(grown.folder(grown.rerun["run"])) == []
    nodes = {node["id"]: node for node in lineage_of("example@2", store=grown.store)["nodes"]}
    assert nodes[f"run:{grown.rerun['run']}"]["rerun_of"] == grown.whole
    assert f"run:{grown.whole}" not in nodes


def test_nothing_newer_is_told_before_anything_is_done(grown: Grown) -> None:
    words = ("rerun", grown.rerun["run"], "--store", grown.store, "--json")
    before = sorted(Path(grown.store, "runs").iterdir())
    assert "used example@2 already" in one_object(inside(*words, "--data", "latest"), 2)["problems"][0]["problem"]
    assert "no snapshot 'example@9'" in one_object(inside(*words, "--data", "example@9"), 2)["problems"][0]["problem"]
    assert "unknown key" in one_object(inside(*words, "--set", "eval.metric=x"), 2)["problems"][0]["problem"]
    assert sorted(Path(grown.store, "runs").iterdir()) == before


def test_a_plan_made_again_keeps_what_is_not_swapped(grown: Grown) -> None:
    folder = grown.folder(grown.whole)
    assert plan_again(folder, store=grown.store).fingerprint == record.read(folder)["plan"]["fingerprint"], (
        "although the recipe names no version, and there is a newer one"
    )
    newest = plan_again(folder, store=grown.store, swaps={"eval": "latest"})
    assert newest.roles() == [("eval", "example@2")]
    assert plan_again(folder, store=grown.store, swaps={"train": "latest"}).roles() == [("eval", "example@1")]
    assert plan_again(folder, store=grown.store, swaps={"train": "example@2", "eval": "example@1"}).roles() == [
        ("eval", "example@1")
    ]


def test_data_and_revisions_that_are_set_are_those_of_the_new_plan(grown: Grown) -> None:
    folder = grown.folder(grown.whole)
    with pytest.raises(InputError, match="no snapshot 'no-such-set'"):
        plan_again(folder, store=grown.store, overrides=["data.train=no-such-set", "data.eval=no-such-set"])
    with pytest.raises(InputError, match="is a folder and has no revision"):
        plan_again(folder, store=grown.store, overrides=[f"model.revision={'a' * 40}"])


def test_a_scoring_may_be_done_again_with_the_weights_of_another_run(grown: Grown, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(grown.store, store)
    folder = store / "runs" / grown.whole
    shutil.copytree(Path(vlmrecipes.__file__).parent / "models" / "reader", store / "runs" / grown.cut / "model")
    found = plan_again(folder, store=str(store), model=grown.cut)
    assert Path(found.tuned) == store / "runs" / grown.cut / "model"
    assert found.recipe.model.id == "builtin:reader"
    with pytest.raises(InputError, match="no-such-model"):
        plan_again(folder, store=str(store), model="no-such-model")


def test_only_a_whole_run_is_reproduced(grown: Grown, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(grown.store, store)
    folder = store / "runs" / grown.whole
    (folder / "recipe.toml").write_text("name = 'other'\n")
    with pytest.raises(InputError, match=r"recipe\.toml: changed since it was sealed(.|\n)*not the file that was run"):
        vlmrecipes.reproduce(grown.whole, store=str(store))
    failed = store / "runs" / "20260101-000000-aaaaaa"
    record.start(failed, run=failed.name, kind="train", recipe={"name": "x"}, environment={"python": "3"})
    record.finish(failed, "failed", "why")
    with pytest.raises(InputError, match="is failed: only a complete run"):
        vlmrecipes.reproduce(failed.name, store=str(store))


def test_a_grid_is_every_combination_in_its_order() -> None:
    assert combinations(["lora.r=8,16", "train.learning_rate=1e-4, 2e-4"]) == [
        ("lora.r=8", "train.learning_rate=1e-4"),
        ("lora.r=8", "train.learning_rate=2e-4"),
        ("lora.r=16", "train.learning_rate=1e-4"),
        ("lora.r=16", "train.learning_rate=2e-4"),
    ]
    assert combinations(['eval.metrics=["wer","cer"],["cer"]']) == [
        ('eval.metrics=["wer","cer"]',), ('eval.metrics=["cer"]',)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("grid", "why"),
    [
        (["lora.r"], "expected KEY=VALUE"),
        (["lora.r="], "expected KEY=VALUE"),
        (["=8"], "expected KEY=VALUE"),
        (["lora.r=8,8"], "twice"),
        (["lora.r=8", "lora.r=16"], "twice"),
        ([f"{key}={','.join(map(str, range(11)))}" for key in "abc"], "1331 combinations"),
    ],
)
def test_a_grid_that_means_nothing_is_told(grid: list[str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        combinations(grid)


def test_a_search_space_is_ranges_and_choices() -> None:
    found = space(["train.learning_rate=1e-5..1e-3", "lora.r=4..64", "lora.dropout=0.0..0.5", "model.id=../a..b,c"])
    assert found == {
        "train.learning_rate": Range(1e-5, 1e-3, whole=False),
        "lora.r": Range(4, 64, whole=True),
        "lora.dropout": Range(0, 0.5, whole=False),
        "model.id": ["../a..b", "c"],
    }
    assert [getattr(values, "log", None) for values in found.values()] == [True, False, False, None]
    assert ends(found) == [
        ("train.learning_rate=1e-05", "lora.r=4", "lora.dropout=0", "model.id=../a..b"),
        ("train.learning_rate=0.001", "lora.r=64", "lora.dropout=0.5", "model.id=c"),
    ]
    drawn = {"train.learning_rate": 0.000123456, "lora.r": 7, "lora.dropout": 1 / 3, "model.id": "c"}
    assert assignments(found, drawn) == (
        "train.learning_rate=0.0001235", "lora.r=7", "lora.dropout=0.3333", "model.id=c"
    )  # fmt: skip


@given(st.floats(-1e9, 1e9), st.floats(1e-9, 1e3), st.floats(0, 1))
def test_a_number_that_is_drawn_stays_in_its_range(low: float, width: float, part: float) -> None:
    values = Range(low, low + width, whole=False)
    value = min(low + part * width, values.high)
    assert values.low <= float(values.text(value)) <= values.high


@pytest.mark.parametrize(
    ("ranges", "why"),
    [
        (["lora.r"], "expected KEY=LOW..HIGH or KEY=A,B"),
        (["lora.r=8..8"], "LOW below HIGH"),
        (["lora.r=16..8"], "LOW below HIGH"),
        (["train.learning_rate=1e-5..1e999"], "both finite"),
        (["lora.r=8..16", "lora.r=4,8"], "twice"),
        ([], "say what is searched"),
    ],
)
def test_a_search_space_that_means_nothing_is_told(ranges: list[str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        space(ranges)


def test_a_search_without_optuna_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vlmrecipes\[search\]'"):
        vlmrecipes.search(Path("x.toml"), 3, ["lora.r=8,16"], store="x")
