from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import sacrebleu

from vlmrecipes.page import charts, difference, formats, network, pictures
from vlmrecipes.records import gain, lineage, logged


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


def test_a_network_flows_from_left_to_right_and_boxes_stand_apart() -> None:
    edges = [("a", "c", "x"), ("b", "c", "x"), ("c", "d", "x"), ("a", "d", "x"), ("c", "e", "x"), ("late", "d", "x")]
    nodes = [network.Node(name, "run", "a label that is long enough to be cut " * 2) for name in "abcde"]
    drawn = network.network([*nodes, network.Node("late", "model", "m")], [*edges, ("gone", "d", "x")])
    assert drawn
    place = {box.node.id: (box.x, box.y) for box in drawn.boxes}
    assert all(place[one][0] < place[other][0] for one, other, _ in edges)
    assert place["late"][0] == place["c"][0], "what has nothing before it stands next to what it is for"
    apart = [(abs(x - u), abs(y - v)) for (x, y), (u, v) in pairwise(sorted(place.values()))]
    assert all(x >= network.BOX_WIDTH or y >= network.BOX_HEIGHT for x, y in apart)
    assert all(
        x + network.BOX_WIDTH <= drawn.width and y + network.BOX_HEIGHT <= drawn.height for x, y in place.values()
    )
    assert all(len(box.lines) <= network.LINES and max(map(len, box.lines)) <= network.LINE for box in drawn.boxes)
    assert len(drawn.lines) == len(edges)


def test_a_network_of_nothing_of_too_much_or_in_a_circle_is_not_drawn() -> None:
    assert network.network([], []) is None
    assert network.network([network.Node(str(n), "run", "") for n in range(network.MOST_NODES + 1)], []) is None
    with pytest.raises(ValueError, match="a circle"):
        network.network([network.Node(name, "run", "") for name in "ab"], [("a", "b", ""), ("b", "a", "")])


def test_every_series_of_a_training_log_is_found_and_damage_passed_over(tmp_path: Path) -> None:
    entries = [
        {
            "step": 1,
            "epoch": 0.1,
            "seconds": 3,
            "grad_norm": 3.0,
            "loss": 2.0,
            "reward": 0.5,
            "rewards": {"cer": {"mean": 1}},
        },
        {"step": 2, "eval": {"cer": 0.5, "wer": None}},
        [1],
        {"step": "x"},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, entries)) + '\n{"step": 3, "lo')
    found = logged.series(tmp_path)
    assert list(found) == ["loss", "mean reward", "cer while training", "reward cer", "gradient norm"]
    assert [found["loss"], found["cer while training"], found["reward cer"]] == [[(1, 2.0)], [(2, 0.5)], [(1, 1.0)]]
    assert logged.series(tmp_path / "absent") == {}


@pytest.mark.parametrize(("better", "verdict"), [("lower", "better"), ("higher", "worse")])
def test_what_tuning_changed_is_told_sample_by_sample(better: str, verdict: str) -> None:
    rows = [
        {"model": model, "id": str(n), "group": str(n), "m.numerator": wrong, "m.denominator": 10}
        for n in range(30)
        for model, wrong in (("base", 5), ("tuned", 5 if n < 10 else 1))
    ]
    rows.append({"model": "tuned", "id": "alone", "group": "x", "m.numerator": 10, "m.denominator": 10})
    (name, paired), *rest = gain.gains(rows, {"m": better})
    told = gain.told(name, paired)
    assert (rest, paired.n, told.verdict) == ([], 30, verdict)
    assert told.sentence.startswith(f"tuned is {verdict}: \u22120.267 (95 % ")
    assert [part.count for part in told.shares] == ([0, 10, 20] if better == "lower" else [20, 10, 0])
    assert list(gain.gains([row for row in rows if row["model"] == "base"], {"m": better})) == []
    same = next(gain.gains([row | {"m.numerator": 5} for row in rows], {"m": better}))[1]
    assert gain.told("m", same).verdict == "unclear"
    few = gain.told(
        "m", next(gain.gains([row for row in rows if row["group"] in ("11", "12", "13")], {"m": better}))[1]
    )
    assert few.sentence.startswith("no clear change: \u22120.4")
    assert "only 3 groups" in few.test


def test_a_gain_by_a_corpus_metric_is_that_of_the_corpus() -> None:
    said = {"base": ["a dog", "two people on a bus"], "tuned": ["a dog runs", "two people ride a bus"]}
    references = ["a dog runs fast", "two people ride a red bus"]
    rows = [
        {"id": str(place), "group": str(place), "model": model, "prediction": text, "references": [references[place]]}
        for model, texts in said.items()
        for place, text in enumerate(texts)
    ]
    ((name, paired),) = gain.gains(rows, {"chrf": "higher"})
    values = [sacrebleu.corpus_chrf(texts, [references]).score for texts in said.values()]
    assert (name, paired.a, paired.b) == ("chrf", *map(pytest.approx, values))
