"""A row before its templates are filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlmrecipes.data.sample import Reason


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as its source gave it, or why it could not be read."""

    key: str
    """Which file and which row of it."""
    columns: dict[str, Any] | None
    problem: str = ""
    reason: Reason = "bad_row"
    """Of the drop that a problem makes."""


def escaped(text: str) -> str:
    """Return `text` with halves of surrogate pairs spelled out: a file name that is no UTF-8 has them, no table holds them."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
