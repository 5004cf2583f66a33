"""Exact duplicates: which rows are kept."""

from __future__ import annotations

from collections.abc import Sequence

from vlmrecipes.data.sample import Split


def exact_duplicates(contents: Sequence[str], declared: Sequence[Split | None], order: Sequence[str]) -> dict[int, int]:
    """Return, for each row that repeats another's content, the row that is kept.

    Of rows with equal `contents` the one declared for eval is kept before one that is not (a training copy of it would
    leak), one declared for train last (an undeclared copy may stand on the eval side already), then the first by
    `order`: a text from the row itself, so that the order of rows decides nothing.
    """
    kept: dict[str, int] = {}
    for row, content in enumerate(contents):
        best = kept.setdefault(content, row)
        if _rank(row, declared, order) < _rank(best, declared, order):
            kept[content] = row
    return {row: kept[content] for row, content in enumerate(contents) if kept[content] != row}


def _rank(row: int, declared: Sequence[Split | None], order: Sequence[str]) -> tuple[int, str]:
    return ("eval", None, "train").index(declared[row]), order[row]
