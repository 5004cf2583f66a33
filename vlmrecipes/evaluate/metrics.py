"""Metrics by name: `cer` stands for a default, `cer/ws@1` pins the name, the folding or definition, and its version."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from vlmrecipes.errors import Problem
from vlmrecipes.evaluate.metric import Metric, References, Score
from vlmrecipes.evaluate.specs import DEFAULTS, METRICS

__all__ = ["DEFAULTS", "METRICS", "Metric", "References", "Score", "best", "known", "problems", "resolve"]


def known() -> list[str]:
    """Return the names that `resolve` takes: short names first, then specs."""
    return [*DEFAULTS, *METRICS]


def resolve(name: str) -> Metric:
    """Return the metric of a short name (`anls`), a full spec (`anls/rrc@1`), or one without version (`anls@rrc`, `anls/rrc`).

    Raises ValueError for any other name.
    """
    metric = METRICS.get(DEFAULTS.get(name, name)) or METRICS.get(name.replace("@", "/", 1) + "@1")
    if metric is not None:
        return metric
    close = difflib.get_close_matches(name.lower(), known(), n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown metric {name!r}{hint} (known: {', '.join(known())})")


def best(spec: str, better: str) -> float:
    """Return the value of a sample with nothing wrong by a recorded metric; one that is not known here is taken for a share."""
    return METRICS[spec].best if spec in METRICS else float(better != "lower")


def problems(names: Sequence[str], file: str) -> list[Problem]:
    """Return a problem at `eval.metrics` of a recipe `file` for each name that is not known."""
    found = []
    for number, name in enumerate(names):
        try:
            resolve(name)
        except ValueError as error:
            found.append(Problem(file, f"eval.metrics[{number}]", str(error)))
    return found
