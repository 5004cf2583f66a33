"""Lines for people where there is little to tell."""

from __future__ import annotations

from vlmrecipes.cli.showing import score_table
from vlmrecipes.evaluate.score import Answer, score


def test_scores_of_one_sample_have_no_interval() -> None:
    answers = [Answer(id="a", prediction="ab", references=("abc",), cluster="a", labels={"kind": "short"})]
    metrics, _ = score(answers, ["cer"], by=["kind"])
    head, *rows = score_table([{"recipe": "lines", "metrics": {"base": metrics, "tuned": metrics}}])
    assert head.split() == ["recipe", "metric", "before", "after", "n"]
    assert [row.split() for row in rows] == [
        ["lines", "cer", "0.333", "0.333", "1"],
        ["kind", "short", *["0.333"] * 2, "1"],
    ]
