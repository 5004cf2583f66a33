"""A page as ALTO and PAGE both describe it: regions and lines with an outline and a text, in reading order."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass, field
from pathlib import Path

Outline = list[list[float]]
_TRIANGLE = 3
SHAPE = 0.01
"""By which share the ratio of the sides may differ between a file and its image: more than rounding, less than another crop."""
ORIENTATION, SIDEWAYS = 274, 5
"""The EXIF tag, and from which value on it swaps the sides of the upright picture (CIPA DC-008)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A line or a region."""

    region: str
    line: str
    """Empty for a region."""
    type: str
    text: str
    outline: Outline
    """`[[x, y], …]`, three points or more, in the file's unit."""
    problem: str = ""
    """Why it cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a file says of one page."""

    image: str
    """As the file names it; may be empty."""
    size: tuple[float, float]
    """Width and height in the file's unit, of the upright image; zeros when it does not say."""
    in_pixels: bool = True
    lines: list[Part] = field(default_factory=list)
    regions: list[Part] = field(default_factory=list)

    def scale(self, image: Path | None) -> tuple[float, float]:
        """Return how many pixels of the upright image one unit is, across and down.

        Raises ValueError when that cannot be known, and when the image is not the one that the file measures: pixels of
        another resolution are scaled, another shape is refused.
        """
        if self.in_pixels:
            return self._scale_of_pixels(image)
        if not all(self.size):
            raise ValueError("measures in tenths of millimetres or of points, and does not say how large the page is")
        if image is None:
            raise ValueError(
                "measures in tenths of millimetres or of points, and its image, which has the pixels, is not there"
            )
        width, height = _pixels(image)
        return width / self.size[0], height / self.size[1]

    def _scale_of_pixels(self, image: Path | None) -> tuple[float, float]:
        try:
            width, height = _pixels(image) if image and all(self.size) else self.size
        except ValueError:  # preparing the image tells more of why
            return 1.0, 1.0
        if (width, height) == self.size:
            return 1.0, 1.0
        across, down = width / self.size[0], height / self.size[1]
        if image and abs(across / down - 1) > SHAPE:
            stated = f"{self.size[0]:g}x{self.size[1]:g}"
            raise ValueError(
                f"measures an image of {stated} pixels, and {image.name} has {width}x{height}: another shape"
            )
        return across, down


def _pixels(image: Path) -> tuple[int, int]:
    """Return width and height from the image's header, as it stands upright. Raises ValueError."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(image, formats=("JPEG", "PNG", "TIFF", "JPEG2000", "WEBP")) as opened:
                width, height = opened.size
                return (height, width) if opened.getexif().get(ORIENTATION) in range(SIDEWAYS, 9) else (width, height)
        except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
            raise ValueError(f"the size of its image {image.name} cannot be read: {error}") from None


def corners(x: float, y: float, width: float, height: float) -> Outline:
    """Return the four corners of a box."""
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


def around(outlines: list[Outline]) -> Outline:
    """Return the corners of the box around several outlines; empty when there are none."""
    points = [point for outline in outlines for point in outline]
    if not points:
        return []
    across, down = [x for x, _ in points], [y for _, y in points]
    return corners(min(across), min(down), max(across) - min(across), max(down) - min(down))


def number(text: str | None) -> float:
    """Return a positive number as a file writes it; 0 for none."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if 0 < value < float("inf") else 0.0


def part(*, region: str, line: str, kind: str, text: str, outline: Outline) -> Part:
    """Return a Part, with a problem when its outline is none."""
    problem = "" if len(outline) >= _TRIANGLE else "no coordinates"
    return Part(region=region, line=line, type=kind, text=text, outline=outline, problem=problem)
