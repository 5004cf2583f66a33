"""Every metric against the measured outputs of the code whose definition it names."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from vlmrecipes.evaluate import answers, captions, metrics, text
from vlmrecipes.evaluate.interval import standard_error, wilson
from vlmrecipes.evaluate.score import Answer, score
from vlmrecipes.evaluate.student import paired_t

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


def official(prediction: str, references: list[str], answer_id: str = "unique") -> float:
    return answers.vqa_official(prediction, references, answer_ids=answer_id != "absent")


def whole(spec: str) -> Callable[..., float | None]:
    def value(predictions: list[str], references: list[list[str]]) -> float | None:
        rows = [
            Answer(id=str(n), prediction=p, references=tuple(r), cluster=str(n), labels={})
            for n, (p, r) in enumerate(zip(predictions, references, strict=True))
        ]
        return score(rows, [spec], resamples=0)[0][spec]["value"]

    return value


def tokenized(measure: Callable[[list[list[str]], list[list[list[str]]]], float]) -> Callable[..., float]:
    """Take the words of the Java tokenizer, which the vectors bring, in place of the texts."""

    def value(
        _: list[str], __: list[list[str]], *, predicted: dict[str, list[str]], reference: dict[str, list[str]]
    ) -> float:
        rows = sorted(predicted, key=int)
        split = [[one.split(" ") if one else [] for one in reference[row]] for row in rows]
        return measure([predicted[row][0].split() for row in rows], split)

    return value


MEASURES: dict[str, Callable[..., Any]] = {
    "wer": one("wer/jiwer4@1"),
    "wer_standardize": one("wer/jiwer4-standardize@1"),
    "wer_lower_nopunct": one("wer/jiwer4-lower+nopunct@1"),
    "cer_lower_nopunct": one("cer/jiwer4-lower+nopunct@1"),
    "wer_dinglehopper": one("wer/uax29@1"),
    "cer": one("cer/jiwer4@1"),
    "cer_dinglehopper_graphemes": one("cer/dinglehopper@1"),
    "wer_corpus": micro("wer/jiwer4@1"),
    "cer_corpus": micro("cer/jiwer4@1"),
    "wer_mean_of_samples": macro("wer/jiwer4@1"),
    "mer": one("mer/jiwer4@1"),
    "wil": one("wil/jiwer4@1"),
    "normalized_edit_distance": one("ned/codepoint@1"),
    "omnidocbench_text_edit_distance": one("ned/alnum@1"),
    "normalize_omnidocbench_text": lambda p, _: text.alnum(p),
    "exact_match_hf": one("exact/raw@1"),
    "exact_match_hf_ignore_case_punct": one("exact/hf-nocase-nopunct@1"),
    "exact_match_strip_lower_vlmevalkit": one("exact/nocase@1"),
    "squad_exact_match": one("exact/squad@1"),
    "stvqa_accuracy_evalai": one("exact/stvqa@1"),
    "token_f1_squad": one("token_f1/squad@1"),
    "vqa_accuracy_official": official,
    "vqa_accuracy_evalai_textvqa": one("vqa/evalai@1"),
    "vqa_accuracy_lmms_textvqa": one("vqa/lmms-textvqa@1"),
    "vqa_accuracy_lmms_vqav2": one("vqa/lmms-vqav2@1"),
    "vqa_accuracy_vlmevalkit": one("vqa/vlmevalkit@1"),
    "normalize_vqa_official": lambda p, _: answers.vqa_fold(p),
    "normalize_evalai_mmf": lambda p, _: answers.evalai_fold(p),
    "normalize_vlmevalkit": lambda p, _: answers.vlmevalkit_fold(p),
    "normalize_vqa_contraction": lambda p, _: answers.vqa_fold(p),
    "anls_rrc_lmms": one("anls/rrc@1"),
    "anls_vlmevalkit": one("anls/rrc@1"),
    "anls_pkg": one("anls/paper@1"),
    "anls_pix2struct": one("anls/pix2struct@1"),
    "anls_mmf_stvqa": one("anls/mmf@1"),
    "relaxed_accuracy_pix2struct": one("relaxed/chartqa@1"),
    "relaxed_accuracy_lmms": one("relaxed/chartqa@1"),
    "relaxed_accuracy_vlmevalkit": one("relaxed/vlmevalkit@1"),
    "ocrbench_contains_vlmevalkit": one("contains/ocrbench@1"),
    "ocrbench_contains_lmms": one("contains/ocrbench-lmms@1"),
    "ocrbench_v2_vqa": one("contains/ocrbench2@1"),
    "bleu_sacrebleu_corpus": whole("bleu/sacrebleu@1"),
    "chrf_sacrebleu_corpus": whole("chrf/sacrebleu@1"),
    "coco_cider": tokenized(lambda p, r: fmean(captions.cider(p, r))),
    "coco_rouge_l": tokenized(lambda p, r: fmean(map(captions.rouge_l, p, r))),
    "coco_bleu_4": tokenized(lambda p, r: captions.bleu_coco(list(map(captions.matches, p, r)))),
    "teds": one("teds/pubtabnet@1"),
    "teds_struct": one("teds/structure@1"),
}
KEYS = {
    "answer_id": "answer_id",
    "tokenized_prediction": "predicted",
    "tokenized_references": "reference",
}
STATISTICS = {
    "wilson_ci95": "test_wilson_agrees_with_statsmodels",
    "mean_stderr_lmms": "test_standard_errors_agree_with_lmms_eval",
    "clustered_stderr_lmms": "test_standard_errors_agree_with_lmms_eval",
    "paired_t_lmms": "test_paired_t_agrees_with_lmms_eval",
    "paired_signflip_exact_p": "test_permutation_agrees_with_full_enumeration",
    "mcnemar_exact_p": "test_mcnemar_agrees_with_statsmodels",
    "mcnemar_cc_chi2_p": "test_corrected_mcnemar_agrees_with_statsmodels",
}
"""Where each statistic is tested, here or in `test_paired.py`."""


@pytest.mark.parametrize(
    "vector",
    DATA["vectors"],
    ids=lambda vector: f"{vector['metric']}-{vector['id']}",
)
def test_agrees_with_the_code_named(vector: dict[str, Any]) -> None:
    keys = {KEYS[key]: value for key, value in vector.get("params", {}).items() if key in KEYS}
    measure, arguments = MEASURES[vector["metric"]], (vector["prediction"], vector["references"])
    expected = vector["expected"]
    if isinstance(expected, dict) and "error" in expected:
        with pytest.raises(ValueError, match=r"."):
            measure(*arguments, **keys)
    elif isinstance(expected, dict):  # a number that is none there: both are "nothing to divide by"
        metric = metrics.resolve({"wer_dinglehopper": "wer/uax29@1"}.get(vector["metric"], "ned/alnum@1"))
        found = metric.score(*arguments)
        assert found.denominator == 0
        assert (found.numerator > 0) == (expected == {"nonfinite": "inf"})
    elif isinstance(expected, str):
        assert measure(*arguments, **keys) == expected
    else:
        assert measure(*arguments, **keys) == pytest.approx(expected, abs=1e-12)


def test_every_vector_has_a_measure() -> None:
    assert {vector["metric"] for vector in DATA["vectors"]} == set(MEASURES)


def test_every_statistic_has_a_test() -> None:
    assert {vector["metric"] for vector in DATA["stat_vectors"]} == set(STATISTICS)
    written = "".join(
        (Path(__file__).parent / name).read_text("utf-8") for name in ("test_vectors.py", "test_paired.py")
    )
    assert not [name for name in STATISTICS.values() if f"def {name}(" not in written]


WILSON = [v for v in DATA["stat_vectors"] if v["metric"] == "wilson_ci95"]


@pytest.mark.parametrize("vector", WILSON, ids=lambda v: "{successes}-of-{n}".format(**v["inputs"]))
def test_wilson_agrees_with_statsmodels(vector: dict[str, Any]) -> None:
    assert wilson(**vector["inputs"]) == pytest.approx(vector["expected"], abs=1e-12)


@pytest.mark.parametrize("answer", ["it's", "let's", "she's", "somebody'd", "Im", "lets", "shes", "yalldve", "owsat"])
def test_contractions_that_the_table_does_not_complete_stay(answer: str) -> None:
    assert answers.vqa_fold(answer) == {"somebody'd": "somebodyd"}.get(answer, answer.lower())


ERRORS = [v for v in DATA["stat_vectors"] if v["metric"] in {"mean_stderr_lmms", "clustered_stderr_lmms"}]


@pytest.mark.parametrize("vector", ERRORS, ids=lambda v: f"{v['metric']}-{len(v['inputs']['scores'])}")
def test_standard_errors_agree_with_lmms_eval(vector: dict[str, Any]) -> None:
    inputs = vector["inputs"]
    clusters = [str(each) for each in inputs["cluster_ids"]] if "cluster_ids" in inputs else None
    found, expected = standard_error(inputs["scores"], clusters), vector["expected"]
    expected = math.nan if isinstance(expected, dict) else expected  # one score: NaN there, or an error
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


T_TESTS = [v for v in DATA["stat_vectors"] if v["metric"] == "paired_t_lmms"]


@pytest.mark.parametrize("vector", T_TESTS, ids=lambda v: str(v["inputs"]["current"]))
def test_paired_t_agrees_with_lmms_eval(vector: dict[str, Any]) -> None:
    expected, found = vector["expected"], paired_t(**vector["inputs"])
    t = -math.inf if isinstance(expected["t_stat"], dict) else expected["t_stat"]
    values = [expected[key] for key in ("mean_diff", "se_diff", "ci_lower", "ci_upper", "p_value")]
    assert [found.mean, found.error, found.low, found.high, found.p] == pytest.approx(values, abs=1e-12)
    assert found.t == pytest.approx(t, abs=1e-12)
