"""A scene of coloured shapes: what is in it, and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw

from vlmrecipes.data.sources.synthetic.dice import Dice

Rgb = tuple[int, int, int]
Point = tuple[float, float]

KINDS = ("circle", "rectangle", "square", "triangle", "star", "ring", "cross")
COMMON_KINDS = ("circle", "rectangle", "triangle", "square")
COLORS: dict[str, tuple[Rgb, ...]] = {
    "red": ((255, 0, 0), (220, 30, 30)),
    "green": ((0, 255, 0), (0, 160, 40)),
    "blue": ((0, 0, 255), (0, 120, 255), (30, 60, 200)),
    "yellow": ((255, 255, 0), (250, 220, 30)),
    "black": ((0, 0, 0), (20, 20, 24)),
    "gray": ((128, 128, 128), (110, 112, 118)),
    "brown": ((165, 42, 42), (139, 69, 19)),
    "teal": ((0, 128, 128), (10, 140, 135)),
    "orange": ((255, 140, 0), (245, 150, 30)),
    "purple": ((128, 0, 128), (150, 40, 190)),
    "pink": ((255, 105, 180), (250, 130, 190)),
    "white": ((255, 255, 255), (248, 248, 250)),
}
"""Each colour's typical values; every shape varies them a little."""
FINE = 3
"""Shapes are drawn so many times larger and reduced: smooth edges."""
_STAR = ((0, -1), (0.23, -0.32), (0.95, -0.31), (0.38, 0.12), (0.59, 0.81), (0, 0.4), (-0.59, 0.81), (-0.38, 0.12))
_STAR_REST = ((-0.95, -0.31), (-0.23, -0.32))
_CROSS = ((-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1), (1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1))
OUTLINES: dict[str, tuple[Point, ...]] = {
    "triangle": ((0, -1), (1, 1), (-1, 1)),
    "star": _STAR + _STAR_REST,
    "cross": tuple((x / 3, y / 3) for x, y in _CROSS),
}
"""Corners in a square from -1 to 1."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape; positions in pixels."""

    kind: str
    color: str
    rgb: Rgb
    x: float
    """Centre."""
    y: float
    half_width: float
    half_height: float

    @property
    def area(self) -> float:
        """Size of the box around it, in pixels."""
        return 4 * self.half_width * self.half_height


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture's content. Shapes do not touch."""

    width: int
    height: int
    background: Rgb
    bars: tuple[tuple[int, int], ...]
    """Grey walls between boxes, as left and right edges in pixels."""
    shapes: tuple[Shape, ...]
    jpeg_quality: int
    """0: stored as PNG."""


def make_scene(dice: Dice, max_shapes: int) -> Scene:
    """Return a scene of 1 to `max_shapes` shapes, one time in three of a single one."""
    boxed = dice.chance(0.15)
    height = dice.whole(56, 100) if boxed else dice.whole(56, 160)
    width = height * 14 // 5 if boxed else max(56, min(160, int(height * dice.pick((1, 1, 1, 0.75, 1.3)))))
    walls = tuple((int(width * left), int(width * (left + 0.1))) for left in (0.27, 0.63)) if boxed else ()
    background = (dice.whole(195, 225),) * 3 if boxed else _background(dice)
    wanted = 1 if dice.chance(1 / 3) else dice.whole(1, max_shapes)
    palette = [name for name in COLORS if _apart(COLORS[name][0], background)]
    shapes = _place(dice, wanted, (width, height), walls, palette)
    quality = dice.whole(70, 95) if dice.chance(0.4) else 0
    return Scene(width, height, background, walls, shapes, quality)


def _background(dice: Dice) -> Rgb:
    kind = dice.random()
    if kind < 0.6:
        return dice.whole(225, 255), dice.whole(225, 255), dice.whole(225, 255)
    level = dice.whole(160, 224) if kind < 0.85 else dice.whole(30, 90)
    return level + dice.whole(-12, 12), level + dice.whole(-12, 12), level + dice.whole(-12, 12)


def _apart(one: Rgb, other: Rgb) -> bool:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) > 150


def _place(
    dice: Dice, wanted: int, size: tuple[int, int], walls: tuple[tuple[int, int], ...], palette: list[str]
) -> tuple[Shape, ...]:
    """Return up to `wanted` shapes with free space between them; at least one."""
    kinds = dice.pick((KINDS, COMMON_KINDS, COMMON_KINDS))
    shapes: list[Shape] = []
    for _ in range(wanted * 12):
        shape = _shape(dice, dice.pick(kinds), dice.pick(palette), size, small=wanted > 1)
        free = all(not _near(shape, other) for other in shapes) and all(
            shape.x + shape.half_width < left or shape.x - shape.half_width > right for left, right in walls
        )
        if free:
            shapes.append(shape)
        if len(shapes) == wanted:
            break
    return tuple(shapes) or (_shape(dice, kinds[0], palette[0], (size[1], size[1]), small=True),)


def _shape(dice: Dice, kind: str, color: str, size: tuple[int, int], *, small: bool) -> Shape:
    rgb = dice.pick(COLORS[color])
    rgb = tuple(max(0, min(255, value + dice.whole(-8, 8))) for value in rgb)  # type: ignore[assignment]
    half = max(5.0, min(size) * (dice.real(0.06, 0.2) if small else dice.real(0.07, 0.38)))
    half_width = half_height = half
    if kind == "rectangle":
        ratio = dice.pick((0.4, 0.5, 0.6, 0.7))
        half_width, half_height = (half, half * ratio) if dice.chance(0.5) else (half * ratio, half)
    if kind == "triangle":
        half_height = half * dice.pick((0.85, 0.87, 1))
    x = dice.real(half_width + 1, size[0] - half_width - 1)
    y = dice.real(half_height + 1, size[1] - half_height - 1)
    return Shape(kind, color, rgb, x, y, half_width, half_height)


def _near(one: Shape, other: Shape) -> bool:
    return (
        abs(one.x - other.x) < one.half_width + other.half_width + 2
        and abs(one.y - other.y) < one.half_height + other.half_height + 2
    )


def to_image_bytes(scene: Scene) -> bytes:
    """Return the scene as a PNG, or as a JPEG of its quality."""
    image = Image.new("RGB", (scene.width * FINE, scene.height * FINE), scene.background)
    draw = ImageDraw.Draw(image)
    for left, right in scene.bars:
        draw.rectangle((left * FINE, 0, right * FINE, image.height), (128, 128, 128))
    for shape in scene.shapes:
        _draw(draw, shape, scene.background)
    image = image.reduce(FINE)
    out = BytesIO()
    if scene.jpeg_quality:
        image.save(out, "JPEG", quality=scene.jpeg_quality)
    else:
        image.save(out, "PNG")
    return out.getvalue()


def _draw(draw: ImageDraw.ImageDraw, shape: Shape, background: Rgb) -> None:
    x, y, half_width, half_height = (
        round(value * FINE) for value in (shape.x, shape.y, shape.half_width, shape.half_height)
    )
    box = (x - half_width, y - half_height, x + half_width, y + half_height)
    if shape.kind in OUTLINES:
        draw.polygon(
            [(round(x + a * half_width), round(y + b * half_height)) for a, b in OUTLINES[shape.kind]], shape.rgb
        )
    elif shape.kind in {"circle", "ring"}:
        draw.ellipse(box, shape.rgb)
        if shape.kind == "ring":
            draw.ellipse(
                (x - half_width // 2, y - half_height // 2, x + half_width // 2, y + half_height // 2), background
            )
    else:
        draw.rectangle(box, shape.rgb)
