"""Duplicates and contaminated rows: which rows are left out, and for which row that stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from vlmrecipes.data.lookalikes import Look, Lookalikes
from vlmrecipes.data.sample import Split

Rank = tuple[int, int, str]
"""The lowest of a group stays: side declared, size (0 when it does not count), and a text from the row itself."""


class Twin(NamedTuple):
    """The row that is kept instead."""

    row: int
    distance: int
    """Bits of the 64-bit hash that differ; the most of any image."""


def rank(declared: Split | None, size: int, order: str) -> Rank:
    """Return the rank of a row.

    A row declared for eval stays before one that is not (a training copy of it would leak), one declared for train goes
    first (an undeclared copy may stand on the eval side already); then the larger stays, then the first by `order`.
    """
    return ("eval", None, "train").index(declared), -size, order


def exact_duplicates(contents: Sequence[str], ranks: Sequence[Rank]) -> dict[int, Twin]:
    """Return, for each row that repeats another's content, the row that is kept. The order of rows decides nothing."""
    kept: dict[str, int] = {}
    for row, content in enumerate(contents):
        best = kept.setdefault(content, row)
        if ranks[row] < ranks[best]:
            kept[content] = row
    return {row: Twin(kept[content], 0) for row, content in enumerate(contents) if kept[content] != row}


def near_duplicates(
    rows: Iterable[int],
    texts: Sequence[str],
    looks: Sequence[tuple[Look, ...]],
    alike: Lookalikes,
    ranks: Sequence[Rank],
) -> dict[int, Twin]:
    """Return, for each of `rows` whose text is a kept row's and whose every image is near that row's, the row kept.

    Going down the ranks, a row with no such kept row is kept: so every row left out is near the row it is left out for.
    """
    kept: dict[tuple[str, Look], list[int]] = defaultdict(list)
    twins: dict[int, Twin] = {}
    for row in sorted(rows, key=lambda row: ranks[row]):
        if not looks[row]:
            continue
        first = looks[row][0]
        near = (other for look in (first, *alike.near(first)) for other in kept[texts[row], look])
        found = [
            (distance, ranks[other], other)
            for other in near
            if (distance := apart(looks[row], looks[other], alike)) >= 0
        ]
        if found:
            twins[row] = Twin(min(found)[2], min(found)[0])
        else:
            kept[texts[row], first].append(row)
    return twins


def apart(looks: tuple[Look, ...], others: tuple[Look, ...], alike: Lookalikes) -> int:
    """Return the most bits by which images in the same place differ; -1 when some are not near, or the numbers differ."""
    if len(looks) != len(others):
        return -1
    found = [0 if one == other else alike.near(one).get(other, -1) for one, other in zip(looks, others, strict=True)]
    return -1 if min(found) < 0 else max(found)


def contaminated(
    rows: Iterable[int], looks: Sequence[tuple[Look, ...]], alike: Lookalikes, held: Mapping[Look, str]
) -> dict[int, tuple[str, int]]:
    """Return, for each of `rows` with an image near one of `held`, the name that `held` gives for it, and the distance."""
    found = {}
    for row in rows:
        near = [
            (distance, held[other])
            for look in looks[row]
            for other, distance in {look: 0, **alike.near(look)}.items()
            if other in held
        ]
        if near:
            distance, name = min(near)
            found[row] = (name, distance)
    return found
