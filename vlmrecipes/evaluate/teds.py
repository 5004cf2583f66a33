"""Likeness of HTML tables by tree edit distance (TEDS), in [0, 1]; 1 is the same table.

TEDS: Zhong, ShafieiBavani & Jimeno Yepes, "Image-based table recognition: data, model, and evaluation", ECCV 2020, in the
definition of its script (ibm-aur-nlp/PubTabNet, src/metric.py at 8ffde902), oddities kept: the text of `th` is never
compared, only the first table that lies in nothing else counts, and nodes inside cells count as nodes of the table.
The distance is Zhang & Shasha, "Simple fast algorithms for the editing distance between trees", SIAM J. Comput. 18, 1989.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, NamedTuple

from rapidfuzz.distance import Levenshtein

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_NODES = 2000
"""A prediction with more is a runaway and scores 0; the time grows with the product of both sides' nodes."""
_SECTIONS = ("thead", "tbody", "tfoot")
_ENDED_BY = {"td": ("td", "th"), "th": ("td", "th"), "tr": ("td", "th", "tr")} | dict.fromkeys(
    _SECTIONS, ("td", "th", "tr", *_SECTIONS)
)
"""What a start tag ends that was left open."""
_VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
)
_PAGE = frozenset(("html", "head", "body"))

Attributes = list[tuple[str, str | None]]


class Node(NamedTuple):
    """An element of a table. Content inside of a cell belongs to the cell."""

    tag: str
    spans: tuple[str, str] = ("1", "1")
    """`colspan` and `rowspan` of a cell."""
    tokens: tuple[str, ...] = ()
    """Of a cell: its characters, and the tags in it."""


@dataclass(slots=True)
class Tree:
    """A table's elements in postorder: children before their parent, the table itself last."""

    nodes: list[Node] = field(default_factory=list)
    leftmost: list[int] = field(default_factory=list)
    """For each node the place of the first leaf below it."""
    inner: int = 0
    """Elements inside of cells."""

    @property
    def size(self) -> int:
        """Elements below the table, those inside of cells included."""
        return len(self.nodes) - 1 + self.inner

    def keyroots(self) -> list[int]:
        """Return the nodes with a left sibling, and the root: the subtrees that have a forest distance of their own."""
        return sorted({first: place for place, first in enumerate(self.leftmost)}.values())

    def structure(self) -> Tree:
        """Return the tree with empty cells."""
        return Tree([node._replace(tokens=()) for node in self.nodes], self.leftmost, self.inner)


class _Open(NamedTuple):
    """An element whose end has not come."""

    tag: str
    first: int
    """Nodes that were done when it began."""
    spans: tuple[str, str]


class _Reader(HTMLParser):
    """Builds the tree of the first table that lies in nothing but the page; the standard library fetches nothing."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tree = Tree()
        self.done = False
        self.around: list[str] = []
        """Open elements before the table."""
        self.open: list[_Open] = []
        """The table, and open elements in it down to a cell."""
        self.cell: list[str] = []
        """Open elements in the cell."""
        self.tokens: list[str] = []

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        if self.done or tag in _PAGE:
            return
        if not self.open and (tag != "table" or self._enclosed()):
            self.around += [] if tag in _VOID else [tag]
            return
        self._end_open(tag)
        if self._in_cell():
            self._inside(tag)
        else:
            given = {name: value or "" for name, value in attrs}
            spans = (_span(given.get("colspan", "1")), _span(given.get("rowspan", "1"))) if tag == "td" else ("1", "1")
            self.open.append(_Open(tag, len(self.tree.nodes), spans))
            if tag in _VOID:
                self._close()

    def handle_endtag(self, tag: str) -> None:
        if self.done:
            return
        if not self.open:
            self.around = self.around[: _last(self.around, tag)] if tag in self.around else self.around
        elif tag in self.cell:
            self._close_inside(tag)
        elif not self.cell or "table" not in self.cell:
            self._close_to(tag)

    def handle_data(self, data: str) -> None:
        if self._in_cell():
            self.tokens += data

    def finish(self) -> Tree | None:
        """End what is open and return the table; None if there was none."""
        self.close()
        while self.open:
            self._close()
        return self.tree if self.done else None

    def _enclosed(self) -> bool:
        self.around = [tag for tag in self.around if tag != "p"]  # a table ends a paragraph
        return bool(self.around)

    def _in_cell(self) -> bool:
        return bool(self.open) and self.open[-1].tag == "td"

    def _inside(self, tag: str) -> None:
        self.tree.inner += 1
        self.tokens.append(f"<{tag}>")
        self.cell.append(tag)
        if tag in _VOID:
            self._close_inside(tag)

    def _close_inside(self, tag: str) -> None:
        for name in reversed(self.cell[_last(self.cell, tag) :]):
            self.tokens += [] if name == "unk" else [f"</{name}>"]
            self.cell.pop()

    def _end_open(self, tag: str) -> None:
        """End the cells, rows and sections that `tag` ends, in the innermost table."""
        inner = self.cell[_last(self.cell, "table") :] if "table" in self.cell else None
        names = [one.tag for one in self.open[1:]] if inner is None else inner[1:]
        ended = [name for name in names if name in _ENDED_BY.get(tag, ())]
        if ended and inner is None:
            self._close_to(ended[0])
        elif ended:
            self._close_inside(ended[0])

    def _close_to(self, tag: str) -> None:
        if tag in (one.tag for one in self.open):
            while self._close() != tag:
                pass

    def _close(self) -> str:
        one = self.open.pop()
        for name in reversed(self.cell):
            self._close_inside(name)
        tokens, self.tokens = tuple(self.tokens), []
        self.tree.nodes.append(Node(one.tag, one.spans, tokens))
        self.tree.leftmost.append(min(one.first, len(self.tree.nodes) - 1))
        self.done = not self.open
        return one.tag


def _span(value: str) -> str:
    """Return a number without what does not count; the script stops at anything else."""
    return value.strip().lstrip("0+")


def _last(names: Sequence[str], name: str) -> int:
    return len(names) - 1 - names[::-1].index(name)


def table(html: str) -> Tree | None:
    """Return the first table of `html` that is not inside of another element; None if there is none."""
    reader = _Reader()
    try:
        reader.feed(html)
        return reader.finish()
    except AssertionError:  # what the standard library raises for a broken `<![…`
        return None


def teds(prediction: str, references: Sequence[str], *, structure: bool = False) -> float:
    """Return 1 less the edits from one table to the other over the elements of the larger; the best of the references.

    `structure` empties the cells first. 0 where a side has no table, and where the script's value is below 0.
    Raises ValueError for two tables without any element, where the script's division fails, and for huge references.
    """
    predicted = table(prediction)
    return max(_likeness(predicted, table(reference), structure=structure) for reference in references)


def _likeness(predicted: Tree | None, reference: Tree | None, *, structure: bool) -> float:
    if predicted is None or reference is None:
        return 0.0
    if reference.size > MOST_NODES:
        raise ValueError(f"the reference is a table of {reference.size} elements; TEDS takes at most {MOST_NODES}")
    if predicted.size > MOST_NODES:
        return 0.0
    larger = max(predicted.size, reference.size)
    if not larger:
        raise ValueError("TEDS is not defined for two tables without rows")
    sides = (predicted.structure(), reference.structure()) if structure else (predicted, reference)
    return max(0.0, 1.0 - edit_distance(*sides) / larger)


def edit_distance(one: Tree, other: Tree) -> float:
    """Return the least cost of turning one tree into the other: 1 for each node more or less, `renaming` for the others."""
    costs = [[0.0] * len(other.nodes) for _ in one.nodes]
    roots = other.keyroots()
    for i in one.keyroots():
        for j in roots:
            if one.leftmost[i] == i and other.leftmost[j] == j:  # cells against cells: by far the most pairs
                costs[i][j] = renaming(one.nodes[i], other.nodes[j])
            else:
                _forests(one, other, i, j, costs)
    return costs[-1][-1]


def _forests(one: Tree, other: Tree, i: int, j: int, costs: list[list[float]]) -> None:
    """Fill in `costs` of all pairs of subtrees on the left edges of the subtrees at `i` and `j`."""
    left, right = one.leftmost[i], other.leftmost[j]
    rows = [[float(count) for count in range(j - right + 2)]]
    for x in range(left, i + 1):
        above, row = rows[-1], [float(x - left + 1)]
        whole = one.leftmost[x] == left
        beside, known = rows[one.leftmost[x] - left], costs[x]
        for y in range(right, j + 1):
            if whole and other.leftmost[y] == right:
                kept = above[y - right] + renaming(one.nodes[x], other.nodes[y])
                known[y] = least = min(above[y - right + 1] + 1.0, row[-1] + 1.0, kept)
            else:
                least = min(above[y - right + 1] + 1.0, row[-1] + 1.0, beside[other.leftmost[y] - right] + known[y])
            row.append(least)
        rows.append(row)


def renaming(one: Node, other: Node) -> float:
    """Return the cost of one node in place of another: 1 for other tags or spans, else the share of a cell's tokens to edit."""
    if one.tag != other.tag or one.spans != other.spans:
        return 1.0
    return Levenshtein.normalized_distance(one.tokens, other.tokens)
