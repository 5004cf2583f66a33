"""What a search draws from: `train.learning_rate=1e-5..1e-3` is a range, `lora.r=8,16,32` are choices."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlmrecipes.again.grid import values_by_key
from vlmrecipes.errors import InputError, Problem

_WHOLE = re.compile(r"[-+]?\d{1,15}")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
DIGITS = 4
"""So many digits of a number are kept, so that the settings can be read and typed."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    whole: bool
    """Only whole numbers."""

    @property
    def log(self) -> bool:
        """Whether 1e-5 to 1e-4 is drawn as often as 1e-4 to 1e-3: for numbers that are above 0 and not whole."""
        return self.low > 0 and not self.whole

    def text(self, value: float) -> str:
        """Return a number of the range as TOML, rounded where that does not leave the range."""
        if self.whole:
            return str(int(value))
        rounded = f"{value:.{DIGITS}g}"
        return rounded if self.low <= float(rounded) <= self.high else repr(value)


Space = Mapping[str, Range | Sequence[str]]


def space(settings: Sequence[str]) -> dict[str, Range | Sequence[str]]:
    """Return what each `KEY=LOW..HIGH` or `KEY=A,B,…` may be.

    A range of two whole numbers has only whole numbers. Raises InputError with all that is wrong.
    """
    if not settings:
        raise InputError.one("say what is searched: KEY=LOW..HIGH or KEY=A,B", file="--search")
    given = values_by_key(settings, "--search", "KEY=LOW..HIGH or KEY=A,B, as in train.learning_rate=1e-5..1e-3")
    found: dict[str, Range | Sequence[str]] = {
        key: (_range(values[0]) if len(values) == 1 else None) or values for key, values in given.items()
    }
    if problems := [
        Problem("--search", f"{key}={given[key][0]}", "expected LOW..HIGH with LOW below HIGH, both finite")
        for key, values in found.items()
        if isinstance(values, Range) and not -math.inf < values.low < values.high < math.inf
    ]:
        raise InputError(problems)
    return found


def _range(text: str) -> Range | None:
    ends = text.split("..")
    if len(ends) != len(("low", "high")) or not all(_NUMBER.fullmatch(end) for end in ends):
        return None
    low, high = map(float, ends)
    return Range(low, high, whole=all(_WHOLE.fullmatch(end) for end in ends))


def ends(found: Space) -> list[tuple[str, ...]]:
    """Return settings in which both ends of every range, and every choice, stand at least once."""
    tried = {
        key: [values.text(values.low), values.text(values.high)] if isinstance(values, Range) else list(values)
        for key, values in found.items()
    }
    most = max(map(len, tried.values()))
    return [
        tuple(f"{key}={values[min(place, len(values) - 1)]}" for key, values in tried.items()) for place in range(most)
    ]


def assignments(found: Space, drawn: Mapping[str, float | str]) -> tuple[str, ...]:
    """Return values that were drawn as `KEY=VALUE`."""
    return tuple(
        f"{key}={values.text(float(drawn[key])) if isinstance(values, Range) else drawn[key]}"
        for key, values in found.items()
    )
