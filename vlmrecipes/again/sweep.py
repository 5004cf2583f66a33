"""`run --grid`: one recipe with every combination of some settings, a record each, and one leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.again.grid import combinations
from vlmrecipes.again.trials import attempt, plans, told
from vlmrecipes.progress import say
from vlmrecipes.records import record


def sweep(  # noqa: PLR0913 - a recipe and what is tried
    file: Path,
    grid: Sequence[str],
    *,
    store: str,
    swaps: Sequence[str] = (),
    overrides: Sequence[str] = (),
    trust_remote_code: bool = False,
    allow_code: bool = False,
) -> dict[str, Any]:
    """Run a recipe with every combination of `grid` (`lora.r=8,16`) and return `sweep, runs, best, leaderboard, n, notes`.

    `runs` is `[{run, status, settings, error, metrics}]` in the order of the grid, `best` the run that leads by the first
    metric, `leaderboard` as `compare` gives it; both are empty where fewer than two runs have ended well on the same samples.
    All combinations are planned before the first is run. A run that fails leaves its record, and the others go on.

    Raises InputError with everything that the plans found, each problem once.
    """
    tried = combinations(grid)
    allowed = {"trust_remote_code": trust_remote_code, "allow_code": allow_code}
    planned = plans(file, tried, store=store, swaps=swaps, overrides=overrides, **allowed)
    name = record.new_run_id()
    for place, (settings, plan) in enumerate(zip(tried, planned, strict=True), 1):
        say(f"sweep {name}, {place} of {len(tried)}: {' '.join(settings)}")
        attempt(plan, file, name, place, settings)
    return told(name, store)
