import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vlmrecipes.evaluate import resample
from vlmrecipes.evaluate.metrics import resolve
from vlmrecipes.evaluate.paired import Counts, compare, mcnemar, mcnemar_chi2, mcnemar_exact, too_few
from vlmrecipes.evaluate.paired import counts as counts_of
from vlmrecipes.evaluate.resample import Draws, bootstrap_totals, cluster_sums, subset_totals

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "metric_vectors.json").read_text("utf-8"))["stat_vectors"]
ROWS = st.lists(
    st.tuples(st.sampled_from("abcdef"), *[st.integers(0, 9)] * 4), min_size=1, max_size=20
)  # cluster, a's counts, b's counts


def vectors(metric: str) -> list[Any]:
    return [pytest.param(v["inputs"], v["expected"], id=str(v["inputs"])) for v in VECTORS if v["metric"] == metric]


def counts(scores: Sequence[float]) -> Counts:
    return Counts(scores, [1.0] * len(scores))


@pytest.mark.parametrize(("inputs", "expected"), vectors("paired_signflip_exact_p"))
def test_permutation_agrees_with_full_enumeration(inputs: dict[str, Any], expected: float) -> None:
    found = compare(counts(inputs["baseline"]), counts(inputs["current"]), lower_is_better=False)
    assert found.p == pytest.approx(expected, abs=1e-15)
    assert found.p_method == "permutation-exact"


@pytest.mark.parametrize(("inputs", "expected"), vectors("mcnemar_exact_p"))
def test_mcnemar_agrees_with_statsmodels(inputs: dict[str, int], expected: float) -> None:
    assert mcnemar_exact(*inputs.values()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("inputs", "expected"), vectors("mcnemar_cc_chi2_p"))
def test_corrected_mcnemar_agrees_with_statsmodels(inputs: dict[str, int], expected: float) -> None:
    assert mcnemar_chi2(*inputs.values()) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_counts_who_alone_is_right() -> None:
    found = mcnemar([True, True, False, True], [True, False, True, False])
    assert (found.only_a, found.only_b, found.p) == (2, 1, 1.0)
    with pytest.raises(ValueError, match="shorter"):
        mcnemar([True], [])


@pytest.mark.parametrize(("groups", "verdict"), [(5, "unclear"), (6, "better")])
def test_a_difference_is_claimed_by_p_alone_and_not_on_too_few_groups(groups: int, verdict: str) -> None:
    found = compare(counts([0.5] * groups), counts([0.9] * groups), lower_is_better=False)
    assert (found.low or 0) > 0, "the interval leaves zero out either way"
    assert found.verdict == verdict
    assert compare(counts([0.5] * groups), counts([0.9] * groups), lower_is_better=True).verdict in ("unclear", "worse")
    assert bool(too_few(groups)) == (verdict == "unclear")
    assert too_few(groups, tests=3), "corrected for three tests, six groups are too few as well"


@settings(deadline=None, max_examples=50)
@example(rows=[("a", 0, 0, 0, 0), ("a", 1, 0, 1, 0), ("b", 0, 1, 0, 1)], shuffle=random.Random(0))
@given(rows=ROWS, shuffle=st.randoms(use_true_random=False))
def test_neither_order_nor_names_of_clusters_matter(rows: list[Any], shuffle: random.Random) -> None:
    def of(rows: list[Any], names: str) -> object:
        clusters, *columns = zip(*rows, strict=True)
        a, b = Counts(columns[0], columns[1]), Counts(columns[2], columns[3])
        labels = [names["abcdef".index(label)] for label in clusters]
        return compare(a, b, labels, lower_is_better=True, resamples=20)

    other = list(rows)
    shuffle.shuffle(other)
    assert of(other, "zyxwvu") == of(rows, "abcdef")


@settings(deadline=None, max_examples=50)
@given(rows=ROWS)
def test_sides_exchanged_turn_the_sign(rows: list[Any]) -> None:
    clusters, *columns = zip(*rows, strict=True)
    a, b = Counts(columns[0], columns[1]), Counts(columns[2], columns[3])
    there, back = (compare(*sides, clusters, lower_is_better=True, resamples=300) for sides in ((a, b), (b, a)))
    assert (there.better, there.worse, there.equal) == (back.worse, back.better, back.equal)
    assert (there.p, there.p_method) == (pytest.approx(back.p), back.p_method)
    if there.difference is not None:
        assert there.difference == -back.difference
        if there.low is not None:
            assert there.low <= there.difference <= there.high


def test_a_side_against_itself_differs_nowhere() -> None:
    side = Counts([1, 2, 3], [4, 5, 6])
    found = compare(side, side, lower_is_better=True)
    assert (found.difference, found.low, found.high, found.p, found.equal) == (0, 0, 0, 1, 3)


def test_better_means_lower_only_for_error_rates() -> None:
    a, b = counts([0.0, 0.5, 1.0]), counts([1.0, 0.5, 1.0])
    assert [getattr(compare(a, b, lower_is_better=False), key) for key in ("better", "worse", "equal")] == [1, 0, 2]
    assert [getattr(compare(a, b, lower_is_better=True), key) for key in ("better", "worse", "equal")] == [0, 1, 2]


def test_clusters_make_it_less_sure() -> None:
    a, b = counts([0.0] * 60), counts([1.0] * 45 + [0.0] * 15)
    alone = compare(a, b, lower_is_better=False)
    by_page = compare(a, b, [str(i // 15) for i in range(60)], lower_is_better=False)
    assert alone.p_method == "permutation"
    assert alone.p < 0.001 < by_page.p == 0.25
    assert by_page.high - by_page.low > 2 * (alone.high - alone.low)


def test_nothing_is_said_where_there_is_nothing_to_compare() -> None:
    empty = compare(Counts([], []), Counts([], []), lower_is_better=True)
    assert (empty.difference, empty.low, empty.p, empty.p_method, empty.n) == (None, None, None, "none", 0)
    one = compare(counts([0.0]), counts([1.0]), lower_is_better=False)
    assert (one.difference, one.low, one.p) == (1, None, 1)


def test_the_permutation_test_rejects_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    p = [
        compare(counts(x), counts(y), lower_is_better=True, resamples=200).p
        for x, y in generator.normal(size=(300, 2, 20)).tolist()
    ]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09


@pytest.mark.parametrize("alike", [64, 3000], ids=["counted", "weighted"])
def test_resampling_many_rows_spreads_as_drawing_does(alike: int, monkeypatch: pytest.MonkeyPatch) -> None:
    numerators = np.random.default_rng(1).poisson(2, 3000).astype(float)
    sums = cluster_sums([str(i) for i in range(3000)], numerators.tolist(), [10.0] * 3000)
    drawn = bootstrap_totals(sums, Draws(resamples=4000))
    monkeypatch.setattr(resample, "MANY", 10)
    monkeypatch.setattr(resample, "ALIKE", alike)
    weighted = bootstrap_totals(sums, Draws(resamples=4000))
    assert np.array_equal(weighted, bootstrap_totals(sums, Draws(resamples=4000)))
    assert not np.array_equal(drawn, weighted)
    for quantile in (0.025, 0.5, 0.975):
        ours, theirs = (np.quantile(totals[:, 0] / totals[:, 1], quantile) for totals in (weighted, drawn))
        assert ours == pytest.approx(theirs, abs=0.15 * drawn[:, 0].std() / drawn[0, 1])


def test_a_weight_has_the_moments_of_a_poisson_count() -> None:
    values = [
        (resample.BASE + rare * resample.RARE + even * resample.EVEN, (1 + 2 * (not rare)) / 8)
        for rare in (0, 1)
        for even in (0, 1)
    ]
    mean = sum(p * value for value, p in values)
    assert [mean, *(sum(p * (value - mean) ** k for value, p in values) for k in (2, 3))] == pytest.approx([1, 1, 1])


@given(rows=st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), max_size=20), seed=st.integers(0, 99))
def test_subset_totals_are_totals_of_subsets(rows: list[tuple[int, int]], seed: int) -> None:
    chosen = np.random.default_rng(seed).integers(0, 2, (5, 24), dtype=np.uint8)
    masks = np.packbits(chosen, axis=1, bitorder="little").T
    table = np.array(rows, dtype=np.float64).reshape(-1, 2)
    assert np.array_equal(subset_totals(table, masks, 5), chosen[:, : len(rows)] @ table)


CAPTIONS = [
    ("a dog runs on the wet grass", "a dog runs over wet grass", "dog grass"),
    ("two people ride a red bus", "two people ride a bus in town", "a red bus"),
    ("the cat sleeps on a chair", "the cat sleeps on the chair", "a cat"),
    ("a plate of food on a table", "a plate with food on a table", "food on a table"),
]


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_corpus_metrics_are_compared_as_a_whole(name: str) -> None:
    references = [[row[0]] for row in CAPTIONS]
    metric = resolve(name)
    assert metric.corpus is not None
    sides = [counts_of(metric, metric.corpus([row[side] for row in CAPTIONS], references)) for side in (1, 2)]
    found = compare(*sides, lower_is_better=False)
    library = getattr(sacrebleu, f"corpus_{name}")
    values = [library([row[side] for row in CAPTIONS], [[row[0] for row in CAPTIONS]]).score for side in (1, 2)]
    assert [found.a, found.b] == pytest.approx(values)
    assert found.difference == pytest.approx(values[1] - values[0])
    assert (found.better, found.worse) == (0, 4)
    assert found.high is not None
    assert found.high < 0
    assert (found.p, found.p_method) == (pytest.approx(enumerated(name, values[1] - values[0])), "permutation-exact")
    assert compare(sides[1], sides[0], lower_is_better=False).p == pytest.approx(found.p)


def enumerated(name: str, seen: float) -> float:
    """Return the share of all exchanges of captions between the sides that differ as much, by the library itself."""
    library, extreme = getattr(sacrebleu, f"corpus_{name}"), 0
    for swaps in itertools.product((1, 2), repeat=len(CAPTIONS)):
        one = [row[side] for row, side in zip(CAPTIONS, swaps, strict=True)]
        other = [row[3 - side] for row, side in zip(CAPTIONS, swaps, strict=True)]
        scores = [library(said, [[row[0] for row in CAPTIONS]]).score for said in (one, other)]
        extreme += abs(scores[1] - scores[0]) >= abs(seen) - 1e-9
    return extreme / 2 ** len(CAPTIONS)
