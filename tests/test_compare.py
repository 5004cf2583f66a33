from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sacrebleu
from command import one_object, vlmrecipes
from hypothesis import given
from hypothesis import strategies as st

from vlmrecipes.compare.ranking import holm, leaderboard
from vlmrecipes.compare.sides import Side
from vlmrecipes.compare.work import compare_runs
from vlmrecipes.errors import InputError
from vlmrecipes.records import predictions, record

if TYPE_CHECKING:
    from scored import Scored

EVIL = "<script>alert(1)</script>\u202e"


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def page(path: Path) -> str:
    """Return a page that needs nothing else and holds nothing that runs."""
    text = path.read_text("utf-8")
    tags = Tags(text).found
    targets = [value or "" for _, attrs in tags for name, value in attrs.items() if name in ("src", "href")]
    assert all(target.startswith(("data:image/", "#")) for target in targets)
    assert "script" not in {tag for tag, _ in tags}
    assert not any(name.startswith("on") for _, attrs in tags for name in attrs)
    assert "Content-Security-Policy" in text
    return text


def rewrite(folder: Path, change: object) -> None:
    rows = predictions.read(folder / predictions.NAME).to_pylist()
    predictions.write(folder / predictions.NAME, change(rows), ["wer", "cer"])  # type: ignore[operator]


def test_two_runs_are_compared_on_the_command_line(scored_store: Scored, tmp_path: Path) -> None:
    words = ("compare", scored_store.whole, scored_store.cut, "--store", scored_store.store)
    found = one_object(vlmrecipes(*words, "--json", "-o", tmp_path / "x.html"))
    values = {
        run: record.read(scored_store.folder(run))["metrics"]["tuned"] for run in (scored_store.whole, scored_store.cut)
    }
    for name, told in found["metrics"].items():
        assert told["a"] == values[scored_store.whole][name]["value"]
        assert told["b"] == values[scored_store.cut][name]["value"]
        assert told["difference"] == pytest.approx(told["b"] - told["a"])
        assert told["low"] <= told["difference"] <= told["high"]
        assert 0 < told["p"] <= 1
    assert found["metrics"]["cer"]["verdict"] == "worse"
    assert found["worse"] > found["better"]
    assert found["better"] + found["worse"] + found["equal"] == found["n"]
    assert found["common"] == {
        "n": found["n"], "only_a": 0, "only_b": 0, "only": [0, 0], "changed": 0, "same_snapshot": True
    }  # fmt: skip
    assert found["notes"] == []
    text = page(Path(found["path"]))
    assert "B is worse" in text
    assert "Got worse" in text
    assert "data:image/" in text
    shown = vlmrecipes(*words)
    assert shown.returncode == 0
    assert "b is worse" in shown.stdout
    assert f"a: builtin:reader  {scored_store.whole}" in shown.stdout
    assert f"builtin:reader: {scored_store.cut} against {scored_store.whole}" in text


def test_a_comparison_the_other_way_is_its_mirror(scored_store: Scored) -> None:
    there, back = (
        compare_runs(names, store=scored_store.store)
        for names in ((scored_store.whole, scored_store.cut), (scored_store.cut, scored_store.whole))
    )
    assert (there["better"], there["worse"]) == (back["worse"], back["better"])
    for name, told in there["metrics"].items():
        assert told["difference"] == -back["metrics"][name]["difference"]
        assert told["p"] == pytest.approx(back["metrics"][name]["p"])


def test_every_part_of_a_breakdown_adds_up(scored_store: Scored) -> None:
    found = compare_runs([scored_store.whole, scored_store.cut], store=scored_store.store)
    assert {"reference length", "image size"} <= found["breakdown"].keys()
    for parts in found["breakdown"].values():
        assert sum(part["n"] for part in parts.values()) == found["n"]
        for name, told in found["metrics"].items():
            assert sum(part["metrics"][name]["worse"] for part in parts.values()) == told["worse"]


def test_metrics_that_were_not_scored_are_computed_for_both(scored_store: Scored) -> None:
    found = compare_runs([scored_store.whole, scored_store.cut], store=scored_store.store, metrics=["exact"])
    told = found["metrics"]["exact"]
    assert told["better_is"] == "higher"
    assert {"only_a", "only_b", "p"} == told["mcnemar"].keys()
    assert told["mcnemar"]["only_a"] == told["worse"]
    assert told["paired_t"]["low"] <= told["difference"] <= told["paired_t"]["high"]
    assert "paired_t" not in found["metrics"].get("cer", {})


def test_corpus_metrics_are_those_of_the_corpus_on_both_sides(scored_store: Scored, tmp_path: Path) -> None:
    names = [scored_store.whole, scored_store.cut]
    found = compare_runs(names, store=scored_store.store, metrics=["chrf"], output=tmp_path / "x.html")
    told = found["metrics"]["chrf"]
    rows = [predictions.read(scored_store.folder(run) / predictions.NAME).to_pylist() for run in names]
    values = [
        sacrebleu.corpus_chrf([row["prediction"] for row in side], [[row["references"][0] for row in side]]).score
        for side in rows
    ]
    assert [told["a"], told["b"]] == pytest.approx(values)
    assert told["low"] <= told["difference"] <= told["high"]
    assert "chrf" in page(tmp_path / "x.html")


def test_another_set_of_samples_is_said_loudly(scored: Scored, tmp_path: Path) -> None:
    rewrite(scored.folder(scored.cut), lambda rows: rows[2:])
    found = compare_runs([scored.whole, scored.cut], store=scored.store, output=tmp_path / "x.html")
    assert (found["common"]["only_a"], found["common"]["only_b"]) == (2, 0)
    assert found["n"] == len(predictions.read(scored.folder() / predictions.NAME)) - 2
    assert "NOT THE SAME SAMPLES" in found["notes"][0]
    assert any("sealed" in note for note in found["notes"]), "predictions that were changed are told too"
    assert "NOT THE SAME SAMPLES" in page(tmp_path / "x.html")
    shown = vlmrecipes("compare", scored.whole, scored.cut, "--store", scored.store)
    assert shown.stdout.startswith("!! NOT THE SAME SAMPLES")


def test_samples_with_other_references_are_left_out(scored: Scored) -> None:
    rewrite(scored.folder(scored.cut), lambda rows: [rows[0] | {"references": ["changed"]}, *rows[1:]])
    found = compare_runs([scored.whole, scored.cut], store=scored.store)
    assert found["common"]["changed"] == 1
    assert found["notes"][0].startswith("NOT THE SAME SAMPLES")


def test_nothing_in_common_and_other_wrong_input_is_told(scored: Scored) -> None:
    rewrite(scored.folder(scored.cut), lambda rows: [row | {"id": f"x{row['id']}"} for row in rows])
    wrong = {
        (scored.whole, scored.cut): "no sample in common",
        (scored.whole,): "two runs are compared",
        (scored.whole, "nothing"): "no run 'nothing'",
        (scored.whole, f"{scored.whole}:base"): "has no predictions of 'base'; it has: tuned",
        (scored.whole, f"{scored.whole}:tuned"): "compared with itself",
    }
    for names, why in wrong.items():
        with pytest.raises(InputError, match=why):
            compare_runs(names, store=scored.store)


def test_an_unknown_metric_is_told_with_what_it_may_mean(scored_store: Scored) -> None:
    with pytest.raises(InputError, match="unknown metric 'cerr'; did you mean 'cer'"):
        compare_runs([scored_store.whole, scored_store.cut], store=scored_store.store, metrics=["cerr"])


def test_whatever_was_predicted_is_text(scored: Scored, tmp_path: Path) -> None:
    change = {"prediction": EVIL, "metadata": json.dumps({EVIL: EVIL}), "source": EVIL, "prompt": "Read the text."}
    rewrite(scored.folder(scored.cut), lambda rows: [row | change for row in rows])
    compare_runs([scored.whole, scored.cut], store=scored.store, output=tmp_path / "x.html")
    text = page(tmp_path / "x.html")
    assert "&lt;script&gt;" in text
    assert "\u202e" not in text


def test_several_runs_are_a_leaderboard(scored: Scored, tmp_path: Path) -> None:
    third = scored.folder("20200101-000000-third")
    scored.folder(scored.cut).rename(tmp_path / "kept")
    for target in (third, scored.folder(scored.cut)):
        shutil.copytree(tmp_path / "kept", target)
    names = [third.name, scored.cut, scored.whole]
    found = compare_runs(names, store=scored.store, output=tmp_path / "x.html")
    assert found["leaderboard"]["cer"][0]["name"] == scored.whole
    assert [row["rank"] for row in found["leaderboard"]["cer"]] == [1, 2, 2], "equal runs share a rank"
    assert len(found["pairs"]) == 3
    for pair in found["pairs"]:
        assert all(told["p_holm"] >= told["p"] for told in pair["metrics"].values())
    text = page(tmp_path / "x.html")
    assert all(name in text for name in names)
    shown = vlmrecipes("compare", *names, "--store", scored.store)
    assert "rank" in shown.stdout


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=8))
def test_holm_is_monotone_and_between_p_and_bonferroni(values: list[float | None]) -> None:
    corrected = holm(values)
    count = sum(p is not None for p in values)
    known = sorted((p, q) for p, q in zip(values, corrected, strict=True) if p is not None and q is not None)
    assert [p is None for p in values] == [q is None for q in corrected]
    assert all(p <= q <= min(1.0, p * count) + 1e-12 for p, q in known)
    assert [q for _, q in known] == sorted(q for _, q in known)


def test_holm_agrees_with_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_ranks_are_opened_by_the_first_that_differs_from_any_before_it() -> None:
    summaries = [{"cer": {"value": value, "low": value, "high": value}} for value in (0.3, 0.1, 0.12, 0.31)]
    p = {"ab": 0.001, "ac": 0.001, "ad": 0.9, "bc": 0.4, "bd": 0.001, "cd": 0.02}
    found = [{"a": pair[0], "b": pair[1], "metrics": {"cer": {"p_holm": value}}} for pair, value in p.items()]
    ranks = leaderboard("abcd", summaries, found)["cer"]  # type: ignore[arg-type]
    assert [(row["name"], row["rank"]) for row in ranks] == [("b", 1), ("c", 1), ("a", 3), ("d", 3)]
    for pair in found:
        pair["metrics"]["cer"]["p_holm"] = 0.001 if {pair["a"], pair["b"]} == {"a", "c"} else 0.4
    ranks = leaderboard("abcd", summaries, found)["cer"]  # type: ignore[arg-type]
    assert [row["rank"] for row in ranks] == [1, 1, 3, 3], "a is not told from the best, but from c"


def test_too_few_groups_are_told_before_anything_else(scored: Scored, tmp_path: Path) -> None:
    for run in (scored.whole, scored.cut):
        rewrite(scored.folder(run), lambda rows: [row | {"group": str(n % 5)} for n, row in enumerate(rows)])
    found = compare_runs([scored.whole, scored.cut], store=scored.store, output=tmp_path / "x.html")
    assert found["metrics"]["cer"]["verdict"] == "unclear"
    assert found["notes"][0].startswith("only 5 groups: p cannot be under 0.05 with fewer than 6")
    assert "only 5 groups" in page(tmp_path / "x.html")


@pytest.mark.parametrize(
    ("model", "fields", "title"),
    [
        ("tuned", {"kind": "train"}, "m tuned by lines 1.0.0"),
        ("base", {"kind": "train"}, "m, untuned"),
        ("tuned", {"parents": [{"run": "20260101", "as": "model"}]}, "m tuned by run 20260101"),
        ("tuned", {"model": {"id": "tesseract", "revision": "5.3.0"}}, "tesseract 5.3.0"),
        ("tuned", {"model": {"id": "o/m", "revision": "0123456789abcdef"}}, "o/m 0123456789ab"),
        ("tuned", {"model": {"id": "m", "revision": "http://h:1/v1"}}, "m at http://h:1/v1"),
    ],
)
def test_a_side_is_named_for_what_answered(model: str, fields: dict[str, object], title: str, tmp_path: Path) -> None:
    told = {"kind": "evaluate", "model": {"id": "m"}, "recipe": {"name": "lines", "version": "1.0.0"}} | fields
    assert Side("x", tmp_path, model, told, {}).title == title
