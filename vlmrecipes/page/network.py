"""Where the boxes and lines of a directed graph go, from left to right. Numbers only: the template draws them.

A node stands one column after the last node that leads to it (longest path), and one with nothing before it just before
what it leads to; inside a column by the mean row of its predecessors (Sugiyama, Tagawa and Toda, 1981: layers, then
barycentres; one sweep is enough for chains).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

BOX_WIDTH, BOX_HEIGHT, ACROSS, DOWN = 126, 54, 28, 14
"""Size of a box and the gaps between boxes, in the units of the view box."""
LINE, LINES = 18, 2
"""Letters that fit in a line of a box, and lines of a label."""
MOST_NODES = 60


@dataclass(frozen=True, slots=True)
class Node:
    """A thing that is drawn as a box."""

    id: str
    kind: str
    label: str
    target: str = ""
    """Id of the part of the page that tells more."""


@dataclass(frozen=True, slots=True)
class Box:
    """A node with its place."""

    node: Node
    lines: tuple[str, ...]
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Line:
    """An edge as an SVG path, and what it says."""

    path: str
    title: str


@dataclass(frozen=True, slots=True)
class Network:
    """A drawn graph."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


Edges = Iterable[tuple[str, str, str]]
"""From, to, how."""


def network(nodes: Sequence[Node], edges: Edges) -> Network | None:
    """Return the drawing of a graph without circles; None for one of no nodes, or of too many to be read."""
    known = {node.id: node for node in nodes}
    kept = [edge for edge in edges if edge[0] in known and edge[1] in known]
    if not 0 < len(nodes) <= MOST_NODES:
        return None
    columns = _columns(list(known), kept)
    most = max(map(len, columns.values()))
    places = {
        key: (column * (BOX_WIDTH + ACROSS), (row + (most - len(keys)) / 2) * (BOX_HEIGHT + DOWN))
        for column, keys in columns.items()
        for row, key in enumerate(keys)
    }
    boxes = tuple(Box(known[key], _lines(known[key].label), x, round(y, 1)) for key, (x, y) in places.items())
    lines = tuple(
        Line(_path(places[one], places[other]), f"{_spoken(known[one])} → {_spoken(known[other])} ({how})")
        for one, other, how in kept
    )
    return Network((max(columns) + 1) * (BOX_WIDTH + ACROSS) - ACROSS, most * (BOX_HEIGHT + DOWN) - DOWN, boxes, lines)


def _columns(keys: Sequence[str], edges: Sequence[tuple[str, str, str]]) -> dict[int, list[str]]:
    """Return the nodes of each column from top to bottom."""
    before: dict[str, list[str]] = {key: [] for key in keys}
    after: dict[str, list[str]] = {key: [] for key in keys}
    for one, other, _ in edges:
        before[other].append(one)
        after[one].append(other)
    depth: dict[str, int] = {}
    for key in keys:
        _deepen(key, before, depth)
    for key in keys:
        if not before[key] and after[key]:
            depth[key] = min(depth[other] for other in after[key]) - 1
    columns: dict[int, list[str]] = {}
    for key in sorted(keys, key=lambda key: depth[key]):
        columns.setdefault(depth[key], []).append(key)
    row: dict[str, float] = {}
    for number, members in columns.items():
        columns[number] = sorted(members, key=lambda key: _mean([row[one] for one in before[key] if one in row]))
        # Rows count from the middle, where columns are centred.
        row |= {key: place - len(members) / 2 for place, key in enumerate(columns[number])}
    return columns


def _deepen(start: str, before: Mapping[str, Sequence[str]], depth: dict[str, int]) -> None:
    """Set the longest path to `start` and to all before it. Raises ValueError for a circle."""
    waiting, open_ = [start], set()
    while waiting:
        key = waiting[-1]
        missing = [one for one in before[key] if one not in depth]
        if missing and key in open_:
            raise ValueError(f"a circle goes through {key}")
        if missing:
            open_.add(key)
            waiting += missing
            continue
        depth[waiting.pop()] = max((depth[one] + 1 for one in before[key]), default=0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _spoken(node: Node) -> str:
    return f"{node.kind} {node.label}"


def _lines(label: str) -> tuple[str, ...]:
    return tuple(wrap(label, LINE, max_lines=LINES, placeholder="…", break_on_hyphens=True) or [""])


def _path(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Return a curve from the right side of one box to the left side of another."""
    x1, y1, x2, y2 = start[0] + BOX_WIDTH, start[1] + BOX_HEIGHT / 2, end[0], end[1] + BOX_HEIGHT / 2
    bend = max(ACROSS / 2, (x2 - x1) / 2)
    return f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"
