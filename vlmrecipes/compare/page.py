"""A comparison as one page that a person understands at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmrecipes.compare.pair import Scores, gains
from vlmrecipes.compare.sides import Common, Side
from vlmrecipes.page import charts, formats, html, pictures
from vlmrecipes.records import examples
from vlmrecipes.records.stored import Images

HOME = "vlmrecipes.compare"
MOST, WIDTH = 12, 420
"""Samples shown of those that got worse, and of those that got better; and the width of their pictures in pixels."""


@dataclass(frozen=True, slots=True)
class Headline:
    """One metric of a pair, in words and as marks."""

    name: str
    spec: str
    a: str
    b: str
    verdict: str
    """`better`, `worse` or `unclear`."""
    sentence: str
    test: str
    counts: tuple[charts.Share, ...]
    plot: charts.Spans | None


def pair(
    view: Mapping[str, Any], found: Sequence[Side], common: Common, scores: Sequence[Scores], images: Images
) -> bytes:
    """Return the page of two sides: what changed, how sure that is, where, and the samples that changed most."""
    metric = next(iter(view["metrics"]))
    groups = _changed(found, common, scores, metric)
    shown = [key for group in groups for each in group.examples for key in each.images]
    return html.render(
        HOME,
        "pair.html.jinja",
        title=_title(*found),
        pictures=pictures.thumbnails(shown, images(list(dict.fromkeys(shown))) if shown else {}, WIDTH),
        sides=list(zip("AB", found, strict=True)),
        view=view,
        metric=metric,
        headlines=[headline(name, told) for name, told in view["metrics"].items()],
        breakdowns=[_breakdown(column, parts, view["metrics"]) for column, parts in view["breakdown"].items()],
        groups=groups,
    )


def _title(a: Side, b: Side) -> str:
    if a.title == b.title:
        return f"{a.title}: {b.name} against {a.name}"
    return f"{b.title} against {a.title}"


def board(view: Mapping[str, Any], found: Sequence[Side]) -> bytes:
    """Return the page of a leaderboard: a table and a plot a metric, and the tests of all pairs."""
    letters = {side.name: chr(ord("A") + place) if place < 26 else str(place) for place, side in enumerate(found)}  # noqa: PLR2004
    by_name = {side.name: side for side in found}
    plots = {
        name: charts.spans(
            [(letters[row["name"]], row["low"], row["value"], row["high"]) for row in rows if row["low"] is not None]
        )
        for name, rows in view["leaderboard"].items()
        if any(row["low"] is not None for row in rows)
    }
    return html.render(
        HOME,
        "board.html.jinja",
        title=f"{len(found)} models on the same {view['n']} samples",
        pictures={},
        view=view,
        letters=letters,
        titles={letters[side.name]: side.title for side in found},
        sides=by_name,
        plots=plots,
        pairs=[
            (letters[each["a"]], letters[each["b"]], [headline(name, told) for name, told in each["metrics"].items()])
            for each in view["pairs"]
        ],
    )


def headline(name: str, told: Mapping[str, Any]) -> Headline:
    """Return what one metric says about b against a."""
    plot = None
    if told["low"] is not None:
        plot = charts.spans([("B − A", told["low"], told["difference"], told["high"])])  # noqa: RUF001 - a minus sign
    return Headline(
        name=name,
        spec=f"{told['better_is']} is better",
        a=formats.number(told["a"]),
        b=formats.number(told["b"]),
        verdict=told["verdict"],
        sentence=sentence(told),
        test=_test(told),
        counts=charts.shares([(kind, told[kind]) for kind in ("worse", "equal", "better")]),
        plot=plot,
    )


def sentence(told: Mapping[str, Any]) -> str:
    """Return the verdict in words: which side, by how much, how sure."""
    if told["difference"] is None:
        return "cannot be computed on these samples"
    change = formats.change(told["difference"], told["low"], told["high"])
    if told["verdict"] == "unclear":
        return f"no clear difference: {change}"
    return f"B is {told['verdict']}: {change}"


def _test(told: Mapping[str, Any]) -> str:
    parts = (
        [f"p {formats.p_value(told['p'])}, permutation of {formats.count(told['clusters'])} groups"]
        if told["p"] is not None
        else []
    )
    parts += [f"Holm p {formats.p_value(told['p_holm'])}"] if told.get("p_holm") is not None else []
    if "mcnemar" in told:
        found = told["mcnemar"]
        parts.append(
            f"only A right {found['only_a']}, only B right {found['only_b']}, McNemar p {formats.p_value(found['p'])}"
        )
    return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Every metric by the values of one column; each cell with its class."""

    column: str
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[tuple[str, str, str, str], ...]], ...]
    """Label, n, and (a, b, difference with its interval, class) for each metric."""


def _breakdown(column: str, parts: Mapping[str, Any], metrics: Mapping[str, Any]) -> Breakdown:
    rows = tuple(
        (
            label,
            formats.count(part["n"]),
            tuple(_cell(part["metrics"][name]) for name in metrics),
        )
        for label, part in parts.items()
    )
    return Breakdown(column, tuple(metrics), rows)


def _cell(part: Mapping[str, Any]) -> tuple[str, str, str, str]:
    low, high, change = part["low"], part["high"], part["difference"]
    if change is None:
        return formats.number(part["a"]), formats.number(part["b"]), formats.NOTHING, ""
    kind = "" if part["verdict"] == "unclear" else part["verdict"]
    bounds = f" ({formats.signed(low)} to {formats.signed(high)})" if low is not None else ""
    return formats.number(part["a"]), formats.number(part["b"]), f"{formats.signed(change)}{bounds}", kind


def _changed(found: Sequence[Side], common: Common, scores: Sequence[Scores], metric: str) -> list[examples.Group]:
    """Return the samples that lost and gained most by `metric`, in errors or points."""
    changes = sorted(zip(gains(scores[0], scores[1], metric), range(len(common.ids)), strict=True))
    worse = [place for gain, place in changes if gain < 0][:MOST]
    better = [place for gain, place in reversed(changes) if gain > 0][:MOST]
    groups = [
        ("Got worse", "A was closer; the largest loss first", worse),
        ("Got better", "B is closer; the largest gain first", better),
    ]
    return [
        examples.Group(title, note, tuple(_example(found, common, scores, place, metric) for place in places))
        for title, note, places in groups
        if places
    ]


def _example(
    found: Sequence[Side], common: Common, scores: Sequence[Scores], place: int, metric: str
) -> examples.Example:
    rows = [
        dict(side.rows[common.ids[place]])
        | {"model": letter}
        | {f"{metric}.{part}": getattr(score[metric][place], part) for part in ("numerator", "denominator")}
        for letter, side, score in zip("AB", found, scores, strict=True)
    ]
    return examples.example(rows, metric)
