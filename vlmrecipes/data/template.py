"""Texts with `{column}` in them, filled from a row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIELD = re.compile(r"\{\{|\}\}|\{([A-Za-z_][\w-]*(?:\.[\w-]+)*)\}")


class AbsentColumnError(KeyError):
    """A row lacks a column that a template names; `args[0]` is its name."""


@dataclass(frozen=True, slots=True)
class Template:
    """`{a}` is column `a`, `{a.b}` key `b` inside it, `{{` a brace. One field alone keeps the value's type."""

    text: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns it names, in order."""
        found = (match.group(1) for match in FIELD.finditer(self.text) if match.group(1))
        return tuple(dict.fromkeys(name.partition(".")[0] for name in found))

    def value(self, row: Mapping[str, Any]) -> Any:
        """Return the column's own value when the template is one field, otherwise `fill(row)`."""
        match = FIELD.fullmatch(self.text)
        return _lookup(row, match.group(1)) if match and match.group(1) else self.fill(row)

    def fill(self, row: Mapping[str, Any]) -> str:
        """Return the text with every field filled. Raises AbsentColumnError."""
        return FIELD.sub(lambda match: _filled(match, row), self.text)


def _filled(match: re.Match[str], row: Mapping[str, Any]) -> str:
    name = match.group(1)
    return match.group()[0] if name is None else str(_lookup(row, name))


def _lookup(row: Mapping[str, Any], name: str) -> Any:
    value: Any = row
    for step in name.split("."):
        if not isinstance(value, Mapping) or step not in value:
            raise AbsentColumnError(name)
        value = value[step]
    return value
