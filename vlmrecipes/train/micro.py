"""A step's rows cut into micro-batches by a budget of tokens, so that short rows are not padded to the longest page.

The loss of a step is the sum over all its learned tokens divided by their number, whatever the cut: gradients are those of
one batch of all rows, up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmrecipes.train.collate import Collator

START = 512
"""What computing one more micro-batch costs besides its tokens, in tokens."""


def cut(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Return row numbers in micro-batches, long rows first, each of at most `budget` tokens with padding, or of one row.

    Among all cuts of the rows in order of length, this one costs least: rows times the longest of them, and `START` each.
    Found by dynamic programming over the rows that the first micro-batches hold.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(order) + 1):
        starts = [start for start in range(end) if start == end - 1 or _cost(lengths, order, start, end) <= budget]
        best.append(min((best[start][0] + _cost(lengths, order, start, end) + START, start) for start in starts))
    found, end = [], len(order)
    while end:
        start = best[end][1]
        found.append(order[start:end])
        end = start
    return found[::-1]


def _cost(lengths: Sequence[int], order: Sequence[int], start: int, end: int) -> int:
    return lengths[order[start]] * (end - start)


@dataclass(slots=True)
class MicroCollator:
    """Collates a step's rows, which say their `tokens`, into `{"micros": [batch, …]}`. May be pickled."""

    collator: Collator
    budget: int
    """Tokens."""
    apart: bool = False
    """Whether rows with pictures and rows without never share a batch."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """Return the micro-batches, each as `collator` makes it. Raises as it does."""
        kinds = {self.apart and bool(row["images"]) for row in rows}
        groups = [[row for row in rows if (self.apart and bool(row["images"])) == kind] for kind in sorted(kinds)]
        return {"micros": [self.collator(some) for group in groups for some in self._cut(group)]}

    def _cut(self, rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
        return [[rows[place] for place in some] for some in cut([row["tokens"] for row in rows], self.budget)]
