"""Two sets of predictions for the same samples compared: how far apart, how sure, and which samples changed.

Unpaired tests on paired data throw away most of their power, so both sides are resampled together, whole clusters at a
time. The interval is the paired percentile bootstrap, the p-value a sign-flip permutation test (Fisher, The Design of
Experiments, 1935, § 21): if the two sides were alike, it would not matter which of them a cluster's counts came from.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from vlmrecipes.evaluate.interval import percentiles
from vlmrecipes.evaluate.metric import Metric, Score
from vlmrecipes.evaluate.resample import Draws, Floats, bootstrap_totals, cluster_sums, flipped_totals, is_exact

LEVEL = 0.05
"""A difference is claimed where the test's p is under it."""
_TIE = 1e-12
"""Differences this close are equal: the same sum in another order."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What one side's samples add to a metric, in the order of the samples (`Score.numerator`, `Score.denominator`)."""

    numerators: Sequence[float]
    denominators: Sequence[float]
    """Reference lengths of an error rate; all 1 for a metric that is a mean of scores."""

    columns: Sequence[Sequence[float]] = ()
    """An even number of other counts, one entry a sample each, for a metric that is no ratio of sums (BLEU, chrF)."""
    whole: Callable[[Sequence[float]], float] | None = None
    """That metric's value from the sums of `columns`; the other two fields are then sentence scores, and 1."""

    @property
    def summed(self) -> Sequence[Sequence[float]]:
        """The columns whose sums decide the value."""
        return (self.numerators, self.denominators) if self.whole is None else self.columns

    @property
    def value(self) -> float | None:
        """The metric over all samples; None when there is nothing to divide by."""
        totals = [math.fsum(column) for column in self.summed]
        if self.whole is not None:
            return self.whole(totals)
        return totals[0] / totals[1] if totals[1] else None

    def values(self, totals: Floats) -> Floats:
        """Return the metric of each row of `totals`, sums of the columns of `summed`; NaN for x/0."""
        if self.whole is not None:
            return np.array([self.whole(row) for row in totals.tolist()])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(totals[:, 0] / totals[:, 1], dtype=np.float64)


def counts(metric: Metric, scores: Sequence[Score]) -> Counts:
    """Return what samples add to `metric`."""
    ratio = Counts([one.numerator for one in scores], [one.denominator for one in scores])
    if metric.whole is None or not scores:
        return ratio
    keys = sorted(scores[0].detail)
    columns = [[float(one.detail[key]) for one in scores] for key in keys]
    return Counts(ratio.numerators, ratio.denominators, columns, partial(metric.of_totals, keys))


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Side `b` against side `a`."""

    a: float | None
    b: float | None
    difference: float | None
    """`b` - `a`. None, as the two values, when there is nothing to divide by."""
    low: float | None
    high: float | None
    """95 % interval of the difference; None with fewer than two clusters."""
    p: float | None
    """Two-sided p-value of the permutation test."""
    p_method: Literal["permutation-exact", "permutation", "none"]
    """`permutation-exact`: every assignment was looked at, so p does not depend on the seed."""
    better: int
    worse: int
    equal: int
    """Samples on which `b` is better than `a`, worse, and the same."""
    verdict: Literal["better", "worse", "unclear"]
    """Whether `b` is better than `a`: the one rule for it is that p is under `LEVEL`, wherever the interval lies."""
    n: int
    clusters: int
    resamples: int
    seed: int


def compare(  # noqa: PLR0913 - two sides, their clusters, direction and draws
    a: Counts,
    b: Counts,
    clusters: Sequence[str] | None = None,
    *,
    lower_is_better: bool,
    resamples: int = 10_000,
    seed: int = 0,
) -> Paired:
    """Return how `b` differs from `a`; entry i of everything is about sample i.

    `clusters` names the image or group of each sample; None says that samples are independent. Neither the order of
    the samples nor the clusters' names change the result. Raises ValueError when the lengths differ.
    """
    n = len(a.numerators)
    draws = Draws(seed, resamples)
    labels = [str(number) for number in range(n)] if clusters is None else clusters
    sums, value_a, value_b = cluster_sums(labels, *a.summed, *b.summed), a.value, b.value
    difference = None if value_a is None or value_b is None else value_b - value_a
    less = partial(_differences, a, b)
    low, high = (None, None) if difference is None else _bounds(sums, difference, draws, less)
    p, method = (None, "none") if difference is None else _permuted(sums, difference, draws, less)
    better, worse = _changed(a, b, lower_is_better=lower_is_better)
    return Paired(
        a=value_a,
        b=value_b,
        difference=difference,
        low=low,
        high=high,
        p=p,
        p_method=method,
        better=better,
        worse=worse,
        equal=n - better - worse,
        verdict=_verdict(difference, p, lower_is_better=lower_is_better),
        n=n,
        clusters=len(sums),
        resamples=resamples,
        seed=seed,
    )


def too_few(clusters: int, tests: int = 1) -> str:
    """Return why no difference can be claimed on so few clusters, by the least p of `tests` corrected for; else nothing.

    Clusters have 2ⁿ assignments to two sides, of which the one seen and its mirror differ as much.
    """
    needed = next(count for count in itertools.count(1) if tests * 2.0 ** (1 - count) < LEVEL)
    if clusters >= needed:
        return ""
    return (
        f"only {clusters} groups: p cannot be under {LEVEL} with fewer than {needed}, so no difference can be claimed"
    )


def _verdict(
    difference: float | None, p: float | None, *, lower_is_better: bool
) -> Literal["better", "worse", "unclear"]:
    if not difference or p is None or p >= LEVEL:
        return "unclear"
    return "better" if (difference < 0) == lower_is_better else "worse"


Less = Callable[[Floats], Floats]
"""b's values less a's, of rows that hold the sums of both sides' columns."""


def _bounds(sums: Floats, difference: float, draws: Draws, less: Less) -> tuple[float | None, float | None]:
    if len(sums) < 2:  # noqa: PLR2004 - one cluster cannot show how clusters vary
        return None, None
    differences = less(bootstrap_totals(sums, draws))
    return percentiles(differences[np.isfinite(differences)], difference) or (None, None)


def _permuted(
    sums: Floats, difference: float, draws: Draws, less: Less
) -> tuple[float | None, Literal["permutation-exact", "permutation", "none"]]:
    """Return the share of assignments of the clusters' counts to sides that differ as much as the one seen."""
    half = sums.shape[1] // 2
    change = sums[:, half:] - sums[:, :half]
    change = change[change.any(axis=1)]
    if not draws.resamples:
        return None, "none"
    moved = flipped_totals(change, draws)
    totals = sums.sum(axis=0)
    extreme = np.abs(less(np.hstack([totals[:half] + moved, totals[half:] - moved]))) >= abs(difference) - _TIE
    if is_exact(len(change), draws):
        return float(extreme.mean()), "permutation-exact"
    # The assignment seen is one of the possible ones, so p is never 0 (Davison & Hinkley, Bootstrap Methods, § 4.2).
    return float(1 + extreme.sum()) / (1 + len(extreme)), "permutation"


def _differences(a: Counts, b: Counts, totals: Floats) -> Floats:
    half = totals.shape[1] // 2
    with np.errstate(invalid="ignore"):  # neither side has anything to divide by
        return np.asarray(b.values(totals[:, half:]) - a.values(totals[:, :half]), dtype=np.float64)


def _changed(a: Counts, b: Counts, *, lower_is_better: bool) -> tuple[int, int]:
    """Return on how many samples `b` is better, and on how many it is worse, by the samples' own rates."""
    rates = [_rates(side) for side in (a, b)]
    gain = rates[0] - rates[1] if lower_is_better else rates[1] - rates[0]
    return int((gain > _TIE).sum()), int((gain < -_TIE).sum())


def _rates(side: Counts) -> Floats:
    """Return each sample's rate; text read where there is none counts by its length, so that less is better."""
    bottom = np.asarray(side.denominators, dtype=np.float64)
    return np.asarray(side.numerators, dtype=np.float64) / np.where(bottom > 0, bottom, 1.0)


@dataclass(frozen=True, slots=True)
class McNemar:
    """Two sides that are right or wrong, compared on the samples where only one of them is right."""

    only_a: int
    only_b: int
    p: float
    """Two-sided exact p-value (binomial)."""
    p_chi2: float
    """Two-sided p-value of the chi-square with continuity correction, as other tools print it."""


def mcnemar(a_right: Sequence[bool], b_right: Sequence[bool]) -> McNemar:
    """Return McNemar's test (Psychometrika 12, 1947) of two sides on the same samples; they count as independent.

    Raises ValueError when the lengths differ.
    """
    pairs = list(zip(a_right, b_right, strict=True))
    only_a, only_b = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    return McNemar(only_a, only_b, mcnemar_exact(only_a, only_b), mcnemar_chi2(only_a, only_b))


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Return the probability that a fair coin divides the discordant pairs at least as unevenly, in (0, 1]."""
    n, fewer = only_a + only_b, min(only_a, only_b)
    tail: int = sum(math.comb(n, k) for k in range(fewer + 1))
    return float(min(1.0, 2 * tail / (1 << n)))


def mcnemar_chi2(only_a: int, only_b: int) -> float:
    """Return the p-value of (|only_a - only_b| - 1)² / (only_a + only_b) under chi-square with one degree of freedom."""
    n = only_a + only_b
    return math.erfc(abs(abs(only_a - only_b) - 1) / math.sqrt(2 * n)) if n else 1.0
