"""95 % intervals of a ratio of sums, from samples that come in clusters.

Rows of one image are not independent, so whole clusters are drawn, not rows: errors clustered by image can be several
times the naive ones (Miller, "Adding Error Bars to Evals", arXiv:2411.00640). The interval is the percentile bootstrap
(Efron & Tibshirani, An Introduction to the Bootstrap, ch. 13).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

from vlmrecipes.evaluate.resample import Draws, Floats, bootstrap_totals, cluster_sums

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEVEL = 0.95
_TAIL = (1.0 - LEVEL) / 2.0

Method = Literal["bootstrap", "wilson", "degenerate", "none"]


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the value may lie, and how that was found."""

    low: float | None
    high: float | None
    method: Method
    """How.

    - `bootstrap`: percentiles over resampled clusters.
    - `wilson`: every sample scored 0, or every sample 1, and no resample can show how much that could vary.
    - `degenerate`: all clusters have the same ratio, so `low` = `high` = the value; it is no sign of certainty.
    - `none`: one cluster, no sample, no reference text or no resample, so `low` and `high` are None.
    """


NONE = Interval(None, None, "none")


def interval(
    clusters: Sequence[str],
    numerators: Sequence[float],
    denominators: Sequence[float],
    *,
    bounded: bool,
    draws: Draws,
) -> Interval:
    """Return the 95 % interval of Σ numerators / Σ denominators; the three sequences hold one entry a sample.

    `bounded` says that each numerator is a score in [0, 1] over a denominator of 1.
    The value itself always lies within. The order of the samples does not matter.
    """
    sums = cluster_sums(clusters, numerators, denominators)
    if sums.shape[0] == 0 or not sums[:, 1].any():
        return NONE
    if bounded and len(extremes := set(numerators)) == 1 and extremes <= {0.0, 1.0}:
        return Interval(*wilson(len(sums) * int(extremes.pop()), len(sums)), "wilson")
    if len(sums) == 1:
        return NONE
    value = math.fsum(numerators) / math.fsum(denominators)
    found = percentiles(bootstrap(sums, draws), value)
    if found is None:
        return NONE
    return Interval(*found, "bootstrap" if _differ(sums) else "degenerate")


def interval_of(
    value: Callable[[Sequence[float]], float],
    clusters: Sequence[str],
    columns: Sequence[Sequence[float]],
    *,
    draws: Draws,
) -> Interval:
    """Return the 95 % interval of `value`, a function of the sums of `columns`, which hold one entry a sample each.

    The columns are an even number.
    """
    sums = cluster_sums(clusters, *columns)
    if len(sums) < 2:  # noqa: PLR2004 - one cluster cannot show how clusters vary
        return NONE
    totals = bootstrap_totals(sums, draws)
    found = percentiles(np.array([value(row) for row in totals.tolist()]), value(sums.sum(axis=0).tolist()))
    if found is None:
        return NONE
    return Interval(*found, "degenerate" if math.isclose(*found, rel_tol=1e-12) else "bootstrap")


def percentiles(resampled: Floats, value: float) -> tuple[float, float] | None:
    """Return the bounds that hold the middle 95 % of `resampled`, widened to `value`; None without resamples."""
    if not resampled.size:
        return None
    low, high = (float(bound) for bound in np.quantile(resampled, (_TAIL, 1.0 - _TAIL)))
    # Rounding, and a lone heavy cluster, can leave the value outside its own percentiles.
    return min(low, value), max(high, value)


def bootstrap(sums: Floats, draws: Draws) -> Floats:
    """Return the ratio of sums of each resample of the rows of `sums`, at most `draws.resamples` of them.

    Equal rows and draws give equal ratios. Resamples without any reference length have no ratio and are left out.
    """
    totals = bootstrap_totals(sums, draws)
    totals = totals[totals[:, 1] > 0]
    return np.asarray(totals[:, 0] / totals[:, 1], dtype=np.float64)


def _differ(sums: Floats) -> bool:
    """Tell whether any two clusters have different ratios."""
    numerator, denominator = sums.sum(axis=0)
    return not np.allclose(sums[:, 0] * denominator, sums[:, 1] * numerator, rtol=1e-12, atol=0.0)


def wilson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson, JASA 22, 1927); `n` at least 1."""
    z = NormalDist().inv_cdf((1.0 + level) / 2.0)
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2.0) / (1.0 + spread)
    half = z * math.sqrt(share * (1.0 - share) / n + spread / (4.0 * n)) / (1.0 + spread)
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def standard_error(scores: Sequence[float], clusters: Sequence[str] | None = None) -> float:
    """Return the standard error of the mean of scores, with covariance inside clusters (Miller, eq. 4); NaN below two.

    lmms-eval prints the same number; intervals here are bootstrapped instead.
    """
    n = len(scores)
    if n < 2:  # noqa: PLR2004 - one score does not vary
        return math.nan
    mean = math.fsum(scores) / n
    off = [score - mean for score in scores]
    squares = math.fsum(each * each for each in off)
    totals = cluster_sums([str(i) for i in range(n)] if clusters is None else clusters, off)
    covariance = math.fsum((totals[:, 0] ** 2).tolist()) - squares
    return math.sqrt(max(0.0, squares / (n - 1) / n + covariance / n**2))
