"""A line of text as an ink mask: font, size, stretch, slant, and how closely it was cropped."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw

from vlmrecipes.data.sources.synthetic import fonts
from vlmrecipes.data.sources.synthetic.dice import Dice

MAX_HEIGHT, MIN_HEIGHT, MAX_WIDTH = 64, 11, 1000
_FILTERS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BILINEAR,
    Image.Resampling.BOX,
    Image.Resampling.BICUBIC,
    Image.Resampling.HAMMING,
)
_DOT = 4
"""Side in pixels of one printed dot while it is drawn."""
_DOT_MASK = bytes((90, 200, 200, 90, 200, 255, 255, 200, 200, 255, 255, 200, 90, 200, 200, 90))
_ROUND_DOT_MASK = bytes((0, 130, 130, 0, 130, 255, 255, 130, 130, 255, 255, 130, 0, 130, 130, 0))
_OVERHANG = 2
"""Ink may stick out of its advance by so many pixels."""


@dataclass(frozen=True, slots=True)
class Press:
    """How a line is put on paper before it is scaled: the printer's own resolution."""

    size: int
    """Font size in the printer's pixels."""
    aliased: bool
    """Pixels are ink or no ink, as thermal and needle printers have it."""
    dots: bytes
    """Shape of a dot that is seen apart from its neighbours; empty: they run together."""
    scale_x: float
    """From the printer's pixels to the image's."""
    scale_y: float
    resample: Image.Resampling


@dataclass(frozen=True, slots=True)
class Set:
    """A line at its final scale, with the baseline's height in it."""

    mask: Image.Image
    baseline: float
    cap: float
    """Height of a capital letter in pixels."""


def typeset(text: str, font: str, dice: Dice, hard: float) -> Image.Image:
    """Return the line's ink, 0 to 255, 11 to 64 px high and at most 1000 px wide."""
    cap = dice.real(24, 40) if dice.chance(0.06) else dice.bell(6.5, 32)
    press = _press(font, cap, dice, hard)
    mask = _crop(_scaled(_spread(text, dice), font, press, cap, dice), dice, hard)
    shrink = min(1.0, MAX_HEIGHT / mask.height, MAX_WIDTH / mask.width)
    if shrink < 1:
        size = (max(MIN_HEIGHT, int(mask.width * shrink)), max(MIN_HEIGHT, int(mask.height * shrink)))
        mask = mask.resize(size, Image.Resampling.BOX)
    return mask


def _spread(text: str, dice: Dice) -> str:
    """Widen one space, or all of them, as columns and blocks do; the label keeps single spaces."""
    if " " not in text or not dice.chance(0.22):
        return text
    words = text.split(" ")
    if dice.chance(0.3):
        return "  ".join(words)
    at = dice.whole(1, len(words) - 1)
    gap = " " * dice.whole(2, 7)
    return " ".join(words[:at]) + gap + " ".join(words[at:])


def _press(font: str, cap: float, dice: Dice, hard: float) -> Press:
    aliased, dots = dice.chance(0.33 * hard), b""
    if aliased:
        native, resample = dice.real(9, 17), dice.pick((Image.Resampling.NEAREST, *_FILTERS))
        if cap > 12 and dice.chance(0.3):
            native, dots = dice.real(8.5, 12), dice.pick((_DOT_MASK, _ROUND_DOT_MASK))
            resample = Image.Resampling.BOX
    else:
        coarse = dice.chance(0.2 * hard)
        native = max(8.0, cap * (dice.real(0.5, 0.8) if coarse else dice.real(0.95, 1.4)))
        resample = dice.pick(_FILTERS)
    size = max(6, round(native / fonts.cap_share(font)))
    scale = cap / (size * fonts.cap_share(font))
    return Press(size, aliased, dots, scale * _stretch(dice), scale, resample)


def _stretch(dice: Dice) -> float:
    """Return how much wider than designed the line is: tall and wide print are common on receipts."""
    draw = dice.random()
    if draw < 0.45:
        return dice.real(0.92, 1.08)
    if draw < 0.70:
        return dice.real(0.72, 0.95)
    if draw < 0.82:
        return dice.real(0.52, 0.75)
    return dice.real(1.05, 1.35) if draw < 0.95 else dice.real(1.35, 2.0)


def _scaled(text: str, font: str, press: Press, cap: float, dice: Dice) -> Set:
    raw, baseline = _drawn(text, font, press, dice)
    if press.dots:
        raw = _dotted(raw, press.dots)
        baseline *= _DOT
    factor = _DOT if press.dots else 1
    scale_x = min(press.scale_x / factor, MAX_WIDTH * 0.96 / raw.width)
    scale_y = press.scale_y / factor * max(0.6, scale_x * factor / press.scale_x)
    size = (max(1, round(raw.width * scale_x)), max(1, round(raw.height * scale_y)))
    mask = raw.resize(size, press.resample)
    return Set(mask, baseline * scale_y, cap * scale_y * factor / press.scale_y)


def _drawn(text: str, path: str, press: Press, dice: Dice) -> tuple[Image.Image, float]:
    """Return the text as the printer puts it, and the height of its baseline."""
    font = fonts.load(path, press.size)
    tracking = dice.pick((-0.04, 0.05, 0.1, 0.15, 0.2)) * press.size if dice.chance(0.12) else 0.0
    left, top, right, bottom = font.getbbox(text, anchor="ls")
    width = int(right - min(0, left) + max(0.0, tracking) * len(text)) + 2 * _OVERHANG
    mask = Image.new("L", (width, int(bottom - top) + 2 * _OVERHANG))
    draw = ImageDraw.Draw(mask)
    draw.fontmode = "1" if press.aliased else "L"
    x, y = _OVERHANG - min(0, left), _OVERHANG - top
    if not tracking:
        draw.text((x, y), text, 255, font, anchor="ls")
        return mask, y
    for char in text:
        draw.text((x, y), char, 255, font, anchor="ls")
        x += max(font.getlength(char) + tracking, 2.0)
    return mask, y


def _dotted(raw: Image.Image, dot: bytes) -> Image.Image:
    """Return `raw` with each of its pixels as a round dot."""
    large = raw.resize((raw.width * _DOT, raw.height * _DOT), Image.Resampling.NEAREST)
    screen = Image.frombytes("L", (_DOT, _DOT), dot)
    sheet = Image.new("L", large.size)
    sheet.paste(screen, (0, 0))
    done = _DOT
    while done < large.width:
        sheet.paste(sheet.crop((0, 0, min(done, large.width - done), _DOT)), (done, 0))
        done *= 2
    done = _DOT
    while done < large.height:
        sheet.paste(sheet.crop((0, 0, large.width, min(done, large.height - done))), (0, done))
        done *= 2
    return ImageChops.multiply(large, sheet)


def _crop(line: Set, dice: Dice, hard: float) -> Image.Image:
    """Return the line as someone marked it on a page: closely or widely, a little askew, with what is around it."""
    box = line.mask.getbbox() or (0, 0, line.mask.width, line.mask.height)
    top, bottom = float(box[1]), float(box[3])
    if bottom - top < 0.8 * line.cap and dice.chance(0.85):
        top, bottom = min(top, line.baseline - line.cap), max(bottom, line.baseline)
    above, below = _margins(dice, line.cap, bottom - top, hard)
    left, right = _side(dice, line.cap, hard), _side(dice, line.cap, hard)
    width = max(4, box[2] - box[0] + left + right)
    slope, shear = _askew(dice, width, bottom - top, hard)
    rise = int(abs(slope) * width)
    height = max(MIN_HEIGHT, round(bottom - top) + above + below + rise)
    page = Image.new("L", (width, height))
    at = (left - box[0], above - round(top) + rise // 2)
    page.paste(line.mask, at)
    page = _surround(page, line, (left, round(top) + at[1], round(bottom) + at[1]), dice, hard)
    if not (slope or shear):
        return page
    middle_x, middle_y = width / 2, height / 2
    matrix = (1, shear, -shear * middle_y, slope, 1, -slope * middle_x)
    return page.transform(page.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _margins(dice: Dice, cap: float, ink: float, hard: float) -> tuple[int, int]:
    """Return the pixels above and below the ink; one may be cut off on either side."""
    cut = 1 if ink > 14 and dice.chance(hard) else 0
    draw = dice.random()
    if draw < 0.35:
        return dice.whole(-cut, 2), dice.whole(-cut, 2)
    most = max(2, int(cap * (0.3 if draw < 0.8 else 0.6)))
    if dice.chance(0.6):
        return dice.whole(1, most), dice.whole(1, most)
    return dice.whole(-cut, 2), dice.whole(1, most)


def _side(dice: Dice, cap: float, hard: float) -> int:
    draw = dice.random()
    if draw < 0.06 * hard:
        return -1
    if draw < 0.5:
        return dice.whole(0, 3)
    return dice.whole(1, max(2, int(cap * (0.5 if draw < 0.92 else 2.5))))


def _askew(dice: Dice, width: int, ink: float, hard: float) -> tuple[float, float]:
    """Return the slope of the line and the slant of its letters, both as ratios."""
    slope = shear = 0.0
    if dice.chance(0.3 * hard):
        most = min(0.044, 0.5 * ink / width)
        slope = dice.bell(-most, most)
    if dice.chance(0.12 * hard):
        shear = dice.bell(-0.18, 0.28)
    return slope, shear


def _surround(page: Image.Image, line: Set, ink: tuple[int, int, int], dice: Dice, hard: float) -> Image.Image:
    """Add what a crop catches of its neighbours: parts of the lines above and below, ruled lines.

    `ink` is where the line's own ink begins: left, top, and its bottom.
    """
    left, top, bottom = ink
    if dice.chance(0.14 * hard):
        depth = dice.whole(1, max(1, min(top - 1, int(0.22 * line.cap))))
        if top > depth:
            page = _with_fragment(page, line, depth - line.mask.height, dice)
    if dice.chance(0.14 * hard):
        depth = dice.whole(1, max(1, min(page.height - bottom - 1, int(0.3 * line.cap))))
        if page.height - bottom > depth:
            page = _with_fragment(page, line, page.height - depth, dice)
    if dice.chance(0.04 * hard):
        y = min(page.height - 1, bottom + dice.whole(1, 3)) if dice.chance(0.6) else max(0, top - dice.whole(2, 4))
        ImageDraw.Draw(page).line((0, y, page.width, y), dice.whole(120, 255), dice.pick((1, 1, 2)))
    if dice.chance(0.015 * hard) and left > 2:
        ImageDraw.Draw(page).line((0, 0, 0, page.height), dice.whole(120, 255))
    return page


def _with_fragment(page: Image.Image, line: Set, y: int, dice: Dice) -> Image.Image:
    """Return `page` with a line like this one at height `y`, mostly outside."""
    start = dice.below(max(1, line.mask.width - 4))
    other = Image.new("L", page.size)
    other.paste(line.mask.crop((start, 0, line.mask.width, line.mask.height)), (dice.below(max(1, page.width // 3)), y))
    return ImageChops.lighter(page, other)
