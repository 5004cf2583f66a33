"""Deep greys and transparency to 8 bits on white, a strip at a time: a large picture is never held twice over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

STRIP_PIXELS = 1 << 20
BYTE, SHORT = 255, 65535


def has_alpha(image: Image.Image) -> bool:
    """Tell whether pixels of `image` can be transparent."""
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def on_white(image: Image.Image) -> Image.Image:
    """Return the picture as RGB, transparent parts laid on white."""
    from PIL import Image

    result = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        rgba = strip.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (BYTE, BYTE, BYTE, BYTE))
        result.paste(Image.alpha_composite(white, rgba).convert("RGB"), (0, top))
    return result


def eight_bit(image: Image.Image) -> Image.Image:
    """Return 16-bit, 32-bit and float greys scaled to 0-255, where Pillow would clip them; the transparent value white.

    16-bit greys (I;16, and what PPM holds) keep their scale: 65535 is white. 32-bit ones up to 255 are taken as bytes;
    of others, and of floats, the largest value is white.
    """
    import numpy as np
    from PIL import Image

    bottom, top = _range(image)
    result = Image.new("L", image.size)
    clear = image.info.get("transparency")
    for place, strip in _strips(image):
        values = _values(strip)
        scaled = np.clip(np.rint((values - bottom) * (BYTE / max(top - bottom, 1e-12))), 0, BYTE)
        if isinstance(clear, int):
            scaled[values == clear] = BYTE
        result.paste(Image.fromarray(scaled.astype(np.uint8)), (0, place))
    return result


def _range(image: Image.Image) -> tuple[float, float]:
    """Return the values that become black and white."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG")):
        return 0.0, SHORT
    ends = [
        (values.min(initial=0), values.max(initial=0)) for values in (_values(strip) for _, strip in _strips(image))
    ]
    bottom, top = min(low for low, _ in ends), max(high for _, high in ends)
    return float(bottom), float(BYTE if image.mode == "I" and top <= BYTE else top)


def _values(strip: Image.Image) -> Any:
    import numpy as np

    return np.nan_to_num(np.asarray(strip, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield the rows of a picture a few at a time, with the first one's number."""
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))
