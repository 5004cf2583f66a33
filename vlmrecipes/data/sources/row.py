"""A row before its templates are filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as its source gave it, or why it could not be read."""

    key: str
    """Which file and which row of it."""
    columns: dict[str, Any] | None
    problem: str = ""
