import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmrecipes.evaluate.interval import Interval, bootstrap, interval, wilson
from vlmrecipes.evaluate.resample import Draws, cluster_sums

Row = tuple[str, int, int]
DRAWS = Draws(seed=1, resamples=200)
ROWS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20)


def of(rows: Sequence[Row], *, bounded: bool = False, draws: Draws = DRAWS) -> Interval:
    clusters = [row[0] for row in rows]
    numerators, denominators = [float(row[1]) for row in rows], [float(row[2]) for row in rows]
    return interval(clusters, numerators, denominators, bounded=bounded, draws=draws)


def bounds(rows: Sequence[Row]) -> tuple[float, float]:
    found = of(rows)
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


@settings(deadline=None)
@given(rows=ROWS, shuffle=st.randoms(use_true_random=False))
def test_the_value_lies_within_and_order_does_not_matter(rows: Sequence[Row], shuffle: random.Random) -> None:
    found = of(rows)
    other = list(rows)
    shuffle.shuffle(other)
    assert of(other) == found
    if found.low is not None and found.high is not None:
        assert found.low <= sum(row[1] for row in rows) / sum(row[2] for row in rows) <= found.high


def test_equal_draws_give_equal_intervals_and_other_seeds_others() -> None:
    rows = [(str(i), i % 7, 10) for i in range(40)]
    assert of(rows) == of(rows)
    assert of(rows) != of(rows, draws=Draws(seed=2, resamples=200))


def test_nothing_is_said_of_no_samples_one_cluster_or_no_text() -> None:
    nothing = Interval(None, None, "none")
    assert of([]) == nothing
    assert of([("a", 1, 2), ("a", 2, 2)]) == nothing
    assert of([("a", 1, 0), ("b", 1, 0)]) == nothing
    assert of([("a", 1, 2), ("b", 2, 2)], draws=Draws(resamples=0)) == nothing


@pytest.mark.parametrize("right", [0, 1])
def test_all_right_or_all_wrong_takes_wilson_over_clusters(right: int) -> None:
    rows = [("a", right, 1), ("a", right, 1), ("b", right, 1), ("c", right, 1)]
    assert of(rows, bounded=True) == Interval(*wilson(3 * right, 3), "wilson")
    assert of(rows, bounded=False) == Interval(right, right, "degenerate")


def test_clusters_widen_the_interval() -> None:
    low, high = bounds([(str(i), i // 10 % 2, 1) for i in range(100)])
    clustered_low, clustered_high = bounds([(str(i // 10), i // 10 % 2, 1) for i in range(100)])
    assert clustered_high - clustered_low > 2 * (high - low)


def test_bootstrap_width_is_that_of_theory() -> None:
    rows = np.random.default_rng(3).integers(0, 2, 400).astype(float)
    ratios = bootstrap(np.stack([rows, np.ones(400)], axis=1), Draws(seed=0, resamples=4000))
    assert ratios.std() == pytest.approx(rows.std() / 20, rel=0.05)
    assert ratios.mean() == pytest.approx(rows.mean(), abs=0.002)


def test_memory_is_bounded_by_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = cluster_sums([str(i) for i in range(50)], [float(i % 3) for i in range(50)], [2.0] * 50)
    whole = bootstrap(sums, DRAWS)
    monkeypatch.setattr("vlmrecipes.evaluate.resample._CELLS", 700)
    assert len(bootstrap(sums, DRAWS)) == len(whole) == 200


def test_about_95_percent_of_intervals_hold_the_truth() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = bounds([(str(i), int(n), 20) for i, n in enumerate(generator.binomial(20, 0.3, 60))])
        hits += low <= 0.3 <= high
    assert 180 <= hits <= 199
