"""`run --grid`: one recipe with every combination of some settings, a record each, and one leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.again.grid import combinations
from vlmrecipes.compare.work import FEWEST, rank_runs
from vlmrecipes.errors import InputError, Problem, RunError
from vlmrecipes.plan import Plan
from vlmrecipes.progress import say
from vlmrecipes.records import ledger, record
from vlmrecipes.run import begin, ready

CHOSEN = "the best of {} was chosen on these very samples, so its score flatters it: confirm it on others"


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

    `runs` is `[{run, status, settings, metrics}]` in the order of the grid, `best` the run that leads by the first metric,
    `leaderboard` as `compare` gives it; both are empty where fewer than two runs have ended well on the same samples. All
    combinations are planned before the first is run. A run that fails leaves its record, and the others go on.

    Raises InputError with everything that the plans found, each problem once.
    """
    tried = combinations(grid)
    allowed = {"trust_remote_code": trust_remote_code, "allow_code": allow_code}
    plans = _plans(file, tried, store=store, swaps=swaps, overrides=overrides, **allowed)
    name = record.new_run_id()
    for place, (settings, plan) in enumerate(zip(tried, plans, strict=True), 1):
        say(f"sweep {name}, {place} of {len(tried)}: {' '.join(settings)}")
        try:
            begin(plan, file, kind="train", sweep={"id": name, "place": place, "settings": list(settings)})
        except RunError as error:
            say(str(error))
    return told(name, store)


def _plans(file: Path, tried: Sequence[Sequence[str]], *, overrides: Sequence[str], **given: Any) -> list[Plan]:
    plans, found = [], dict[Problem, list[str]]()
    for settings in tried:
        try:
            plans.append(ready(file, overrides=[*overrides, *settings], **given))
        except InputError as error:
            for problem in error.problems:
                found.setdefault(problem, []).append(" ".join(settings))
    if found:
        raise InputError([_shared(problem, where, len(tried)) for problem, where in found.items()])
    return plans


def _shared(problem: Problem, where: Sequence[str], tried: int) -> Problem:
    """Return a problem with the settings that have it, unless all have."""
    if len(where) == tried:
        return problem
    more = f" and {len(where) - 1} more" if len(where) > 1 else ""
    return Problem(problem.file, problem.key, f"{problem.problem} (with {where[0]}{more})")


def told(name: str, store: str) -> dict[str, Any]:
    """Return what the ledger says of a sweep: its runs in the order of the grid, and how they rank."""
    entries = [entry for entry in ledger.entries(ledger.home(store)) if (entry[1].get("sweep") or {}).get("id") == name]
    entries.sort(key=lambda entry: entry[1]["sweep"]["place"])
    runs = [
        {"run": line["run"], "status": line["status"], "settings": found["sweep"]["settings"], "error": found["error"]}
        | {"metrics": found["metrics"].get("tuned") or {}}
        for line, found in entries
    ]
    done = [run["run"] for run in runs if run["status"] == "complete"]
    ranked = _ranked(done, store)
    leaders = [rows[0]["name"] for rows in ranked["leaderboard"].values()] or done[: len(done) == 1]
    return {"sweep": name, "runs": runs, "best": next(iter(leaders), None)} | ranked


def _ranked(done: Sequence[str], store: str) -> dict[str, Any]:
    if len(done) < FEWEST:
        return {"leaderboard": {}, "n": 0, "notes": []}
    try:
        view = rank_runs(done, store=store)
    except InputError as error:
        return {"leaderboard": {}, "n": 0, "notes": [f"no leaderboard: {error}"]}
    return {key: view[key] for key in ("leaderboard", "pairs", "n")} | {
        "notes": [*view["notes"], CHOSEN.format(len(done))]
    }
