from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.plan import Plan, make_plan
from vlmrecipes.recipe import read_recipe
from vlmrecipes.records import predictions, record, report
from vlmrecipes.records.caveats import about_rewards, against_majority, image_policy, majority, warnings
from vlmrecipes.records.scoring import answer

if TYPE_CHECKING:
    from scored import Scored

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def plan(scored_store: Scored) -> Plan:
    file = Path(scored_store.store).parent / "recipes" / "example.toml"
    return make_plan(read_recipe(file), store=scored_store.store, file=str(file))


@pytest.fixture
def rows(scored_store: Scored) -> Rows:
    """Return real predictions, as if the whole answers were those of the base model and the cut ones of the tuned."""
    sides = {"base": scored_store.whole, "tuned": scored_store.cut}
    return [
        row | {"model": model}
        for model, run in sides.items()
        for row in predictions.read(scored_store.folder(run) / predictions.NAME).to_pylist()
    ]


RESULTS: dict[str, Any] = {"base": {"cer": {}}, "tuned": {"cer": {}}}


def codes(plan: Plan, rows: Rows, results: Any = RESULTS, generate: Any = None) -> dict[str, dict[str, Any]]:
    return {each["code"]: each for each in warnings(plan, rows, results, generate or {})}


def test_a_tuned_model_that_is_worse_and_cut_off_is_told(plan: Plan, rows: Rows) -> None:
    found = codes(plan, rows)
    assert found["base-better"]["low"] > 0
    assert found["truncated-answers"]["model"] == "tuned"
    assert not {"gain-unclear", "failed-answers", "image-policy", "empty-references", "blind"} & found.keys()


def test_a_gain_within_its_interval_is_unclear(plan: Plan, rows: Rows) -> None:
    half = len(rows) // 2
    same = rows[:half] + [row | {"model": "tuned"} for row in rows[:half]]
    same[-1] |= {"cer.numerator": same[-1]["cer.numerator"] + 1}
    assert codes(plan, same)["gain-unclear"]["difference"] > 0
    few = [row | {"group": str(place % half % 4)} for place, row in enumerate(rows)]
    told = codes(plan, few)["gain-unclear"]
    assert told["low"] > 0, "every group got worse, and that is no proof"
    assert "p = 0.125: only 4 groups" in told["message"]


def test_pictures_of_the_training_side_are_told(plan: Plan, rows: Rows) -> None:
    learned = open_snapshot(plan.store, "example").samples("train")[0]
    rows[0] |= {"images": list(learned.images)}
    found = codes(plan, rows)["near-overlap"]
    assert rows[0]["id"] in found["message"] or found["samples"] > 3


def test_pictures_that_the_scored_run_has_learned_are_told(plan: Plan, rows: Rows, tmp_path: Path) -> None:
    learned = open_snapshot(plan.store, "example").samples("train")[0]
    rows[0] |= {"images": list(learned.images)}
    scoring = replace(plan, train=(), trains=False, tuned=str(tmp_path / "adapter"))
    assert "near-overlap" not in codes(scoring, rows), "nothing is known of what it learned"
    told = plan.to_json()
    (tmp_path / "plan.json").write_text(json.dumps(told))
    assert "near-overlap" in codes(scoring, rows)
    assert majority(scoring, [answer(row) for row in rows], {"tuned": {"exact": {}}}) != {}
    told["train"][0]["snapshot"] = "example@77"
    (tmp_path / "plan.json").write_text(json.dumps(told))
    assert codes(scoring, rows)["training-data-gone"]["snapshots"] == ["example@77"]


def test_pictures_prepared_differently_are_told(plan: Plan) -> None:
    snapshot = open_snapshot(plan.store, "example")
    (found,) = image_policy([snapshot], [other_policy(snapshot, max_side=77)])
    assert (found["code"], found["keys"]) == ("image-policy", ["max_side"])
    assert list(image_policy([snapshot], [snapshot])) == []


def other_policy(snapshot: Any, **changes: Any) -> Any:
    declaration = snapshot.manifest["declaration"]
    prepare = declaration["prepare"] | changes
    return SimpleNamespace(name="other", manifest={"declaration": declaration | {"prepare": prepare}})


def test_an_adapter_that_was_not_applied_is_told(plan: Plan, rows: Rows) -> None:
    told = {"adapter_weights": {"unused": ["a.lora_A", "b.lora_A"], "absent": []}}
    assert codes(plan, rows, generate={"tuned": told})["adapter-not-applied"]["weights"] == 2
    told = {"adapter_weights": {"unused": [], "absent": ["c.lora_B"]}}
    assert "c.lora_B" in codes(plan, rows, generate={"tuned": {"parts": [told]}})["adapter-not-applied"]["message"]


def test_empty_references_failed_and_empty_answers_are_told(plan: Plan, rows: Rows) -> None:
    half = len(rows) // 2
    for row in (rows[0], rows[half]):
        row |= {"references": [" "]}
    rows[1] |= {"prediction": None}
    for row in rows[half:]:
        row |= {"prediction": " "}
    found = codes(plan, rows)
    assert found["empty-references"]["samples"] == 1
    assert found["failed-answers"]["model"] == "base"
    assert found["empty-answers"]["share"] == 1


@pytest.mark.parametrize(
    ("metric", "told"),
    [(("vqa", 0.5, 0.52), True), (("vqa", 0.3, 0.6), False), (("cer", 0.31, 0.3), True), (("cer", 1.0, 0.3), False)],
)
def test_a_model_that_does_not_look_is_told(
    plan: Plan, rows: Rows, metric: tuple[str, float, float], told: bool
) -> None:
    name, blank, seen = metric
    probe = {"blank": {"rows": 16, "metrics": {name: blank}, "seen": {name: seen}}}
    assert ("blind" in codes(plan, rows, generate={"tuned": {"probes": probe}})) == told


def test_the_most_frequent_answer_is_a_rival_of_right_and_wrong_only(plan: Plan, rows: Rows) -> None:
    answers = [answer(row) for row in rows if row["model"] == "base"]
    assert majority(plan, answers, RESULTS) == {}
    found = majority(plan, answers, {"tuned": {"exact": {}}})
    assert 0 < found["share"] < 1
    assert 0 <= found["metrics"]["exact"] <= 1
    low = {"tuned": {"exact": {"low": 0.2, "value": 0.3}}}
    assert [each["code"] for each in against_majority(found | {"metrics": {"exact": 0.25}}, low)] == ["majority-answer"]
    assert list(against_majority(found | {"metrics": {"exact": 0.1}}, low)) == []


def test_warnings_stand_in_record_and_report(scored: Scored, tmp_path: Path) -> None:
    told = record.read(scored.folder(scored.cut))["warnings"]
    assert "truncated-answers" in [each["code"] for each in told]
    page = tmp_path / "x.html"
    report.report([scored.cut], page, store=scored.store)
    assert "stopped at the token limit" in page.read_text("utf-8")


def test_rewards_that_taught_nothing_are_told() -> None:
    terms = [{"name": name, "weight": 1.0, "spec": ""} for name in ("cer", "format")]
    curve = {"cer/mean": [0.1, 0.2], "cer/std": [0.1, 0.0], "format/mean": [1.0, 1.0], "format/std": [0.0, 0.0]}
    train: dict[str, Any] = {"rewards": {"terms": terms, "curve": curve}, "collapse": None}
    (found,) = about_rewards(train)
    assert (found["code"], found["reward"], found["value"]) == ("constant-reward", "format", 1.0)
    converged = {"reason": "zero-variance", "since": 40, "reward": 0.9, "rose": True, "message": "stopped"}
    assert [one["code"] for one in about_rewards(train | {"collapse": converged})] == [
        "constant-reward",
        "stopped-early",
    ]
    assert list(about_rewards(train | {"collapse": converged | {"rose": False}})) == [found], "the run's error says it"
    assert list(about_rewards({"rewards": None})) == []
