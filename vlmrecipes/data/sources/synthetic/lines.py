"""Printed lines with their text: what a reader learns letters from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.sources.synthetic import fonts
from vlmrecipes.data.sources.synthetic.dice import Dice
from vlmrecipes.data.sources.synthetic.line_image import draw_line
from vlmrecipes.data.sources.synthetic.options import Names, Option, Settings, Share, Whole
from vlmrecipes.data.sources.synthetic.text import line

if TYPE_CHECKING:
    from vlmrecipes.data.source_tables import SyntheticSource

COLUMNS = ("image", "text")
LONGEST = 60
OPTIONS: dict[str, Option] = {
    "fonts": Names(default=(fonts.BUILT_IN,)),
    "min_chars": Whole(default=1, low=1, high=LONGEST),
    "max_chars": Whole(default=LONGEST, low=1, high=LONGEST),
    "hard": Share(default=1.0),
}
"""`fonts`: file names, or `pillow`. `min_chars`, `max_chars`: length of the text. `hard`: how worn the lines look."""
_TRIES = 6


@dataclass(frozen=True, slots=True)
class LineImage:
    """A line to be drawn."""

    text: str
    font: str
    """Path of the font file, or `pillow`."""
    seed: str
    hard: float

    def render(self) -> bytes:
        """Return a JPEG, 11 to 64 px high and at most 1000 px wide."""
        return draw_line(self.text, self.font, Dice("lines/look", self.seed), self.hard)


def open_rows(source: SyntheticSource, *, file: str, key: str) -> Iterator[dict[str, Any]]:
    """Return the rows of `source`. Raises InputError."""
    settings = Settings(source.options, OPTIONS, file=file, key=key)
    low, high = settings.values["min_chars"], settings.values["max_chars"]
    if low > high:
        settings.refuse("min_chars", f"is {low}, more than max_chars = {high}")
    paths, missing = fonts.find(settings.values["fonts"])
    if missing:
        settings.refuse("fonts", fonts.advice(missing))
    for path in paths:
        _try_font(path, settings)
    settings.check()
    return (_row(source, paths, (low, high), settings.values["hard"], index) for index in range(source.count))


def _try_font(path: str, settings: Settings) -> None:
    try:
        enough = len(fonts.drawable(path) & set(PLAIN)) == len(PLAIN)
    except OSError as error:
        settings.refuse("fonts", f"{path} cannot be read as a font: {error}")
        return
    if not enough:
        settings.refuse("fonts", f"{path} lacks letters or digits of plain English")


PLAIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,-"
"""What every font must be able to draw."""


def _row(
    source: SyntheticSource, paths: Sequence[str], lengths: tuple[int, int], hard: float, index: int
) -> dict[str, Any]:
    seed = f"{source.seed}/{source.part}/{index}"
    dice = Dice("lines", seed)
    text = line(dice, *lengths)
    font, text = _fitting(dice, text, paths, lengths[0])
    return {"image": LineImage(text, font, seed, hard), "text": text}


def _fitting(dice: Dice, text: str, paths: Sequence[str], low: int) -> tuple[str, str]:
    """Return a font and a text it can draw all of: `text` itself when one of a few fonts can."""
    needed = set(text)
    font = paths[0]
    for _ in range(_TRIES):
        font = dice.pick(paths)
        if needed <= fonts.drawable(font):
            return font, text
    kept = " ".join("".join(char for char in text if char in fonts.drawable(font)).split())
    while len(kept) < low:
        kept += dice.pick(PLAIN)
    return font, kept
