"""One printed line as a JPEG: set, worn, tinted, compressed."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageDraw

from vlmrecipes.data.sources.synthetic.dice import Dice
from vlmrecipes.data.sources.synthetic.typeset import typeset
from vlmrecipes.data.sources.synthetic.wear import wear


def draw_line(text: str, font: str, dice: Dice, hard: float) -> bytes:
    """Return an RGB JPEG of `text`, 11 to 64 px high and at most 1000 px wide.

    `hard`, from 0 to 1, is how worn lines look; each line has a share of it.
    """
    hard *= dice.pick((0.3, 0.7, 1, 1))
    image = _tinted(wear(typeset(text, font, dice, hard), dice, hard), dice)
    if dice.chance(0.012 * hard):
        _scribble(image, dice)
    out = BytesIO()
    image.save(out, "JPEG", quality=dice.whole(40, 95) if dice.chance(0.6) else dice.whole(75, 95))
    return out.getvalue()


def _tinted(grey: Image.Image, dice: Dice) -> Image.Image:
    """Return `grey` in RGB: one time in four the paper has a tint, one time in twenty the ink a colour."""
    draw = dice.random()
    if draw < 0.7:
        return Image.merge("RGB", (grey, grey, grey))
    paper = [dice.real(0.86, 1) for _ in range(3)] if draw < 0.95 else [1.0, 1.0, 1.0]
    ink = dice.pick(((30, 40, 150), (130, 20, 30), (60, 20, 110), (20, 90, 70))) if draw > 0.93 else (0, 0, 0)
    return Image.merge("RGB", [grey.point(_ramp(dark, light)) for dark, light in zip(ink, paper, strict=True)])


def _ramp(dark: int, light: float) -> list[int]:
    """Return what each grey level becomes in one channel: black `dark`, white `light` of full brightness."""
    return [int(dark + (255 * light - dark) * level / 255) for level in range(256)]


def _scribble(image: Image.Image, dice: Dice) -> None:
    """Draw a stroke of a pen across `image`."""
    color = dice.pick(((190, 30, 40), (40, 60, 170), (70, 70, 75)))
    points = [(dice.below(image.width), dice.below(image.height)) for _ in range(dice.whole(2, 4))]
    ImageDraw.Draw(image).line(points, color, 1)
