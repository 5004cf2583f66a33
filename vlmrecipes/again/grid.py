"""Settings and the values that are tried: `lora.r=8,16` and every combination with the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

from vlmrecipes.errors import InputError, Problem

MOST = 1000
"""More runs of one recipe than this are a mistake."""
_VALUE = re.compile(r"""(?:\[[^\]]*\]|"[^"]*"|'[^']*'|[^,])+""")


def combinations(grid: Sequence[str]) -> list[tuple[str, ...]]:
    """Return every combination of `KEY=A,B,…` as `KEY=A` assignments, in the order of the grid, the last key fastest.

    Raises InputError as `values_by_key`, and for more than `MOST` combinations.
    """
    tried = values_by_key(grid, "--grid", "KEY=VALUE,VALUE, as in lora.r=8,16")
    found = list(product(*([f"{key}={value}" for value in tried[key]] for key in tried)))
    if len(found) > MOST:
        raise InputError.one(f"{len(found)} combinations; at most {MOST} are run", file="--grid")
    return found


def values_by_key(settings: Sequence[str], option: str, expected: str) -> dict[str, list[str]]:
    """Return the values of each `KEY=A,B,…`; commas inside brackets and quotes part nothing.

    Raises InputError with all that is wrong with what was given to `option`: no values, a value or a key twice.
    """
    tried: dict[str, list[str]] = {}
    problems = []
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        values = [value.strip() for value in _VALUE.findall(text)]
        if not (key and equals and values and all(values)):
            problems.append(Problem(option, setting, f"expected {expected}"))
        elif key in tried or len(set(values)) < len(values):
            problems.append(Problem(option, setting, f"{key} has a value, or is given, twice"))
        else:
            tried[key] = values
    if problems:
        raise InputError(problems)
    return tried
