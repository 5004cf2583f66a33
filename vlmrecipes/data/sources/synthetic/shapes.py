"""Scenes of coloured shapes, with questions that look at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.sources.synthetic import shape_questions
from vlmrecipes.data.sources.synthetic.dice import Dice
from vlmrecipes.data.sources.synthetic.options import Option, Settings, Whole
from vlmrecipes.data.sources.synthetic.scene import Scene, make_scene, to_image_bytes

if TYPE_CHECKING:
    from vlmrecipes.data.source_tables import SyntheticSource

COLUMNS = ("image", "question", "answer", "type")
OPTIONS: dict[str, Option] = {
    "questions": Whole(default=3, low=1, high=12),
    "lists": Whole(default=0, low=0, high=3),
    "max_shapes": Whole(default=5, low=1, high=8),
}
"""`questions`: rows in a row that share a scene. `lists`: so many more, at most, whose answers name all of it in an order.

`max_shapes`: shapes in the fullest scene.
"""


@dataclass(frozen=True, slots=True)
class ShapesImage:
    """A scene to be drawn."""

    scene: Scene

    def render(self) -> bytes:
        """Return a PNG or JPEG, 56 to 160 px on its longer side (boxed scenes: up to 280 px wide)."""
        return to_image_bytes(self.scene)


def open_rows(source: SyntheticSource, *, file: str, key: str) -> Iterator[dict[str, Any]]:
    """Return the rows of `source`. Raises InputError."""
    settings = Settings(source.options, OPTIONS, file=file, key=key)
    settings.check()
    return islice(_rows(source, **settings.values), source.count)


def _rows(source: SyntheticSource, questions: int, lists: int, max_shapes: int) -> Iterator[dict[str, Any]]:
    number = 0
    while True:
        dice = Dice("shapes", source.seed, source.part, number)
        scene = make_scene(dice, max_shapes)
        image = ShapesImage(scene)
        asked = shape_questions.ask(scene, questions, dice)
        listed = {found.text: found for _ in range(lists) if (found := shape_questions.ask_for_list(scene, dice))}
        for question in (*asked, *listed.values()):
            yield {"image": image, "question": question.text, "answer": question.answer, "type": question.type}
        number += 1
