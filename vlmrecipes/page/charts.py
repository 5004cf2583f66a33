"""Where the marks of a chart go. Numbers only: the template draws them, so its escaping covers every label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from vlmrecipes.page.formats import number

WIDTH, HEIGHT = 720, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 26, 44
"""Margins of the curve, in the units of its view box."""
MOST_POINTS = 360
SPAN_WIDTH, SPAN_LEFT, SPAN_RIGHT, ROW = 340, 52, 14, 22
"""Sizes of the interval plot, in the units of its view box."""
ROUND_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Span:
    """A value with its interval, along a horizontal axis."""

    label: str
    y: float
    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class Spans:
    """An interval plot."""

    width: int
    height: int
    axis: float
    """Where the axis lies."""
    spans: tuple[Span, ...]
    ticks: tuple[Tick, ...]
    zero: float
    """Where zero lies on the horizontal axis."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A line chart of a value over steps."""

    width: int
    height: int
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of the plotting area."""
    points: str
    """As an SVG polyline wants them."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    first: float
    last: float
    steps: int


def spans(rows: Sequence[tuple[str, float, float, float]]) -> Spans:
    """Return the plot of `(label, low, value, high)` rows on one axis that zero lies on."""
    marks = ticks(min(0.0, *(row[1] for row in rows)), max(0.0, *(row[3] for row in rows)))
    scale = _scale(marks[0], marks[-1], SPAN_LEFT, SPAN_WIDTH - SPAN_RIGHT)
    drawn = tuple(
        Span(label, ROW * (index + 0.5), scale(low), scale(value), scale(high))
        for index, (label, low, value, high) in enumerate(rows)
    )
    axis = ROW * len(rows) + 2
    return Spans(SPAN_WIDTH, axis + 20, axis, drawn, _labelled(marks, scale), scale(0.0))


def curve(points: Sequence[tuple[float, float]], width: int = WIDTH, height: int = HEIGHT) -> Curve | None:
    """Return the curve through `(step, value)` points in order of step; None for fewer than two finite points."""
    finite = sorted(point for point in points if all(map(math.isfinite, point)))
    if len(finite) < 2 or finite[0][0] == finite[-1][0]:  # noqa: PLR2004 - a line has two ends
        return None
    values = [value for _, value in finite]
    x_marks, y_marks = (
        ticks(finite[0][0], finite[-1][0], 6 if width >= WIDTH else 3),
        ticks(min(0.0, *values), max(values)),
    )
    box = (LEFT, TOP, width - RIGHT, height - BOTTOM)
    x = _scale(min(x_marks[0], finite[0][0]), max(finite[-1][0], x_marks[-2]), box[0], box[2])
    y = _scale(y_marks[0], y_marks[-1], box[3], box[1])
    line = " ".join(f"{x(step)},{y(value)}" for step, value in _thinned(finite))
    inside = [mark for mark in x_marks if x(mark) <= box[2]]
    ends = (values[0], values[-1])
    return Curve(width, height, box, line, _labelled(inside, x), _labelled(y_marks, y), *ends, int(finite[-1][0]))


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about `count` round numbers in even steps that reach from at most `low` to at least `high`."""
    width = (high - low) or abs(high) or 1.0
    magnitude = 10.0 ** math.floor(math.log10(width / count))
    step = next(magnitude * size for size in ROUND_STEPS if magnitude * size * count >= width * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil((low + width) / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    unit: float
    start: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) * self.unit, 1)


def _scale(low: float, high: float, start: float, end: float) -> _Scale:
    return _Scale(low, (end - start) / ((high - low) or 1.0), start)


def _labelled(marks: Sequence[float], scale: _Scale) -> tuple[Tick, ...]:
    step = min((two - one for one, two in pairwise(marks)), default=1.0)
    places = max(0, min(6, -math.floor(math.log10(step) + 1e-9)))
    # 2.5 and 0.25 need one more place than their magnitude says.
    places += round(step, places) != round(step, places + 1)
    return tuple(Tick(scale(mark), number(mark, places)) for mark in marks)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most `MOST_POINTS` points, each the mean of its neighbours."""
    size = math.ceil(len(points) / MOST_POINTS)
    pieces = [points[start : start + size] for start in range(0, len(points), size)]
    return [(_mean([step for step, _ in piece]), _mean([value for _, value in piece])) for piece in pieces]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram: a rectangle, and what it stands for."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram."""

    width: int
    height: int
    floor: int
    """Where the bars stand."""
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    most: Tick
    """The highest bar's top, and its count."""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a bar."""

    kind: str
    count: int
    start: float
    width: float


SHARES_WIDTH = 340
"""Width of a bar of shares, in the units of its view box."""


def shares(parts: Sequence[tuple[str, int]]) -> tuple[Share, ...]:
    """Return the bar that `(kind, count)` parts divide among themselves."""
    total, start, found = sum(count for _, count in parts), 0.0, []
    for kind, count in parts:
        width = SHARES_WIDTH * count / total if total else 0.0
        found.append(Share(kind, count, round(start, 2), round(width, 2)))
        start += width
    return tuple(found)


BARS_WIDTH, BARS_HEIGHT, BARS_FLOOR, BARS_TOP, BARS_SIDE = 320, 130, 108, 16, 14
BAR_MOST = 32
"""Widest bar."""


def histogram(edges: Sequence[float], counts: Sequence[int]) -> Bars:
    """Return the histogram of `counts` (n) between `edges` (n + 1); one value alone is one bar in the middle."""
    low, high = edges[0], edges[-1]
    same = low == high
    places = (low - 0.5, high + 0.5) if same else (low, high)
    x = _scale(*places, BARS_SIDE, BARS_WIDTH - BARS_SIDE)
    tall = _scale(0, max(counts), 0, BARS_FLOOR - BARS_TOP)
    bars = tuple(
        _bar(x(start), x(end), tall(count), f"{_short(start)} to {_short(end)}: {count:,}")
        for (start, end), count in zip([places] if same else pairwise(edges), counts, strict=True)
        if count
    )
    marks = [low] if same else [mark for mark in ticks(low, high, 4) if low <= mark <= high]
    most = Tick(BARS_TOP, number(max(counts), 0))
    labelled = (Tick(x(low), _short(low)),) if same else _labelled(marks, x)
    return Bars(BARS_WIDTH, BARS_HEIGHT, BARS_FLOOR, bars, labelled, most)


def _bar(start: float, end: float, tall: float, label: str) -> Bar:
    width = min(BAR_MOST, max(1.0, end - start - 1))
    return Bar(round((start + end - width) / 2, 1), round(BARS_FLOOR - tall, 1), round(width, 1), tall, label)


def _short(value: float) -> str:
    return f"{value:,.4g}" if isinstance(value, float) and value < 1000 else f"{value:,.0f}"  # noqa: PLR2004
