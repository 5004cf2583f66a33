"""Thumbnails for a report, as data URIs."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

QUALITY = 80
TALLER = 2.5
"""A thumbnail is at most so many times as tall as it may be wide."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail, or why there is none."""

    number: int = 0
    """Its place in the report, from 1."""
    uri: str = ""
    width: int = 0
    height: int = 0
    shared: bool = False
    """Shown more than once: its bytes stand once in the report and are referred to."""
    missing: str = ""
    """Why there is no thumbnail; empty when there is one."""


def thumbnails(shown: Iterable[str], images: Mapping[str, bytes], width: int) -> dict[str, Picture]:
    """Return a picture at most `width` pixels wide for every image key in `shown`; a key shown twice is one picture."""
    counts = Counter(shown)
    return {
        key: _picture(images.get(key), width, number, shared=count > 1)
        for number, (key, count) in enumerate(counts.items(), 1)
    }


def _picture(data: bytes | None, width: int, number: int, *, shared: bool) -> Picture:
    from PIL import Image

    if data is None:
        return Picture(missing="Picture not found in the store")
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind, encoded, size = _thumbnail(image, width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return Picture(missing="Picture cannot be decoded")
    uri = f"data:image/{kind};base64,{base64.b64encode(encoded).decode('ascii')}"
    return Picture(number, uri, *size, shared=shared)


def _thumbnail(image: Image.Image, width: int) -> tuple[str, bytes, tuple[int, int]]:
    box = (width, int(width * TALLER))
    # Draft lets the JPEG decoder do most of the shrinking, and is ignored by other formats.
    image.draft("RGB", box)
    small = image.convert("L" if image.mode in ("1", "L") else "RGB")
    small.thumbnail(box)
    files = [("jpeg", _encoded(small, "JPEG", quality=QUALITY)), ("png", _encoded(small, "PNG"))]
    kind, encoded = min(files, key=lambda file: len(file[1]))
    return kind, encoded, small.size


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, **options)
    return buffer.getvalue()
