"""Texts with `{column}` in them, filled from a row; and what is a text."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

PIECE = re.compile(r"\{\{|\}\}|\{(\s*[^{}\s][^{}]*)\}|[{}]")
"""An escaped brace, a field, or a brace that is neither."""


class AbsentColumnError(KeyError):
    """A row lacks a column that a template names; `args[0]` is its name."""


class NoTextError(ValueError):
    """A column holds what is no text where one is wanted; the message names the column and the way out."""


@dataclass(frozen=True, slots=True)
class Template:
    """`{a}` is column `a`, whatever its name, blanks around it aside; `{{` and `}}` are braces.

    Unless a column has that very name, `{a.b}` is key `b` inside column `a`; of a list `{a.0}` is an element, and `{a.b}` the
    list of each element's `b`. One field alone keeps the value's type.
    """

    text: str

    @property
    def fields(self) -> tuple[str, ...]:
        """Return what stands in its braces, in order."""
        return tuple(dict.fromkeys(match.group(1) for match in PIECE.finditer(self.text) if match.group(1)))

    @property
    def stray(self) -> str:
        """Return its text from the first brace on that is part of no field and no escape; empty when there is none."""
        found = (match.start() for match in PIECE.finditer(self.text) if match.group() in ("{", "}"))
        return next((self.text[start:] for start in found), "")

    def absent(self, known: Container[str]) -> list[str]:
        """Return the fields that no column of `known` can fill."""
        ways = {name.strip(): (name, name.strip(), name.strip().partition(".")[0]) for name in self.fields}
        return [name for name, columns in ways.items() if not any(column in known for column in columns)]

    def value(self, row: Mapping[str, Any]) -> Any:
        """Return the column's own value when the template is one field, otherwise `fill(row)`."""
        match = PIECE.fullmatch(self.text)
        return _lookup(row, match.group(1)) if match and match.group(1) else self.fill(row)

    def fill(self, row: Mapping[str, Any]) -> str:
        """Return the text with every field filled. Raises AbsentColumnError, NoTextError."""
        return PIECE.sub(lambda match: _filled(match, row), self.text)

    def texts(self, row: Mapping[str, Any]) -> list[str]:
        """Return the filled text, or those of the list that its only field holds; without what is null."""
        value = self.value(row)
        items = value if isinstance(value, list) else [value]
        return [_text(item, self.text.strip("{} ")) for item in items if not _is_null(item)]


def _filled(match: re.Match[str], row: Mapping[str, Any]) -> str:
    name = match.group(1)
    return match.group()[0] if name is None else _text(_lookup(row, name), name.strip())


def _lookup(row: Mapping[str, Any], name: str) -> Any:
    for whole in (name, name.strip()):
        if whole in row:
            return row[whole]
    value: Any = row
    try:
        for step in name.strip().split("."):
            value = _inside(value, step)
    except LookupError:
        raise AbsentColumnError(name.strip()) from None
    return value


def _inside(value: Any, step: str) -> Any:
    if isinstance(value, Mapping):
        return value[step]
    if not isinstance(value, list):
        raise AbsentColumnError(step)
    return value[int(step)] if step.isdecimal() else [_inside(item, step) for item in value]


def _is_null(value: Any) -> bool:
    """Tell whether `value` is none, or not a number, which tables hold for none."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(value: Any, name: str) -> str:
    """Return the value of column `name` as a text; what is null is empty. Raises NoTextError."""
    if isinstance(value, str):
        return value
    if _is_null(value):
        return ""
    if isinstance(value, bytes):
        return _decoded(value, name)
    if isinstance(value, (Mapping, list, tuple)):
        kind = "named values" if isinstance(value, Mapping) else "a list"
        raise NoTextError(
            f"column {name!r} holds {kind}, not a text: say what inside it is meant, such as {_deeper(value, name)}, "
            "or `explode` it"
        )
    return str(value)


def _decoded(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise NoTextError(f"column {name!r} holds bytes that are no UTF-8 text") from None


def _deeper(value: Any, name: str) -> str:
    """Return a field that leads to a text inside `value`."""
    if isinstance(value, Mapping) and value:
        key = next((key for key, inner in value.items() if isinstance(inner, str)), next(iter(value)))
        return _deeper(value[key], f"{name}.{key}")
    if isinstance(value, (list, tuple)) and value:
        return _deeper(value[0], f"{name}.0")
    return "{" + name + "}"
