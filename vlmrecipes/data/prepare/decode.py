"""Encoded bytes to an upright picture in the wanted colour mode; hostile files are refused before they are decoded."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from vlmrecipes.data.declaration import Prepare
from vlmrecipes.data.images import ImageError
from vlmrecipes.data.prepare.resize import target_size

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""What Pillow may try; its long tail of rare decoders stays shut."""
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError)
_BROKEN += (struct.error, zlib.error, MemoryError, RuntimeError, NotImplementedError, ZeroDivisionError)  # type: ignore[assignment]
"""What Pillow's decoders raise on damaged files."""
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded picture and what it took."""

    image: Image.Image
    format: str
    width: int
    """Of the file, before anything was done."""
    height: int
    steps: tuple[str, ...]


@lru_cache(maxsize=2)
def decode(raw: bytes, policy: Prepare, *, keep_detail: bool) -> Decoded:
    """Return the first frame, upright, in `policy.mode`. `keep_detail`: never decode a JPEG at a smaller scale.

    The last pages are remembered: rows that crop lines from one page follow each other.
    Raises ImageError (`undecodable`, `too_large`).
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(raw), formats=FORMATS)
            width, height = image.size
            _check_size(width, height, policy)
            if not keep_detail:
                _draft(image, policy)
            image.load()
            return _normalised(image, width, height, policy)
        except Image.DecompressionBombError as error:
            raise ImageError("too_large", str(error)) from None
        except _BROKEN as error:
            raise ImageError("undecodable", _reason(raw, error)) from None


def _reason(raw: bytes, error: BaseException) -> str:
    if not raw:
        return "the file is empty"
    text = str(error) or type(error).__name__
    return "not an image of a known format" if "cannot identify" in text else text


def _check_size(width: int, height: int, policy: Prepare) -> None:
    if width * height > policy.max_source_pixels:
        raise ImageError("too_large", f"{width}x{height}: more than {policy.max_source_pixels} pixels")


def _draft(image: Image.Image, policy: Prepare) -> None:
    """Let libjpeg decode at 1/2, 1/4 or 1/8 when the picture will be shrunk at least so much."""
    if image.format == "JPEG" and image.mode in ("RGB", "L"):
        image.draft(image.mode, target_size(image.width, image.height, policy))


def _normalised(image: Image.Image, width: int, height: int, policy: Prepare) -> Decoded:
    kind, steps = str(image.format), []
    if image.size != (width, height):
        steps.append("draft")
    if (orientation := _orientation(image)) != 1:
        image = _upright(image, orientation)
        steps.append("upright")
    if image.mode.startswith(("I", "F")):
        image = _eight_bit(image)
        steps.append("scale")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = _on_white(image)
        steps.append("alpha")
    if image.mode != policy.mode:
        image = image.convert(policy.mode)
        steps.append("mode")
    return Decoded(image, kind, width, height, tuple(steps))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        return 1
    return value if value in range(1, 9) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the picture turned as EXIF orientation 2–8 says (CIPA DC-008, table of tag 274)."""
    from PIL import Image

    turn = Image.Transpose
    turns = (
        turn.FLIP_LEFT_RIGHT,
        turn.ROTATE_180,
        turn.FLIP_TOP_BOTTOM,
        turn.TRANSPOSE,
        turn.ROTATE_270,
        turn.TRANSVERSE,
        turn.ROTATE_90,
    )
    return image.transpose(turns[orientation - 2])


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return 16-bit, 32-bit and float greys scaled to 0–255; Pillow's own conversion would clip them."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image, dtype=np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    top = 65535.0 if image.mode.startswith("I") and values.max(initial=0) <= 65535 else values.max(initial=0)  # noqa: PLR2004
    bottom = min(0.0, values.min(initial=0))
    scaled = (values - bottom) * (255.0 / max(top - bottom, 1e-12))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8), "L")


def _on_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")
