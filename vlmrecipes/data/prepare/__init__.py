"""One image made ready: size check, decode, upright, alpha, colour, crop, resize, encode, in this order."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlmrecipes.data.crop import Crop, cut
from vlmrecipes.data.declaration import Prepare
from vlmrecipes.data.images import ImageError
from vlmrecipes.data.prepare.decode import Decoded, decode, page
from vlmrecipes.data.prepare.hashing import colour_layout, perceptual_hashes, pixel_hash
from vlmrecipes.data.prepare.resize import target_size
from vlmrecipes.fingerprint import canonical, sha256

if TYPE_CHECKING:
    from PIL import Image

RULES = 3
"""Counts the changes to what preparing gives; images prepared by other rules are prepared again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An image as it is stored."""

    key: str
    """SHA-256 of `data`, 64 hex digits."""
    origin: str
    """What `origin_of` gives: equal origins prepare to equal images."""
    data: bytes
    width: int
    height: int
    format: str
    pixels: str
    """SHA-256 of the decoded pixels, mode and size."""
    phash: int
    """64-bit perceptual hash."""
    phash256: bytes
    """256-bit perceptual hash, 32 bytes: confirms that images with a near `phash` look alike."""
    colours: bytes
    """Where the colours lie, 128 bytes: so do they."""
    source_sha256: str
    source_width: int
    source_height: int
    steps: str
    """What was done, in order: `upright,crop,resize,encode`; empty when the bytes were kept."""


def origin_of(source_sha256: str, crop: Crop | None, policy: Prepare) -> str:
    """Return the key, 64 hex digits, under which the outcome of preparing an original can be found again."""
    return sha256(canonical([RULES, source_sha256, crop, policy.model_dump(exclude={"for_model"})]))


def prepare_image(raw: bytes, crop: Crop | None, policy: Prepare, source_sha256: str = "") -> Prepared:
    """Return `raw` made ready by `policy`. `crop` is in pixels of the upright image. Raises ImageError.

    `source_sha256` is that of `raw`, for callers that have it.
    """
    source_sha256 = source_sha256 or sha256(raw)
    decoded = decode(raw, policy) if crop is None else page(raw, policy)
    image, steps = decoded.image, list(decoded.steps)
    if crop is not None:
        image = cut(image, crop)
        steps.append("crop")
    width, height = image.size if crop is not None else (decoded.width, decoded.height)
    if min(width, height) < policy.min_source_side:
        raise ImageError("too_small", f"{width}x{height}: a side is under {policy.min_source_side} pixels")
    if (size := target_size(image.width, image.height, policy)) != image.size:
        image = _resized(image, size)
        steps.append("resize")
    data, kind = _encoded(raw, decoded, image, policy, kept=not steps)
    if data is not raw:
        steps.append("encode")
        image = _reread(data) if kind == "JPEG" else image
    phash, phash256 = perceptual_hashes(image)
    return Prepared(
        key=source_sha256 if data is raw else sha256(data),
        origin=origin_of(source_sha256, crop, policy),
        data=data,
        width=image.width,
        height=image.height,
        format=kind,
        pixels=pixel_hash(image),
        phash=phash,
        phash256=phash256,
        colours=colour_layout(image),
        source_sha256=source_sha256,
        source_width=decoded.width,
        source_height=decoded.height,
        steps=",".join(steps),
    )


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    return image.resize(size, Image.Resampling.LANCZOS)


def _encoded(raw: bytes, decoded: Decoded, image: Image.Image, policy: Prepare, *, kept: bool) -> tuple[bytes, str]:
    kind = policy.format
    if kind == "auto":
        kind = "JPEG" if decoded.format == "JPEG" else "PNG"
    if kept and kind == decoded.format:
        return raw, kind
    buffer = io.BytesIO()
    if kind == "JPEG":
        image.save(buffer, "JPEG", quality=policy.quality, subsampling=0)
    else:
        image.save(buffer, "PNG")
    return buffer.getvalue(), kind


def _reread(data: bytes) -> Image.Image:
    """Return what a reader will decode: a JPEG's pixels are not those that were encoded."""
    from PIL import Image

    image = Image.open(io.BytesIO(data))
    image.load()
    return image
