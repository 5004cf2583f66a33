"""Several sides as a leaderboard: who is first, and who cannot be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from vlmrecipes.compare.pair import Scores, differences
from vlmrecipes.compare.sides import lower_is_better
from vlmrecipes.evaluate.paired import LEVEL


def pairs(names: Sequence[str], scores: Sequence[Scores], clusters: Sequence[str]) -> list[dict[str, Any]]:
    """Return `{a, b, metrics}` for every pair of sides, `p_holm` beside each `p`: corrected over the pairs, by metric."""
    sides = list(zip(names, scores, strict=True))
    found: list[dict[str, Any]] = [
        {"a": a, "b": b, "metrics": differences(before, after, clusters)}
        for (a, before), (b, after) in combinations(sides, 2)
    ]
    for metric in scores[0]:
        corrected = holm([pair["metrics"][metric]["p"] for pair in found])
        for pair, p in zip(found, corrected, strict=True):
            pair["metrics"][metric]["p_holm"] = p
    return found


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for their number (Holm, Scandinavian Journal of Statistics 6, 1979); None stays None."""
    order = sorted((p, place) for place, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    highest = 0.0
    for done, (p, place) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - done)))
        corrected[place] = highest
    return corrected


def leaderboard(
    names: Sequence[str], summaries: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Return for each metric the sides from best to worst: `{name, rank, value, low, high}`.

    Sides share a rank until one differs from any that is in it with a corrected p under 0.05, and opens the next. So no
    two sides of one rank can be told apart on these samples; of two ranks, neighbours may not be either.
    """
    separated = {
        (metric, frozenset((pair["a"], pair["b"])))
        for pair in found
        for metric, told in pair["metrics"].items()
        if told["p_holm"] is not None and told["p_holm"] < LEVEL
    }
    return {metric: _ranked(metric, names, summaries, separated) for metric in summaries[0]}


def _ranked(
    metric: str,
    names: Sequence[str],
    summaries: Sequence[Mapping[str, Any]],
    separated: set[tuple[str, frozenset[str]]],
) -> list[dict[str, Any]]:
    sign = 1.0 if lower_is_better(metric) else -1.0
    told = {name: summary[metric] for name, summary in zip(names, summaries, strict=True)}
    order = sorted(told, key=lambda name: (told[name]["value"] is None, sign * (told[name]["value"] or 0.0), name))
    same: list[str] = []
    rank, rows = 1, []
    for place, name in enumerate(order, 1):
        if any((metric, frozenset((other, name))) in separated for other in same):
            same, rank = [], place
        same.append(name)
        rows.append({"name": name, "rank": rank} | {key: told[name][key] for key in ("value", "low", "high")})
    return rows
