"""Hashes of decoded pictures."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

CELLS = 8
"""A side."""
FLAT = 2.0
"""Grey levels of 255."""


def pixel_hash(image: Image.Image) -> str:
    """Return the SHA-256 of mode, size and pixel bytes, 64 hex digits."""
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def perceptual_hashes(image: Image.Image) -> tuple[int, bytes]:
    """Return a 64-bit hash that resized and recompressed copies nearly share, and one of 256 bits that tells more apart.

    Both are signs of the lowest frequencies of the cosine transform of a grey copy, against their median
    (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, §3.2.1): 8x8 frequencies of
    32x32 pixels, and 16x16 of 64x64, most significant bit first. A picture that is flat (grey levels with a standard
    deviation under FLAT) has no signs worth comparing: its hashes are zero.
    """
    grey = image.convert("L")
    if _deviation(grey) < FLAT:
        return 0, bytes(32)
    return int.from_bytes(_signs(grey, side=32, low=8), "big"), _signs(grey, side=64, low=16)


def colour_layout(image: Image.Image) -> bytes:
    """Return where the colours of a picture lie: Cb and Cr (less 128, signed) of 8×8 cells, row by row, 128 bytes.

    The signs of grey frequencies do not tell a red spot from a blue one. The cells are those of the colour layout of MPEG-7
    (Kasutani and Yamada, The MPEG-7 Color Layout Descriptor, ICIP 2001, §3), kept as they are instead of transformed.
    """
    import numpy as np
    from PIL import Image

    colours = image if image.mode == "RGB" else image.convert("RGB")
    small = colours.reduce(max(1, min(image.size) // 64))
    cells = np.asarray(small.convert("YCbCr").resize((CELLS, CELLS), Image.Resampling.BOX), dtype=np.int16)
    return (cells[..., 1:] - 128).astype(np.int8).tobytes()


def _deviation(grey: Image.Image) -> float:
    """Return the standard deviation of a picture's grey levels."""
    import numpy as np

    levels, counts = np.arange(256), np.array(grey.histogram(), np.float64) / (grey.width * grey.height)
    return float(np.sqrt(counts @ np.square(levels - counts @ levels)))


def _signs(grey: Image.Image, *, side: int, low: int) -> bytes:
    import numpy as np
    from PIL import Image

    cosines = _cosines(side, low)
    pixels = np.asarray(grey.resize((side, side), Image.Resampling.BOX), dtype=np.float64)
    # Rounded: what is zero but for the machine's arithmetic must not give bits.
    frequencies = np.round(cosines @ pixels @ cosines.T, 6)
    return np.packbits(frequencies > np.median(frequencies)).tobytes()


@lru_cache(maxsize=2)
def _cosines(side: int, low: int) -> Any:
    """Return the first rows of the type-II cosine transform, shape (low, side)."""
    import numpy as np

    frequency, place = np.arange(low)[:, None], np.arange(side)[None, :]
    return np.cos(np.pi * frequency * (2 * place + 1) / (2 * side))
