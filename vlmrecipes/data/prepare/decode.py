"""Encoded bytes to an upright picture in the wanted colour mode; hostile files are refused before they are decoded."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlmrecipes.data.declaration import Prepare
from vlmrecipes.data.images import ImageError
from vlmrecipes.data.prepare.flatten import eight_bit, has_alpha, on_white
from vlmrecipes.data.prepare.resize import target_size
from vlmrecipes.errors import MissingExtraError
from vlmrecipes.extras import need

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""What Pillow may try; its long tail of rare decoders stays shut."""
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
"""Brands of HEIF files with HEVC pictures (ISO/IEC 23008-12, annex B), which Pillow does not read by itself."""
MAX_COEFFICIENTS = 640_000_000
"""Bytes that libjpeg may hold for a progressive JPEG besides its pixels."""
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError)
_BROKEN += (struct.error, zlib.error, RuntimeError, NotImplementedError, ZeroDivisionError)  # type: ignore[assignment]
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


class _Page:
    """The page that crops were last cut from: rows that cut lines from one page follow each other."""

    def __init__(self) -> None:
        self._of: tuple[bytes, Prepare] | None = None
        self._decoded: Decoded | None = None

    def decoded(self, raw: bytes, policy: Prepare) -> Decoded:
        if self._of != (raw, policy) or self._decoded is None:
            self._of = self._decoded = None  # before the next is decoded: two large pages are too much
            self._decoded, self._of = decode(raw, policy, keep_detail=True), (raw, policy)
        return self._decoded


page = _Page().decoded
"""As `decode` with all detail, the last page remembered."""


def decode(raw: bytes, policy: Prepare, *, keep_detail: bool = False) -> Decoded:
    """Return the first frame, upright, in `policy.mode`. `keep_detail`: never decode a JPEG at a smaller scale.

    Raises ImageError (`undecodable`, `too_large`), and MemoryError.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(raw), formats=_formats(raw))
            width, height = image.size
            _check_size(image, policy)
            if not keep_detail:
                _draft(image, policy)
            deep = _is_deep(image)
            if deep:
                _mend_transparency(image)
            image.load()
            return _normalised(image, width, height, policy, deep=deep)
        except Image.DecompressionBombError as error:
            raise ImageError("too_large", str(error)) from None
        except _BROKEN as error:
            raise ImageError("undecodable", _reason(raw, error)) from None


def _formats(raw: bytes) -> tuple[str, ...]:
    if raw[4:8] != b"ftyp" or not any(brand in raw[8 : raw[3]] for brand in HEIC):
        return FORMATS
    try:
        need("pillow_heif", "read HEIC pictures").register_heif_opener()
    except MissingExtraError as error:
        raise ImageError("undecodable", str(error)) from None
    return ("HEIF",)


def _reason(raw: bytes, error: BaseException) -> str:
    if not raw:
        return "the file is empty"
    text = str(error) or type(error).__name__
    return "not an image of a known format" if "cannot identify" in text else text


def _check_size(image: Image.Image, policy: Prepare) -> None:
    width, height = image.size
    if width * height > policy.max_source_pixels:
        raise ImageError("too_large", f"{width}x{height}: more than {policy.max_source_pixels} pixels")
    if image.info.get("progressive"):
        parts = [(across, down) for _, across, down, _ in getattr(image, "layer", ())]
        full = max((across for across, _ in parts), default=1) * max((down for _, down in parts), default=1)
        if (held := 2 * width * height * sum(across * down for across, down in parts) // full) > MAX_COEFFICIENTS:
            raise ImageError("too_large", f"{width}x{height}, progressive: {held} bytes to be held while it is decoded")


def _is_deep(image: Image.Image) -> bool:
    """Tell whether this is a PNG of 16-bit colours, which Pillow decodes to 8 bits; other deep ones have other modes."""
    return image.format == "PNG" and any(tile[3] == "RGB;16B" for tile in getattr(image, "tile", ()))


def _mend_transparency(image: Image.Image) -> None:
    """Bring the transparent colour (tRNS) to the 8 bits that Pillow decodes deep colours to."""
    clear = image.info.get("transparency")
    if isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def _draft(image: Image.Image, policy: Prepare) -> None:
    """Let libjpeg decode at 1/2, 1/4 or 1/8 when the picture will be shrunk at least so much."""
    if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
        image.draft(image.mode, target_size(image.width, image.height, policy))


def _normalised(image: Image.Image, width: int, height: int, policy: Prepare, *, deep: bool) -> Decoded:
    kind, steps = str(image.format), []
    if kind == "MPO":  # what phones write: a JPEG, then more JPEGs
        kind = "JPEG"
        steps.append("frame")
    if image.size != (width, height):
        steps.append("draft")
    if (orientation := _orientation(image)) != 1:
        image = _upright(image, orientation)
        steps.append("upright")
    if image.mode.startswith(("I", "F")):
        image, deep = eight_bit(image), True
    if deep:
        steps.append("scale")
    if has_alpha(image):
        image = on_white(image)
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
