"""Where the bytes of an image come from: a path, URL, base64, bytes, `{bytes, path}`, or what renders it."""

from __future__ import annotations

import base64
import binascii
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmrecipes.data.download import Remote
from vlmrecipes.data.sample import ImageError

__all__ = ["MAX_FILE_BYTES", "ImageError", "bound", "image_bytes", "inside"]

MAX_FILE_BYTES = 256 << 20
"""A larger image file is dropped unread."""
LONGEST_NAME = 256
"""A text longer than a name may be, and not there as a file, is tried as base64."""
BASE64_WITH_SLASH = re.compile(r"/[A-Za-z0-9+/]{256,}={0,2}")
"""Every JPEG in base64 begins with a slash and looks like an absolute path."""
URL = re.compile(r"https?://", re.IGNORECASE)


def image_bytes(reference: Any, root: Path) -> bytes:
    """Return the encoded bytes that `reference` stands for; paths are relative to `root` and stay inside it.

    Raises ImageError.
    """
    if isinstance(reference, bytes):
        return _limited(reference)
    if isinstance(reference, str):
        return _from_text(reference, root)
    if isinstance(reference, Mapping):
        return image_bytes(reference.get("bytes") or reference.get("path"), root)
    if hasattr(reference, "render"):
        return bytes(reference.render())
    raise ImageError("missing_image", f"no image: the column holds {type(reference).__name__}")


def bound(reference: Any, allow_hosts: tuple[str, ...]) -> Any:
    """Return `reference` with its URL, if it is one, allowed to lead to `allow_hosts`."""
    if isinstance(reference, Mapping):
        return reference if reference.get("bytes") else bound(reference.get("path"), allow_hosts)
    return Remote(reference, allow_hosts) if isinstance(reference, str) and URL.match(reference) else reference


def _limited(data: bytes) -> bytes:
    if len(data) > MAX_FILE_BYTES:
        raise ImageError("too_large", f"more than {MAX_FILE_BYTES} bytes")
    return data


def _from_text(text: str, root: Path) -> bytes:
    if text.startswith("data:"):
        return _base64(text.partition(",")[2])
    if URL.match(text):
        return Remote(text).render()
    if BASE64_WITH_SLASH.fullmatch(text):
        return _base64(text)
    path = inside(root, text)
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise ImageError("missing_image", f"{text}: not a file")
        if about.st_size > MAX_FILE_BYTES:
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
    if len(text) > MAX_FILE_BYTES // 3 * 4 + 4:
        raise ImageError("too_large", f"base64 of more than {MAX_FILE_BYTES} bytes")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("missing_image", "neither a path nor valid base64") from None
