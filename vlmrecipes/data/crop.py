"""What is cut out of a page: a box, or a polygon with white around it. Pixels of the upright image, origin at the top left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.images import ImageError

if TYPE_CHECKING:
    from PIL import Image

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1: the right and lower edges are outside."""
Polygon = tuple[Point, ...]
"""Three points or more; the pixels they lie in are inside."""
Crop = Box | Polygon

MAX_POINTS = 10_000
_CORNERS, _TRIANGLE, _FARTHEST = 4, 3, 1e7


def read_crop(value: Any) -> Crop:
    """Return `[x0, y0, x1, y1]` as a Box; `[[x, y], …]` or `[x, y, x, y, x, y, …]` as a Polygon. Raises ImageError."""
    try:
        if isinstance(value, (list, tuple)) and len(value) <= MAX_POINTS:
            if all(isinstance(point, (list, tuple)) for point in value):
                return _polygon([(_number(x), _number(y)) for x, y in value])
            numbers = [_number(item) for item in value]
            if len(numbers) == _CORNERS:
                return (numbers[0], numbers[1], numbers[2], numbers[3])
            if len(numbers) % 2 == 0:
                return _polygon(list(zip(numbers[::2], numbers[1::2], strict=True)))
    except (TypeError, ValueError):
        pass
    raise ImageError("bad_crop", f"[x0, y0, x1, y1] or [[x, y], …] is wanted, found {str(value)[:80]}")


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _polygon(points: Sequence[Point]) -> Polygon:
    if len(points) < _TRIANGLE:
        raise ValueError(points)
    return tuple(points)


def cut(image: Image.Image, crop: Crop) -> Image.Image:
    """Return the part of `image` inside `crop`; of a polygon its bounding box, white outside. Raises ImageError."""
    outline = [point for point in crop if isinstance(point, tuple)]
    wanted = _around(outline) if outline else [round(_near(side)) for side in crop if not isinstance(side, tuple)]
    x0, y0 = max(0, wanted[0]), max(0, wanted[1])
    x1, y1 = min(image.width, wanted[2]), min(image.height, wanted[3])
    if x1 <= x0 or y1 <= y0:
        told = str([list(point) if isinstance(point, tuple) else point for point in crop])[:80]
        raise ImageError("bad_crop", f"{told} holds no pixel of a {image.width}x{image.height} image")
    part = image.crop((x0, y0, x1, y1))
    return _on_white(part, [(x - x0, y - y0) for x, y in outline]) if outline else part


def _near(number: float) -> float:
    """Keep numbers that no image reaches within what whole numbers of a drawing library hold."""
    return max(-_FARTHEST, min(_FARTHEST, number))


def _around(outline: Sequence[Point]) -> list[int]:
    across, down = [_near(x) for x, _ in outline], [_near(y) for _, y in outline]
    return [math.floor(min(across)), math.floor(min(down)), math.floor(max(across)) + 1, math.floor(max(down)) + 1]


def _on_white(part: Image.Image, outline: Sequence[Point]) -> Image.Image:
    from PIL import Image, ImageDraw

    mask = Image.new("L", part.size, 0)
    ImageDraw.Draw(mask).polygon([(_near(x), _near(y)) for x, y in outline], fill=255)
    return Image.composite(part, Image.new(part.mode, part.size, "white"), mask)


def points_of(text: str) -> list[list[float]]:
    """Return the points of an XML attribute: `x,y x,y` (PAGE), `x y x y` or `x,y,x,y` (ALTO). Raises ValueError."""
    numbers = [float(number) for number in text.replace(",", " ").split()]
    if len(numbers) % 2:
        raise ValueError(f"an odd number of coordinates: {text[:40]!r}")
    return [list(point) for point in pairwise(numbers)][::2]
