from __future__ import annotations

import math
from itertools import pairwise

import pytest

from vlmrecipes.page import charts, difference, formats, pictures
from vlmrecipes.records import lineage


@pytest.mark.parametrize(
    ("reference", "prediction", "left", "right"),
    [
        ("cat", "cat", [("cat", False)], [("cat", False)]),
        ("cats", "cat", [("cat", False), ("s", True)], [("cat", False)]),
        ("a b", "ab", [("a", False), ("␣", True), ("b", False)], [("ab", False)]),
        ("red one", "blue", [("red one", True)], [("blue", True)]),
        ("", "x", [], [("x", True)]),
        ("a\x00", "a\x00", [("a␀", False)], [("a␀", False)]),
    ],
)
def test_differences_are_marked(
    reference: str, prediction: str, left: list[tuple[str, bool]], right: list[tuple[str, bool]]
) -> None:
    found = difference.marked(reference, prediction)
    assert [[(piece.text, piece.marked) for piece in pieces] for pieces in found] == [left, right]


def test_long_texts_are_cut_and_the_closest_reference_is_taken() -> None:
    assert difference.plain("x" * 10_000)[0].text == "x" * difference.LONGEST + "…"
    assert difference.closest("cat", ["dog", "cart", "cut"]) == "cart"
    assert difference.closest("cat", []) == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0), (0.31, 0.32), (-3, 1e9), (5, 5), (0, 3e-9)])
def test_ticks_hold_the_range_in_even_steps(low: float, high: float) -> None:
    marks = charts.ticks(low, high)
    assert 2 <= len(marks) <= 7
    assert marks[0] <= low
    assert marks[-1] >= high
    steps = [two - one for one, two in pairwise(marks)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-3) for step in steps)


def test_a_curve_stays_in_its_box_and_needs_two_points() -> None:
    drawn = charts.curve([(step, 3 / step) for step in range(1, 5000)] + [(5000, math.nan)])
    assert drawn
    points = [tuple(map(float, point.split(","))) for point in drawn.points.split()]
    assert len(points) <= charts.MOST_POINTS
    left, top, right, bottom = drawn.box
    assert all(left <= x <= right and top <= y <= bottom for x, y in points)
    assert all(left <= tick.at <= right for tick in drawn.x_ticks)
    assert charts.curve([]) is None
    assert charts.curve([(1, 2.0), (1, 3.0)]) is None
    assert charts.curve([(1, math.inf), (2, 1.0)]) is None


def test_values_read_well() -> None:
    assert formats.duration(124) == "2 min 04 s"
    assert formats.duration(11220) == "3 h 07 min"
    assert formats.size(9_400_000_000) == "9.4 GB"
    assert formats.number(-0.25) == "\u22120.250"
    assert formats.number(None) == formats.NOTHING
    assert formats.setting([True, None, 2e-4, ""]) == "true, \u2013, 0.0002, \u2013"


def test_what_is_no_picture_is_said_to_be_none() -> None:
    found = pictures.thumbnails(["a", "b"], {"a": b"GIF89a"}, 480)
    assert found["a"].missing == "Picture cannot be decoded"
    assert found["b"].missing == "Picture not found in the store"


def test_the_command_to_reproduce_pins_the_snapshots() -> None:
    data = [{"role": "train", "snapshot": "a@3"}, {"role": "eval", "snapshot": "b@1"}]
    record = {"command": ["vlmrecipes", "run", "r.toml"], "data": data}
    assert lineage.reproduce(record) == "vlmrecipes run r.toml --data train=a@3 --data eval=b@1"
    record["command"] = ["vlmrecipes", "run", "r.toml", "--data", "train=a@3", "--data=eval=b@1"]
    assert lineage.reproduce(record) == "vlmrecipes run r.toml --data train=a@3 --data=eval=b@1"
    assert lineage.reproduce({}) == ""
