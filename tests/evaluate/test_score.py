import json
import os
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmrecipes.errors import InputError, MissingExtraError
from vlmrecipes.evaluate import machine
from vlmrecipes.evaluate.metrics import resolve
from vlmrecipes.evaluate.score import Answer, score

GOLDEN = Path(__file__).parents[1] / "golden" / "score.json"
TEXT = st.text(alphabet="ab c", max_size=6)


def answer(name: str, prediction: str | None, *references: str, cluster: str = "", **labels: str) -> Answer:
    return Answer(id=name, prediction=prediction, references=references, cluster=cluster or name, labels=labels)


ANSWERS = st.lists(
    st.builds(
        lambda prediction, references, cluster: answer("x", prediction, *references, cluster=cluster),
        st.none() | TEXT,
        st.lists(TEXT, min_size=1, max_size=3),
        st.sampled_from("pqrs"),
    ),
    max_size=12,
)
TEN = [
    answer("r01", "TOTAL 12.50", "TOTAL 12.50", cluster="page-1", shop="north"),
    answer("r02", "TOTAL 12,50", "TOTAL 12.50", cluster="page-1", shop="north"),
    answer("r03", "cash", "CASH", cluster="page-1", shop="north"),
    answer("r04", "thank you\nvery much", "thank you very much", cluster="page-2", shop="north"),
    answer("r05", None, "change 0.50", cluster="page-2", shop="north"),
    answer("r06", "", "", cluster="page-3", shop="south"),
    answer("r07", "noise", "", cluster="page-3", shop="south"),
    answer("r08", "  ", "tax", cluster="page-4", shop="south"),
    answer("r09", "Straße 5", "Strasse 5", "Straße 5", cluster="page-5", shop="south"),
    answer("r10", "milk milk milk", "milk", cluster="page-6"),
]


def rounded(value: Any) -> Any:
    """Return JSON with floats to nine places: sums may differ in the last bit between processors."""
    return json.loads(json.dumps(value, allow_nan=False), parse_float=lambda digits: round(float(digits), 9))


def test_ten_rows_score_as_recorded() -> None:
    summary, _ = score(TEN, ["wer", "cer/ws@1", "cer/jiwer4@1", "exact", "anls"], by=["shop"], seed=7, resamples=500)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", "utf-8")
    assert rounded(summary) == rounded(json.loads(GOLDEN.read_text("utf-8")))


@pytest.mark.parametrize("spec", ["chrf", "bleu"])
def test_equal_rows_show_no_certainty(spec: str) -> None:
    rows = [answer(str(place), "a small dog runs here", "a small dog runs there") for place in range(4)]
    found = score(rows, [spec], resamples=50)[0][spec]
    assert (found["method"], found["low"]) == ("degenerate", pytest.approx(found["high"]))
    assert score([*rows, answer("x", "a", "a cat sat on it")], [spec], resamples=50)[0][spec]["method"] == "bootstrap"


@pytest.mark.parametrize("spec", ["cer/ws@1", "wer/jiwer4@1", "mer/ws@1", "wil/ws@1", "ned/codepoint@1"])
def test_a_row_that_failed_is_never_right(spec: str) -> None:
    for references, units in ((("", "abc", "ab"), 3 if spec in ("cer/ws@1", "ned/codepoint@1") else 1), (("",), 1)):
        summary, scores = score([answer("x", None, *references)], [spec], resamples=0)
        assert (summary[spec]["value"], summary[spec]["macro"]) == (1.0, 1.0)
        (one,) = scores[spec]
        assert (one.numerator, one.denominator) == (units, units)
        assert sum(one.detail.values()) == one.detail.get("deletions", 0)


@settings(deadline=None, max_examples=50)
@given(answers=ANSWERS, shuffle=st.randoms(use_true_random=False))
def test_a_value_is_sum_over_sum_within_its_interval_in_any_order(
    answers: list[Answer], shuffle: random.Random
) -> None:
    names = ["wer", "cer", "exact", "anls", "cer/jiwer4@1"]
    summary, rows = score(answers, names, resamples=100)
    other = list(answers)
    shuffle.shuffle(other)
    assert score(other, names, resamples=100)[0] == summary
    for name, found in summary.items():
        top, bottom = sum(one.numerator for one in rows[name]), sum(one.denominator for one in rows[name])
        assert (found["numerator"], found["denominator"]) == pytest.approx((top, bottom))
        if bottom:
            assert found["value"] == pytest.approx(top / bottom)
        if found["low"] is not None:
            assert found["low"] <= found["value"] <= found["high"]
        assert found["n"] == len(rows[name]) == len(answers)


def test_no_rows_have_no_value() -> None:
    summary, rows = score([], ["cer", "cer/jiwer4@1", "exact"])
    assert rows == {"cer": [], "cer/jiwer4@1": [], "exact": []}
    for found in summary.values():
        assert {found[key] for key in ("value", "low", "high", "macro", "median")} == {None}
        assert (found["n"], found["method"]) == (0, "none")


def test_blank_references_only_have_no_rate_but_under_jiwer4() -> None:
    summary, _ = score([answer("a", "xy", ""), answer("b", "", "")], ["cer", "cer/jiwer4@1"])
    assert (summary["cer"]["value"], summary["cer"]["insertions"], summary["cer"]["macro"]) == (None, 2, 0.5)
    assert (summary["cer/jiwer4@1"]["value"], summary["cer/jiwer4@1"]["macro"]) == (2.0, 1.0)


def test_a_failed_row_counts_as_the_worst_empty_answer() -> None:
    good = [answer(str(i), "text", "text") for i in range(3)]
    summary, rows = score([*good, answer("f", None, "text")], ["cer", "wer", "exact", "anls"])
    assert [summary[name]["value"] for name in summary] == [0.25, 0.25, 0.75, 0.75]
    assert {summary[name]["failed"] for name in summary} == {1}
    assert rows["cer"][-1].detail["deletions"] == 4


def test_a_failed_row_gets_no_credit_where_the_empty_answer_is_right() -> None:
    rows = [answer("a", "", ""), answer("b", None, "")]
    summary, scores = score(rows, ["exact", "anls"])
    assert [[one.numerator for one in scores[name]] for name in summary] == [[1.0, 0.0], [1.0, 0.0]]
    assert (summary["exact"]["failed"], summary["exact"]["empty"]) == (1, 1)


def test_all_refusals_come_at_once() -> None:
    rows = [answer("a", "x", "你好世界", lang="zh"), answer("b", "x", lang="zh")]
    with pytest.raises(InputError) as caught:
        score(rows, ["wer", "vqa", "crr"], by=["language"])
    told = [str(problem) for problem in caught.value.problems]
    assert told[0] == "references: 1 of 2 rows have no references (b); give or drop them"
    assert told[1] == "by: no row has the column 'language' (known: lang)"
    assert "vqa refused: 2 of 2 rows have fewer than 3 references" in told[2]
    assert "unknown metric 'crr'; did you mean 'cer'?" in told[3]
    with pytest.raises(InputError, match="wer refused: 1 of 1 rows are in a script written without spaces"):
        score(rows[:1], ["wer"])


def test_groups_are_scored_by_themselves() -> None:
    summary, _ = score(TEN, ["cer"], by=["shop"])
    groups = summary["cer"]["by"]["shop"]
    assert {label: group["n"] for label, group in groups.items()} == {"(none)": 1, "north": 5, "south": 4}
    alone, _ = score([row for row in TEN if row.labels.get("shop") == "north"], ["cer"])
    assert groups["north"] == {key: alone["cer"][key] for key in ("value", "low", "high", "n", "method")}


def test_results_are_keyed_as_asked_for_and_name_their_spec() -> None:
    summary, rows = score(TEN, ["cer", "cer/ws@1"])
    assert list(summary) == list(rows) == ["cer", "cer/ws@1"]
    assert summary["cer"] == summary["cer/ws@1"]
    assert summary["cer"]["spec"] == "cer/ws@1"


def test_vqa_scores_ten_annotators() -> None:
    row = answer("q", "Two", *["2"] * 6, *["three"] * 4)
    rows = [row, replace(row, id="r", cluster="r", prediction="four")]
    summary, _ = score(rows, ["vqa", "vqa/evalai@1"])
    assert [summary[name]["value"] for name in summary] == [0.5, 0.5]
    assert resolve("vqa").spec == summary["vqa"]["spec"]


def test_rows_on_which_a_definition_has_no_value_are_all_named() -> None:
    rows = [answer("a", "", ""), answer("b", "x", "x"), answer("c", "", "")]
    with pytest.raises(InputError) as caught:
        score(rows, ["anls/mmf"])
    assert [problem.key for problem in caught.value.problems] == ["anls/mmf@1 of a", "anls/mmf@1 of c"]


def test_corpus_metrics_have_an_interval_and_scores_of_sentences() -> None:
    rows = [answer(str(i), text, "the cat is on the mat") for i, text in enumerate(["the cat sat on the mat", "a dog"])]
    summary, scores = score([*rows, answer("f", None, "no")], ["bleu", "chrf", "rouge_l"], resamples=200)
    for name in ("bleu", "chrf"):
        assert 0 <= summary[name]["low"] < summary[name]["value"] < summary[name]["high"] < 100
        assert scores[name][0].numerator > scores[name][1].numerator >= scores[name][2].numerator == 0
    assert summary["bleu"]["value"] != pytest.approx(summary["bleu"]["macro"])


def test_missing_sacrebleu_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    machine._scorer.cache_clear()  # noqa: SLF001
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vlmrecipes\[captions\]'"):
        score([answer("a", "b", "c")], ["bleu"])
    machine._scorer.cache_clear()  # noqa: SLF001
