"""Every metric against the measured outputs of the code whose definition it names."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from vlmrecipes.evaluate import answers, error_rate, metrics
from vlmrecipes.evaluate.interval import wilson

DATA = json.loads((Path(__file__).parents[1] / "data" / "metric_vectors.json").read_text("utf-8"))


def one(spec: str) -> Callable[..., float]:
    """Return the value of a single sample."""
    metric = metrics.resolve(spec)
    return lambda prediction, references: metric.rate(metric.score(prediction, references))


def micro(spec: str) -> Callable[..., float | None]:
    def value(predictions: list[str], references: list[str]) -> float | None:
        metric = metrics.resolve(spec)
        scores = [metric.score(p, [r]) for p, r in zip(predictions, references, strict=True)]
        return metric.value(sum(s.numerator for s in scores), sum(s.denominator for s in scores))

    return value


def macro(spec: str) -> Callable[..., float]:
    return lambda predictions, references: fmean(
        one(spec)(p, [r]) for p, r in zip(predictions, references, strict=True)
    )


def edits(prediction: str, references: list[str]) -> error_rate.Edits:
    return error_rate.best(prediction, references, error_rate.jiwer4_words)


def official(prediction: str, references: list[str], answer_id: str = "unique") -> float:
    return answers.vqa_official(prediction, references, answer_ids=answer_id != "absent")


MEASURES: dict[str, Callable[..., Any]] = {
    "wer": one("wer/jiwer4@1"),
    "cer": one("cer/jiwer4@1"),
    "wer_corpus": micro("wer/jiwer4@1"),
    "cer_corpus": micro("cer/jiwer4@1"),
    "wer_mean_of_samples": macro("wer/jiwer4@1"),
    "mer": lambda p, r: edits(p, r).match_error_rate,
    "wil": lambda p, r: edits(p, r).information_lost,
    "exact_match_hf": one("exact/raw@1"),
    "exact_match_strip_lower_vlmevalkit": one("exact/nocase@1"),
    "vqa_accuracy_official": official,
    "vqa_accuracy_evalai_textvqa": one("vqa/evalai@1"),
    "normalize_vqa_official": lambda p, _: answers.vqa_fold(p),
    "normalize_evalai_mmf": lambda p, _: answers.evalai_fold(p),
    "normalize_vqa_contraction": lambda p, _: answers.vqa_fold(p),
    "anls_rrc_lmms": one("anls/rrc@1"),
    "anls_vlmevalkit": one("anls/rrc@1"),
    "anls_pkg": one("anls/paper@1"),
}


@pytest.mark.parametrize(
    "vector",
    [v for v in DATA["vectors"] if v["metric"] in MEASURES],
    ids=lambda vector: f"{vector['metric']}-{vector['id']}",
)
def test_agrees_with_the_code_named(vector: dict[str, Any]) -> None:
    keys = {key: vector["params"][key] for key in ("answer_id",) if key in vector.get("params", {})}
    arguments = vector["prediction"], vector["references"]
    expected = vector["expected"]
    if isinstance(expected, dict):
        with pytest.raises(ValueError, match=r"."):
            MEASURES[vector["metric"]](*arguments, **keys)
    elif isinstance(expected, str):
        assert MEASURES[vector["metric"]](*arguments, **keys) == expected
    else:
        assert MEASURES[vector["metric"]](*arguments, **keys) == pytest.approx(expected, abs=1e-12)


def test_every_measure_has_vectors() -> None:
    assert {vector["metric"] for vector in DATA["vectors"]} >= set(MEASURES)


WILSON = [v for v in DATA["stat_vectors"] if v["metric"] == "wilson_ci95"]


@pytest.mark.parametrize("vector", WILSON, ids=lambda v: "{successes}-of-{n}".format(**v["inputs"]))
def test_wilson_agrees_with_statsmodels(vector: dict[str, Any]) -> None:
    assert wilson(**vector["inputs"]) == pytest.approx(vector["expected"], abs=1e-12)


@pytest.mark.parametrize("answer", ["it's", "let's", "she's", "somebody'd", "Im", "lets", "shes", "yalldve", "owsat"])
def test_contractions_that_the_table_does_not_complete_stay(answer: str) -> None:
    assert answers.vqa_fold(answer) == {"somebody'd": "somebodyd"}.get(answer, answer.lower())
