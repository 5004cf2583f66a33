"""Canonical JSON, and SHA-256 over it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

PREFIX = "sha256:"


def canonical(value: Any) -> bytes:
    """Return `value` as JSON with sorted keys and no spaces, UTF-8: equal values give equal bytes.

    Raises ValueError for NaN and infinities, which JSON cannot hold.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def sha256(data: bytes) -> str:
    """Return the 64 hex digits of the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def fingerprint(value: Any) -> str:
    """Return `sha256:…` over the canonical JSON of `value`."""
    return PREFIX + sha256(canonical(value))


def file_sha256(path: Path) -> str:
    """Return the 64 hex digits of the SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
