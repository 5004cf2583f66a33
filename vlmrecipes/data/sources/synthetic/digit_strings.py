"""Numbers composed of the 8x8 digits in scikit-learn's `load_digits`, which 43 people wrote by hand.

Every written digit belongs to one side for good: no stroke seen in training comes up in evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

from vlmrecipes.data.sources.synthetic.dice import Dice
from vlmrecipes.data.sources.synthetic.options import Settings
from vlmrecipes.errors import MissingExtraError
from vlmrecipes.extras import need

if TYPE_CHECKING:
    from vlmrecipes.data.source_tables import SyntheticSource

COLUMNS = ("image", "text", "part")
EVAL_SHARE = 0.25
"""Share of the written digits that only evaluation uses."""
GRID = 8
"""Side of a scanned digit in its own pixels, each 0 (paper) to 16 (ink)."""
HEIGHTS = (32, 40)
WIDEST = 300
EDGE = 8
"""Most paper left and right of the number, in pixels."""
GROUP_GAPS = (10, 16)
"""Least and most paper between two groups of digits, in pixels."""

Glyphs = Mapping[str, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class DigitString:
    """A number as it is to be drawn."""

    text: str
    glyphs: tuple[bytes, ...]
    """One for each digit of `text`: 64 ink values from 0 to 16."""
    seed: str

    def render(self) -> bytes:
        """Return a PNG, 32 to 40 px high and at most 300 px wide."""
        dice = Dice("digit-strings/look", self.seed)
        height = dice.whole(*HEIGHTS)
        ink = Image.new("L", (WIDEST, height))
        width = self._write(ink, dice)
        image = _on_paper(ink.crop((0, 0, width, height)), dice)
        out = BytesIO()
        image.save(out, "PNG")
        return out.getvalue()

    def _write(self, ink: Image.Image, dice: Dice) -> int:
        """Draw the digits into `ink` and return the width used."""
        gap = dice.whole(-2, 3)
        room = (ink.width - 2 * EDGE - GROUP_GAPS[1] * self.text.count(" ")) // len(self.glyphs)
        size = min(dice.whole(24, min(29, ink.height - 3)), room - gap - 1)
        left, glyphs = dice.whole(2, EDGE), iter(self.glyphs)
        for char in self.text:
            if char == " ":
                left += dice.whole(*GROUP_GAPS)
                continue
            side = size + dice.whole(-1, 1)
            digit = Image.frombytes("L", (GRID, GRID), bytes(min(255, value * 16) for value in next(glyphs)))
            digit = digit.resize((side, side), Image.Resampling.BICUBIC)
            top = (ink.height - side) // 2 + dice.whole(-2, 2)
            ink.paste(255, (left, top), digit)
            left += side + gap
        return left - gap + dice.whole(2, EDGE)


def _on_paper(ink: Image.Image, dice: Dice) -> Image.Image:
    """Return dark ink on light, slightly tinted paper."""
    paper, dark = dice.whole(222, 255), dice.whole(10, 90)
    channels = []
    for _ in range(3):
        light, deep = min(255, paper + dice.whole(-6, 6)), max(0, dark + dice.whole(-10, 25))
        channels.append(ink.point([light + (deep - light) * value // 255 for value in range(256)]))
    return Image.merge("RGB", channels)


def open_rows(source: SyntheticSource, *, file: str, key: str) -> Iterator[dict[str, Any]]:
    """Return the rows of `source`. Raises InputError."""
    settings = Settings(source.options, {}, file=file, key=key)
    glyphs: Glyphs = {}
    try:
        glyphs = glyphs_of(source.part)
    except MissingExtraError as error:
        settings.refuse("", str(error))
    settings.check()
    return (_row(source, glyphs, index) for index in range(source.count))


def _row(source: SyntheticSource, glyphs: Glyphs, index: int) -> dict[str, Any]:
    seed = f"{source.seed}/{source.part}/{index}"
    dice = Dice("digit-strings", seed)
    text = _number(dice)
    chosen = tuple(dice.pick(glyphs[char]) for char in text if char != " ")
    return {"image": DigitString(text, chosen, seed), "text": text, "part": source.part}


def _number(dice: Dice) -> str:
    """Return 3 to 8 digits, one time in three in groups of two to four."""
    digits = "".join(dice.pick("0123456789") for _ in range(dice.whole(3, 8)))
    if not dice.chance(1 / 3):
        return digits
    groups = []
    while len(digits) > 3:
        size = dice.whole(2, min(4, len(digits) - 2))
        groups.append(digits[:size])
        digits = digits[size:]
    return " ".join([*groups, digits])


def glyphs_of(part: str) -> Glyphs:
    """Return the written digits of one side, by the digit they show, in an order that depends on their pixels alone.

    Raises MissingExtraError when scikit-learn is not installed.
    """
    digits = need("sklearn.datasets", "draw handwritten numbers").load_digits()
    by_digit: dict[str, set[bytes]] = {char: set() for char in "0123456789"}
    for image, label in zip(digits.images, digits.target, strict=True):
        pixels = image.astype("uint8").tobytes()
        if side(pixels) == part:
            by_digit[str(label)].add(pixels)
    return {char: sorted(found) for char, found in by_digit.items()}


def side(pixels: bytes) -> str:
    """Return the side a written digit is on: equal pixels, equal side."""
    draw = int.from_bytes(blake2b(pixels, digest_size=8, key=b"digit-strings").digest(), "big")
    return "eval" if draw < EVAL_SHARE * 2**64 else "train"
