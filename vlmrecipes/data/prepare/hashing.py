"""Hashes of decoded pictures."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

SIDE = 32
LOW = 8


def pixel_hash(image: Image.Image) -> str:
    """Return the SHA-256 of mode, size and pixel bytes, 64 hex digits."""
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def perceptual_hash(image: Image.Image) -> int:
    """Return a 64-bit hash that resized and recompressed copies nearly share.

    Signs of the 8x8 lowest frequencies of the cosine transform of a 32x32 grey copy, against their median
    (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, §3.2.1).
    """
    import numpy as np
    from PIL import Image

    grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    cosines = _cosines()
    low = cosines @ np.asarray(grey, dtype=np.float64) @ cosines.T
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@lru_cache(maxsize=1)
def _cosines() -> Any:
    """Return the first rows of the type-II cosine transform, shape (LOW, SIDE)."""
    import numpy as np

    frequency, place = np.arange(LOW)[:, None], np.arange(SIDE)[None, :]
    return np.cos(np.pi * frequency * (2 * place + 1) / (2 * SIDE))
