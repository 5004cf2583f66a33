"""The verb: sides read, held against each other, told as JSON and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.compare import page
from vlmrecipes.compare.attribution import attribution, changed_data
from vlmrecipes.compare.pair import Scores, Sizes, breakdown, differences
from vlmrecipes.compare.ranking import leaderboard, pairs
from vlmrecipes.compare.sides import Common, Side, chosen_metrics, common_part, notes, scored, sides
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.errors import InputError, VlmRecipesError
from vlmrecipes.progress import say
from vlmrecipes.records import atomic, stored

FEWEST = 2


def compare_runs(
    names: Sequence[str], *, store: str, metrics: Sequence[str] = (), output: Path | None = None
) -> dict[str, Any]:
    """Return the JSON object of `vlmrecipes compare`, and write its HTML page to `output` when one is given.

    `names` are runs, or `RUN:base` for the untuned model of one; every metric is computed anew from the stored
    predictions of the samples that all have in common. Two sides: `a, b, metrics, n, better, worse, equal, common, notes,
    breakdown`; with different snapshots also `data`, what changed between them, and with different eval sides
    `attribution`, which change is the data's and which the model's. More: `sides, leaderboard, pairs, n, common, notes`.
    `better` and `worse` count samples on which b gained or lost by the first metric.

    Raises InputError for runs and metrics that are not there, and for runs without a common sample.
    """
    if len(names) < FEWEST:
        raise InputError.one("two runs are compared, or more: name another, or RUN:base for a run's untuned model")
    found = sides(names, store)
    common = common_part(found)
    wanted = chosen_metrics(found, metrics)
    told = [scored(side, common, wanted) for side in found]
    about = {"n": len(common.ids), "common": _common(common), "notes": notes(found, common)}
    scores = [rows for _, rows in told]
    if len(found) == FEWEST:
        view = _pair(found, common, scores, _sizes(found[0], store)) | about
        view |= _data(found, common, wanted, store)
    else:
        view = _board(found, common, scores, [summary for summary, _ in told]) | about
    if output is not None:
        atomic.write_asked(output, _page(view, found, common, scores, store))
        view["path"] = str(output.absolute())
    return view


def rank_runs(names: Sequence[str], *, store: str, metrics: Sequence[str] = ()) -> dict[str, Any]:
    """Return the leaderboard of runs, two or more: `sides, leaderboard, pairs, n, common, notes`. Raises as `compare_runs`."""
    found = sides(names, store)
    common = common_part(found)
    told = [scored(side, common, chosen_metrics(found, metrics)) for side in found]
    view = _board(found, common, [rows for _, rows in told], [summary for summary, _ in told])
    return view | {"n": len(common.ids), "common": _common(common), "notes": notes(found, common)}


def _pair(found: Sequence[Side], common: Common, scores: Sequence[Scores], sizes: Sizes) -> dict[str, Any]:
    (a, b), (before, after) = found, scores
    metrics = differences(before, after, _clusters(a, common))
    first = next(iter(metrics.values()))
    return {
        "a": a.about(),
        "b": b.about(),
        "metrics": metrics,
        **{key: first[key] for key in ("better", "worse", "equal")},
        "breakdown": breakdown(before, after, a, common, sizes),
    }


def _data(found: Sequence[Side], common: Common, metrics: Sequence[str], store: str) -> dict[str, Any]:
    """Return `data` and `attribution` where there is something to tell; what is not in the store any more is said."""
    a, b = found
    try:
        data = changed_data(a, b, store)
        told = {} if common.whole else {"attribution": attribution(a, b, metrics, store)}
    except VlmRecipesError as error:
        say(f"what changed in the data is not known: {error}")
        return {}
    return ({"data": data} if data else {}) | told


def _board(
    found: Sequence[Side], common: Common, scores: Sequence[Scores], summaries: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    names = [side.name for side in found]
    every = pairs(names, scores, _clusters(found[0], common))
    ranks = leaderboard(names, summaries, every)
    return {"sides": [side.about() for side in found], "leaderboard": ranks, "pairs": every}


def _clusters(side: Side, common: Common) -> list[str]:
    return [side.rows[key]["group"] for key in common.ids]


def _page(view: dict[str, Any], found: Sequence[Side], common: Common, scores: Sequence[Scores], store: str) -> bytes:
    if len(found) == FEWEST:
        return page.pair(view, found, common, scores, stored.images(store, [found[0].folder]))
    return page.board(view, found)


def _common(common: Common) -> dict[str, Any]:
    only = dict(zip(("only_a", "only_b"), common.only, strict=True)) if len(common.only) == FEWEST else {}
    return {
        "n": len(common.ids),
        **only,
        "only": list(common.only),
        "changed": common.changed,
        "same_snapshot": common.same_snapshot,
    }


def _sizes(side: Side, store: str) -> Sizes:
    """Return the sizes of the images in the snapshots that were scored; what is gone is left out."""
    found: dict[str, tuple[int, int]] = {}
    for name in side.about()["snapshots"]:
        try:
            found |= open_snapshot(store, name).sizes()
        except VlmRecipesError as error:
            say(f"sizes of the images of {name} are not known: {error}")
    return found
