"""The paired t-test (Student, "The probable error of a mean", Biometrika 6, 1908), as other tools print it.

Comparisons here rest on resampling; this is for holding a number against one from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from statistics import NormalDist

_TINY = 1e-300
"""Stands for a denominator of 0 in a continued fraction."""
_ROUNDING = 1e-15
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class PairedT:
    """The mean of the samples' differences, `current` less `baseline`."""

    mean: float
    error: float
    """Standard error of the mean."""
    low: float
    high: float
    """95 % interval."""
    t: float
    p: float
    """Two-sided."""


def paired_t(current: Sequence[float], baseline: Sequence[float]) -> PairedT:
    """Return the test of two sides' scores on the same samples; the samples count as independent and are at least two.

    Differences that are all the same leave nothing to estimate the error from: p is 1 if they are 0, else 0.
    """
    off = [a - b for a, b in zip(current, baseline, strict=True)]
    n = len(off)
    mean = math.fsum(off) / n
    error = math.sqrt(math.fsum((each - mean) ** 2 for each in off) / (n - 1) / n)
    if not error:
        t = math.copysign(math.inf, mean) if mean else 0.0
        return PairedT(mean, 0.0, mean, mean, t, 0.0 if mean else 1.0)
    half = quantile(_LEVEL, n - 1) * error
    return PairedT(mean, error, mean - half, mean + half, mean / error, two_sided(mean / error, n - 1))


def two_sided(t: float, freedom: int) -> float:
    """Return the probability of a t at least as far from 0 with so many degrees of freedom."""
    return _beta_share(freedom / (freedom + t * t), freedom / 2, 0.5)


def quantile(level: float, freedom: int) -> float:
    """Return the t that the middle `level` of the distribution lies within, by halving."""
    low, high = 0.0, NormalDist().inv_cdf((1 + level) / 2)
    while two_sided(high, freedom) > 1 - level:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if two_sided(middle, freedom) > 1 - level else (low, middle)
    return high


def _beta_share(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b) by its continued fraction (NIST DLMF 8.17.22).

    The fraction is evaluated by Lentz's method (Press et al., Numerical Recipes, 5.2); it converges fast on one side.
    """
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta_share(1 - x, b, a)
    if not x:
        return 0.0
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    upper, lower, fraction = math.inf, 1.0, 1.0
    for m in count(1):
        term = _coefficient(m, x, a, b)
        upper, lower = 1.0 + term / upper or _TINY, 1.0 / (1.0 + term * lower or _TINY)
        fraction *= upper * lower
        if abs(upper * lower - 1.0) < _ROUNDING:
            break
    return math.exp(scale) / a * fraction


def _coefficient(m: int, x: float, a: float, b: float) -> float:
    """Return the fraction's `m`-th coefficient, from 1."""
    half = m // 2
    if m % 2:
        return -(a + half) * (a + b + half) * x / ((a + m - 1) * (a + m))
    return half * (b - half) * x / ((a + m - 1) * (a + m))
