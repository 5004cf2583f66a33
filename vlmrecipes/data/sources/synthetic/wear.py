"""Ink on paper, printed badly, kept badly, scanned badly."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    import numpy.typing as npt

    from vlmrecipes.data.sources.synthetic.dice import Dice

    Floats = npt.NDArray[np.float32]

_NOISE_SIZE = (320, 2304)


def wear(mask: Image.Image, dice: Dice, hard: float) -> Image.Image:
    """Return the ink of `mask` on paper as a grey image, worn with strength `hard` from 0 to 1."""
    ink = _printed(np.asarray(mask, np.float32) / np.float32(255), dice, hard)
    light, dark = _levels(dice, hard)
    grey = light + (dark - light) * ink
    if dice.chance(0.5 * hard):
        grey = _blurred(grey, dice)
    grey = _lit(grey, dice, hard)
    if dice.chance(0.16 * hard):
        grey = _rescanned(grey, (light + dark) / 2, (light - dark) / 4, dice)
    if dice.chance(0.03 * hard):
        grey = 255 - grey
    return Image.fromarray(_bytes(grey))


def _bytes(grey: Floats) -> npt.NDArray[np.uint8]:
    return np.asarray(np.clip(grey + np.float32(0.5), 0, 255), np.uint8)


def _printed(ink: Floats, dice: Dice, hard: float) -> Floats:
    """Return the ink that reached the paper: fatter, thinner, faded, with gaps."""
    if dice.chance(0.3 * hard):
        ink = (
            _fattened(ink, dice.real(0.3, 1), dice.below(2)) if dice.chance(0.6) else _thinned(ink, dice.real(0.2, 0.7))
        )
    if dice.chance(0.2 * hard):
        ink = ink * _waves(ink.shape[1], dice.real(0.4, 0.85), dice)
    if dice.chance(0.14 * hard):
        share = dice.real(0.2, 1)
        ink = ink * (1 - share * (_noise(ink.shape, dice, "grain") > dice.real(0.5, 1.6)))
    if dice.chance(0.1 * hard):
        ink = ink * np.clip(1 - dice.real(0.2, 0.6) * _noise(ink.shape, dice, "blotch"), 0.25, 1)
    if dice.chance(0.05 * hard) and ink.shape[0] > 16:
        ink = ink.copy()
        ink[dice.below(ink.shape[0])] *= dice.real(0, 0.6)
        ink[:, dice.below(ink.shape[1])] *= dice.real(0, 0.6)
    return ink


def _fattened(ink: Floats, share: float, axis: int) -> Floats:
    """Spread ink by up to a pixel to one side."""
    fat = ink.copy()
    if axis:
        np.maximum(fat[:, 1:], ink[:, :-1] * np.float32(share), out=fat[:, 1:])
    else:
        np.maximum(fat[1:], ink[:-1] * np.float32(share), out=fat[1:])
    return fat


def _thinned(ink: Floats, share: float) -> Floats:
    """Take ink away where its right neighbour has none."""
    thin = ink.copy()
    missing = np.maximum(ink[:, :-1] - ink[:, 1:], 0)
    thin[:, :-1] -= missing * np.float32(share)
    return thin


def _waves(width: int, least: float, dice: Dice) -> Floats:
    """Return a strength for each column from `least` to 1 that changes slowly."""
    knots = [dice.real(least, 1) for _ in range(dice.whole(2, 2 + width // 40))]
    return np.interp(np.linspace(0, len(knots) - 1, width), range(len(knots)), knots).astype(np.float32)


def _levels(dice: Dice, hard: float) -> tuple[float, float]:
    """Return the brightness of paper and ink."""
    light = dice.real(228, 255) if not dice.chance(0.2 * hard) else dice.real(145, 230)
    dark = dice.bell(0, 90)
    if dice.chance(0.16 * hard):
        dark = light - dice.real(45, 100)
    return light, max(0.0, min(dark, light - 70 if light > 150 else light - 55))


def _blurred(grey: Floats, dice: Dice) -> Floats:
    kind, strength = dice.random(), min(1.0, grey.shape[0] / 36)
    if kind < 0.12:
        steps = dice.pick((2, 2, 3))
        padded = np.pad(grey, ((0, 0), (0, steps - 1)), mode="edge")
        total = sum(padded[:, step : step + grey.shape[1]] for step in range(steps))
        return np.asarray(total / np.float32(steps), np.float32)
    radius = (dice.real(0.25, 0.8) if kind < 0.85 else dice.real(0.8, 1.5)) * strength
    blur = ImageFilter.GaussianBlur(radius) if kind < 0.5 else ImageFilter.BoxBlur(radius)
    soft = np.asarray(Image.fromarray(_bytes(grey)).filter(blur), np.float32)
    if dice.chance(0.2):
        return soft + (soft - np.asarray(Image.fromarray(_bytes(soft)).filter(ImageFilter.BoxBlur(1)), np.float32)) * 2
    return soft


def _lit(grey: Floats, dice: Dice, hard: float) -> Floats:
    """Add uneven light, the paper's texture and the camera's grain."""
    height, width = grey.shape
    if dice.chance(0.25 * hard):
        across = dice.real(-35, 35) * np.linspace(-0.5, 0.5, width, dtype=np.float32)
        down = dice.real(-20, 20) * np.linspace(-0.5, 0.5, height, dtype=np.float32)
        grey = grey + across + down[:, None]
    if dice.chance(0.35 * hard):
        grey = grey + np.float32(dice.real(1, 9)) * _noise(grey.shape, dice, "blotch")
    if dice.chance(0.6 * hard):
        strength = dice.real(1, 7) if dice.chance(0.75) else dice.real(7, 20)
        grey = grey + np.float32(strength) * _noise(grey.shape, dice, "grain")
    if dice.chance(0.08 * hard):
        grain = _noise(grey.shape, dice, "grain")
        grey = np.where(grain > dice.real(2.1, 2.6), dice.pick((20.0, 90.0, 240.0)), grey)
    return np.asarray(grey, np.float32)


def _rescanned(grey: Floats, middle: float, off: float, dice: Dice) -> Floats:
    """Return the image as cheap scanners give it: all but black and white around `middle`, give or take `off`."""
    gain = np.float32(dice.pick((2, 2, 3, 5)))
    target = np.float32(dice.real(115, 150))
    grey = (grey - np.float32(middle + dice.real(-off, off))) * gain + target
    return np.asarray(np.clip(grey, dice.whole(0, 45), dice.whole(225, 255)), np.float32)


@lru_cache(maxsize=2)
def _field(kind: str) -> Floats:
    """Return noise of mean 0 and spread about 1, made once: single points (`grain`) or soft patches (`blotch`)."""
    source = np.random.Generator(np.random.PCG64(20_240_229))
    grain: Floats = np.asarray(source.integers(0, 256, (3, *_NOISE_SIZE), dtype=np.uint8), np.float32).sum(0)
    grain = np.asarray((grain - 382.5) / 128, np.float32)
    if kind == "grain":
        return grain
    small = Image.fromarray(grain[: _NOISE_SIZE[0] // 4, : _NOISE_SIZE[1] // 4])
    large = small.resize((_NOISE_SIZE[1], _NOISE_SIZE[0]), Image.Resampling.BILINEAR)
    return np.asarray(large, np.float32) * np.float32(1.5)


def _noise(shape: tuple[Any, ...], dice: Dice, kind: str) -> Floats:
    field = _field(kind)
    y, x = dice.below(field.shape[0] - shape[0]), dice.below(field.shape[1] - shape[1])
    return field[y : y + shape[0], x : x + shape[1]]
