"""Settings and the values that a sweep tries: `lora.r=8,16` and every combination with the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

from vlmrecipes.errors import InputError, Problem

MOST = 1000
"""A grid of more combinations is a mistake."""
_VALUE = re.compile(r"""(?:\[[^\]]*\]|"[^"]*"|'[^']*'|[^,])+""")


def combinations(grid: Sequence[str]) -> list[tuple[str, ...]]:
    """Return every combination of `KEY=A,B,…` as `KEY=A` assignments, in the order of the grid, the last key fastest.

    Commas inside brackets and quotes part nothing. Raises InputError with all that is wrong: no values, a value or a key twice,
    more than `MOST` combinations.
    """
    tried: dict[str, list[str]] = {}
    problems = []
    for setting in grid:
        key, equals, text = (part.strip() for part in setting.partition("="))
        values = [value.strip() for value in _VALUE.findall(text)]
        if not (key and equals and values and all(values)):
            problems.append(Problem("--grid", setting, "expected KEY=VALUE,VALUE, as in lora.r=8,16"))
        elif key in tried or len(set(values)) < len(values):
            problems.append(Problem("--grid", setting, f"{key} has a value, or is given, twice"))
        else:
            tried[key] = values
    found = [] if problems else list(product(*([f"{key}={value}" for value in tried[key]] for key in tried)))
    if len(found) > MOST:
        problems.append(Problem("--grid", "", f"{len(found)} combinations; at most {MOST} are run"))
    if problems:
        raise InputError(problems)
    return found
