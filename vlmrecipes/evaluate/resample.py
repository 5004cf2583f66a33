"""Resampled totals of clusters: what bootstrap intervals and permutation tests are made of.

Every function takes one row a cluster, in a fixed order, and gives one row a resample: the same rows and the same seed
give the same totals on any machine. Memory does not grow with the number of clusters beyond the rows themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

MANY = 10_000
"""Above this many clusters they are given random weights, which takes a tenth of the time of drawing them."""
ALIKE = 64
"""Rows for each different one from which counting equal rows is faster than weighting each."""
_CELLS = 1 << 16
"""Draws held at once: half a megabyte, so that they stay in the processor's cache."""
_BITS = 8
_SUBSETS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").astype(np.float64)
"""Row `b` has a 1 where `b` has a bit."""

# A weight is BASE + RARE · [probability 1/4] + EVEN · [probability 1/2]: its mean, variance and third central
# moment are all 1, as those of the number of times that a bootstrap draws a row.
RARE = (32 / 3) ** (1 / 3)
EVEN = 2 * math.sqrt(1 - 3 * RARE**2 / 16)
BASE = 1 - RARE / 4 - EVEN / 2


@dataclass(frozen=True, slots=True)
class Draws:
    """What makes a resampling repeatable."""

    seed: int = 0
    resamples: int = 10_000
    """0 asks for no intervals but the Wilson ones."""

    def generator(self) -> np.random.Generator:
        """Return the source of random numbers at its start."""
        return np.random.Generator(np.random.PCG64(self.seed))


def cluster_sums(clusters: Sequence[str], *columns: Sequence[float]) -> Floats:
    """Return one row a cluster: the sum of each of the `columns`, which hold one entry a sample; shape (clusters, columns).

    The rows are sorted, so neither the order of the samples nor the names of the clusters can show in a resample.
    """
    if len(set(clusters)) == len(clusters):
        table = np.array(columns, dtype=np.float64).reshape(len(columns), -1)
        return np.ascontiguousarray(table[:, np.lexsort(table[::-1])].T)
    members: dict[str, list[tuple[float, ...]]] = {}
    for cluster, *values in zip(clusters, *columns, strict=True):
        members.setdefault(cluster, []).append(tuple(values))
    # fsum is exact, so the order of samples cannot show in the last bit.
    rows = sorted(
        rows[0] if len(rows) == 1 else tuple(map(math.fsum, zip(*rows, strict=True))) for rows in members.values()
    )
    return np.array(rows, dtype=np.float64).reshape(-1, len(columns))


def bootstrap_totals(sums: Floats, draws: Draws) -> Floats:
    """Return the totals of each resample of the rows of `sums`: (resamples, columns) from (clusters, columns).

    Up to `MANY` rows, each resample draws as many rows as there are, with replacement (Efron & Tibshirani, An
    Introduction to the Bootstrap, ch. 6). Above, each row gets an independent random weight of mean, variance and third
    central moment 1 (the exchangeably weighted bootstrap of Praestgaard & Wellner, Annals of Probability 21, 1993): the
    totals' first three moments are those of drawing, up to the random total weight, which a ratio of sums cancels.
    Where few of the rows differ, as counts of errors do, it is drawn instead how often each of the different ones comes.
    """
    if len(sums) <= MANY:
        return _drawn(sums, draws)
    different, counts = np.unique(sums, axis=0, return_counts=True)
    return _counted(different, counts, draws) if ALIKE * len(different) <= len(sums) else _weighted(sums, draws)


def _drawn(sums: Floats, draws: Draws) -> Floats:
    generator, count = draws.generator(), len(sums)
    step = max(1, _CELLS // max(count, 1))
    totals = np.empty((draws.resamples, sums.shape[1]))
    for start in range(0, draws.resamples, step):
        chunk = totals[start : start + step]
        rows = generator.integers(0, count, size=(len(chunk), count), dtype=np.int32)
        for column in range(sums.shape[1]):
            np.sum(sums[:, column].take(rows), axis=1, out=chunk[:, column])
    return totals


def _counted(different: Floats, counts: npt.NDArray[np.int64], draws: Draws) -> Floats:
    """Draw as `_drawn` does, by the multinomial counts of equal rows."""
    generator, rows = draws.generator(), int(counts.sum())
    step = max(1, _CELLS // len(different))
    starts = range(0, draws.resamples, step)
    drawn = (generator.multinomial(rows, counts / rows, min(step, draws.resamples - start)) for start in starts)
    return np.concatenate([np.empty((0, different.shape[1])), *(each @ different for each in drawn)])


def _weighted(sums: Floats, draws: Draws) -> Floats:
    masks = _random_masks(draws)
    rare = subset_totals(sums, (mask & next(masks) for mask in masks), draws.resamples)
    even = subset_totals(sums, masks, draws.resamples)
    return np.asarray(BASE * sums.sum(axis=0) + RARE * rare + EVEN * even, dtype=np.float64)


def flipped_totals(rows: Floats, draws: Draws) -> Floats:
    """Return totals of random subsets of `rows`, each row in with probability 1/2: (subsets, columns).

    All 2ⁿ subsets, once each, when those are no more than `draws.resamples`; else `draws.resamples` random ones.
    """
    if is_exact(len(rows), draws):
        codes = np.arange(1 << len(rows), dtype=np.int64)
        every = ((codes >> start & 0xFF).astype(np.uint8) for start in range(0, len(rows), _BITS))
        return subset_totals(rows, every, len(codes))
    return subset_totals(rows, _random_masks(draws), draws.resamples)


def is_exact(rows: int, draws: Draws) -> bool:
    """Tell whether `flipped_totals` of so many rows goes through all subsets."""
    return rows < draws.resamples.bit_length() and 1 << rows <= draws.resamples


def subset_totals(rows: Floats, masks: Iterable[Bytes], count: int) -> Floats:
    """Return the totals of `count` subsets of `rows`; the columns are pairs, so their number is even.

    Each of `masks` tells for the next eight rows, with a bit a row and an entry a subset, which rows are in. The 256
    possible totals of eight rows are tabulated first ("four Russians": Arlazarov et al., 1970).
    """
    # A numerator and its denominator are looked up as one complex number: half the look-ups.
    pairs = np.ascontiguousarray(rows).view(np.complex128)
    totals = np.zeros((pairs.shape[1], count), dtype=np.complex128)
    for start, mask in zip(range(0, len(rows), _BITS), masks, strict=False):
        block = pairs[start : start + _BITS]
        for column, table in enumerate((_SUBSETS[:, : len(block)] @ block).T):
            totals[column] += table.take(mask)
    return np.ascontiguousarray(totals.T).view(np.float64)


def _random_masks(draws: Draws) -> Iterator[Bytes]:
    generator = draws.generator()
    while True:
        yield np.frombuffer(generator.bytes(draws.resamples), dtype=np.uint8)
