"""Questions about a scene of shapes: most are answered in one word, some by naming all that is there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

from vlmrecipes.data.sources.synthetic.dice import Dice
from vlmrecipes.data.sources.synthetic.scene import COLORS, COMMON_KINDS, KINDS, Scene, Shape


class Question(NamedTuple):
    """One question with its answer; `type` is for breakdowns."""

    text: str
    answer: str
    type: str


Asker = Callable[[Scene, Dice], Question | None]
SIDES: tuple[tuple[str, str, int], ...] = (
    ("leftmost", "x", 1),
    ("rightmost", "x", -1),
    ("top", "y", 1),
    ("bottom", "y", -1),
)
"""Word for an extreme place, the coordinate it is about, and the sign that makes it the smallest."""
_ORDERS: tuple[tuple[str, Callable[[Shape], float], float], ...] = (
    ("left to right", lambda shape: shape.x, 6),
    ("top to bottom", lambda shape: shape.y, 6),
    ("small to large", lambda shape: math.log(shape.area), math.log(1.25)),
)
"""Name of an order, what is ordered, and the least difference between neighbours that can be seen."""
_THERE = ("is there {x}?", "do you see {x}?", "does the picture show {x}?", "can {x} be seen here?", "is {x} here?")
_NOT_THERE = (
    "is there no {n}?",
    "is it true that no {n} is here?",
    "is there not {x}?",
    "does the picture show no {n}?",
    "does the picture not show {x}?",
)
_SHAPE = (
    "what shape is this?",
    "which shape do you see?",
    "name the shape.",
    "what shape is shown?",
    "what shape is it?",
)
_COLOR = (
    "what color is it?",
    "which color does the shape have?",
    "name the color of the shape.",
    "what color is shown?",
)


def ask(scene: Scene, count: int, dice: Dice) -> list[Question]:
    """Return `count` questions about `scene`, different ones as far as there are."""
    questions: dict[str, Question] = {}
    for attempt in range(count * 20):
        question = dice.pick(_SINGLE if len(scene.shapes) == 1 else _SEVERAL)(scene, dice)
        if question and (question.text not in questions or attempt > count * 15):
            questions[question.text if question.text not in questions else str(attempt)] = question
        if len(questions) == count:
            break
    return list(questions.values())


def ask_for_list(scene: Scene, dice: Dice) -> Question | None:
    """Return a question that is answered by naming all shapes in an order; None where the order is not clear."""
    order, key, least = dice.pick(_ORDERS)
    places = sorted(((key(shape), shape) for shape in scene.shapes), key=itemgetter(0))
    if any(after - before < least for (before, _), (after, _) in pairwise(places)):
        return None
    text = dice.pick(("list the shapes from {}.", "name all shapes from {}.", "what is there from {}?")).format(order)
    return Question(text, ", ".join(f"{shape.color} {shape.kind}" for _, shape in places), "list")


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _only_shape(scene: Scene, dice: Dice) -> Question:
    return Question(dice.pick(_SHAPE), scene.shapes[0].kind, "shape")


def _only_color(scene: Scene, dice: Dice) -> Question:
    return Question(dice.pick(_COLOR), scene.shapes[0].color, "color")


def _shape_of_color(scene: Scene, dice: Dice) -> Question | None:
    shape = _unique(scene.shapes, "color", dice)
    if shape is None:
        return None
    text = dice.pick(("what is the {} shape?", "which shape is {}?", "the {} thing has what shape?"))
    return Question(text.format(shape.color), shape.kind, "shape")


def _color_of_shape(scene: Scene, dice: Dice) -> Question | None:
    shape = _unique(scene.shapes, "kind", dice)
    if shape is None:
        return None
    text = dice.pick(("what color is the {}?", "which color does the {} have?", "what is the color of the {}?"))
    return Question(text.format(shape.kind), shape.color, "color")


def _unique(shapes: Sequence[Shape], field: str, dice: Dice) -> Shape | None:
    """Return a shape whose `field` no other shares, or None."""
    found = Counter(getattr(shape, field) for shape in shapes)
    alone = [shape for shape in shapes if found[getattr(shape, field)] == 1]
    return dice.pick(alone) if alone else None


def _presence(scene: Scene, dice: Dice) -> Question:
    """Ask for something that is there half of the time, and for its absence half of the time."""
    noun, there = _noun(scene, dice)
    negated = dice.chance(0.5)
    text = dice.pick(_NOT_THERE if negated else _THERE).format(x=_a(noun), n=noun)
    return Question(text, "yes" if there != negated else "no", "yes/no")


def _statement(scene: Scene, dice: Dice) -> Question:
    noun, there = _noun(scene, dice)
    return Question(f"true or false? there is {_a(noun)}.", "true" if there else "false", "true/false")


def _noun(scene: Scene, dice: Dice) -> tuple[str, bool]:
    """Return what to look for, and whether it is there: a shape, a colour or both."""
    shape, form = dice.pick(scene.shapes), dice.below(4)
    kind, color = shape.kind, shape.color
    if dice.chance(0.5):
        kind = dice.pick(COMMON_KINDS if kind in COMMON_KINDS else KINDS) if form != 1 else kind
        color = dice.pick(tuple(COLORS)) if form != 0 else color
    kinds, colors = {s.kind for s in scene.shapes}, {s.color for s in scene.shapes}
    if form == 0:
        return kind, kind in kinds
    if form in {1, 2}:
        return f"{color} shape", color in colors
    return f"{color} {kind}", any(s.kind == kind and s.color == color for s in scene.shapes)


def _count(scene: Scene, dice: Dice) -> Question:
    shape, form = dice.pick(scene.shapes), dice.below(5)
    if form < 2:
        text = dice.pick(("how many shapes are there?", "count the shapes.", "what is the number of shapes?"))
        return Question(text, str(len(scene.shapes)), "count")
    if form == 2:
        color = dice.pick(tuple(COLORS)) if dice.chance(0.2) else shape.color
        number = sum(s.color == color for s in scene.shapes)
        return Question(f"how many {color} shapes are there?", str(number), "count")
    kind = dice.pick(COMMON_KINDS) if dice.chance(0.2) else shape.kind
    number = sum(s.kind == kind for s in scene.shapes)
    return Question(f"how many {_plural(kind)} are there?", str(number), "count")


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def _at_side(scene: Scene, dice: Dice) -> Question | None:
    word, axis, sign = dice.pick(SIDES)
    ordered = sorted(scene.shapes, key=lambda shape: sign * getattr(shape, axis))
    if abs(getattr(ordered[0], axis) - getattr(ordered[1], axis)) < 6:
        return None
    return _shape_or_color(ordered[0], f"{word} shape", dice)


def _by_size(scene: Scene, dice: Dice) -> Question | None:
    ordered = sorted(scene.shapes, key=lambda shape: shape.area)
    if dice.chance(0.5):
        return _shape_or_color(ordered[0], "smallest shape", dice) if ordered[1].area > 1.5 * ordered[0].area else None
    return _shape_or_color(ordered[-1], "largest shape", dice) if ordered[-1].area > 1.5 * ordered[-2].area else None


def _shape_or_color(shape: Shape, where: str, dice: Dice) -> Question:
    if dice.chance(0.5):
        return Question(f"what color is the {where}?", shape.color, "color")
    return Question(f"what is the {where}?", shape.kind, "shape")


_SINGLE: tuple[Asker, ...] = (
    _only_shape,
    _only_shape,
    _only_color,
    _only_color,
    _shape_of_color,
    _color_of_shape,
    _presence,
    _presence,
    _presence,
    _statement,
    _count,
)
_SEVERAL: tuple[Asker, ...] = (
    _shape_of_color,
    _color_of_shape,
    _presence,
    _presence,
    _presence,
    _statement,
    _count,
    _count,
    _at_side,
    _by_size,
)
