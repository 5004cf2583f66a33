"""A page as ALTO and PAGE both describe it: regions and lines with an outline and a text, in reading order."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

Outline = list[list[float]]
_TRIANGLE = 3


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
    """Width and height in the file's unit; zeros when it does not say."""
    in_pixels: bool = True
    lines: list[Part] = field(default_factory=list)
    regions: list[Part] = field(default_factory=list)

    def scale(self, image: Path | None) -> tuple[float, float]:
        """Return how many pixels one unit is, across and down. Raises ValueError when that cannot be known."""
        if self.in_pixels:
            return 1.0, 1.0
        if not all(self.size):
            raise ValueError("measures in tenths of millimetres or of points, and does not say how large the page is")
        if image is None:
            raise ValueError(
                "measures in tenths of millimetres or of points, and its image, which has the pixels, is not there"
            )
        width, height = _pixels(image)
        return width / self.size[0], height / self.size[1]


def _pixels(image: Path) -> tuple[int, int]:
    """Return width and height from the image's header. Raises ValueError."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(image, formats=("JPEG", "PNG", "TIFF", "JPEG2000", "WEBP")) as opened:
                return opened.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
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


def part(*, region: str, line: str, kind: str, text: str, outline: Outline) -> Part:
    """Return a Part, with a problem when its outline is none."""
    problem = "" if len(outline) >= _TRIANGLE else "no coordinates"
    return Part(region=region, line=line, type=kind, text=text, outline=outline, problem=problem)
