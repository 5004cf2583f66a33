"""The `options` table of a synthetic source, checked against what its generator knows."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmrecipes.errors import InputError, Problem


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number in `[low, high]`."""

    default: int
    low: int
    high: int

    def problem(self, value: Any) -> str:
        """Return what is wrong with `value`; empty when nothing is."""
        if isinstance(value, bool) or not isinstance(value, int):
            return f"expected a whole number, found {value!r}"
        return "" if self.low <= value <= self.high else f"must be from {self.low} to {self.high}, found {value}"


@dataclass(frozen=True, slots=True)
class Share:
    """A number in `[0, 1]`."""

    default: float

    def problem(self, value: Any) -> str:
        """Return what is wrong with `value`; empty when nothing is."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"expected a number, found {value!r}"
        return "" if 0 <= value <= 1 else f"must be from 0 to 1, found {value}"


@dataclass(frozen=True, slots=True)
class Names:
    """A list of at least one string."""

    default: Sequence[str]

    def problem(self, value: Any) -> str:
        """Return what is wrong with `value`; empty when nothing is."""
        if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
            return ""
        return f"expected a list of names, found {value!r}"


Option = Whole | Share | Names


class Settings:
    """The options of one source with their defaults filled in; collects problems until `check` raises them together."""

    def __init__(self, given: Mapping[str, Any], known: Mapping[str, Option], *, file: str, key: str) -> None:
        """Look at every option of `given`; `file` and `key` say where the source stands in its declaration."""
        self._file, self._key = file, key
        self._problems: list[Problem] = []
        self.values: dict[str, Any] = {name: option.default for name, option in known.items()}
        for name, value in given.items():
            problem = known[name].problem(value) if name in known else _unknown(name, list(known))
            if problem:
                self.refuse(name, problem)
            else:
                self.values[name] = value

    def refuse(self, option: str, problem: str) -> None:
        """Note that `option` is wrong; an empty name means the source as a whole."""
        self._problems.append(Problem(self._file, f"{self._key}.options.{option}" if option else self._key, problem))

    def check(self) -> None:
        """Raise InputError with all problems noted so far, if there are any."""
        if self._problems:
            raise InputError(self._problems)


def _unknown(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown option{hint} (known: {', '.join(sorted(known)) or 'none'})"
