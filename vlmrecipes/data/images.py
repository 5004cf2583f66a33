"""Where the bytes of an image come from: a path, base64, bytes, `{bytes, path}`, or a generator."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmrecipes.data.sample import Reason

MAX_FILE_BYTES = 256 << 20
"""A larger image file is dropped unread."""
LONGEST_NAME = 256
"""A text longer than a name may be, and not there as a file, is tried as base64."""
BASE64_WITH_SLASH = re.compile(r"/[A-Za-z0-9+/]{256,}={0,2}")
"""Every JPEG in base64 begins with a slash and looks like an absolute path."""


class ImageError(Exception):
    """An image that cannot be used; the row becomes a drop."""

    def __init__(self, reason: Reason, message: str) -> None:
        """Keep the drop's reason and message."""
        super().__init__(reason, message)
        self.reason: Reason = reason
        self.message = message


def image_bytes(reference: Any, root: Path) -> bytes:
    """Return the encoded bytes that `reference` stands for; paths are relative to `root` and stay inside it.

    Raises ImageError.
    """
    if isinstance(reference, bytes):
        return reference
    if isinstance(reference, str):
        return _from_text(reference, root)
    if isinstance(reference, Mapping):
        return image_bytes(reference.get("bytes") or reference.get("path"), root)
    if hasattr(reference, "render"):
        return bytes(reference.render())
    raise ImageError("missing_image", f"no image: the column holds {type(reference).__name__}")


def _from_text(text: str, root: Path) -> bytes:
    if text.startswith("data:"):
        return _base64(text.partition(",")[2])
    if text.startswith(("http://", "https://")):
        raise ImageError("missing_image", "is a URL; this version reads local images only")
    if BASE64_WITH_SLASH.fullmatch(text):
        return _base64(text)
    path = inside(root, text)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ImageError("too_large", f"{text}: file larger than {MAX_FILE_BYTES} bytes")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if len(text) > LONGEST_NAME:
            return _base64(text)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError("missing_image", f"{text}: {reason}") from None


def inside(root: Path, text: str) -> Path:
    """Return the path `text` under `root`, links followed. Raises ImageError when it leaves `root`."""
    try:
        base = root.resolve()
        path = (base / text).resolve()
    except (OSError, ValueError):
        return root / "\0unreadable" if "\0" in text else root / text
    except RuntimeError:
        raise ImageError("missing_image", f"{text}: links that lead in a circle") from None
    if not path.is_relative_to(base):
        raise ImageError("outside_root", f"{text}: lies outside the declared root")
    return path


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("missing_image", "neither a path nor valid base64") from None
