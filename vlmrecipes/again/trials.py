"""What `run --grid` and `run --search` share: plans, one run with its place in the sweep, and the leaderboard at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.compare.work import FEWEST, rank_runs
from vlmrecipes.errors import InputError, Problem, RunError
from vlmrecipes.plan import Plan
from vlmrecipes.progress import say
from vlmrecipes.records import ledger
from vlmrecipes.run import begin, ready

CHOSEN = "the best of {} was chosen on these very samples, so its score flatters it: confirm it on others"


def attempt(plan: Plan, file: Path, sweep: str, place: int, settings: Sequence[str]) -> dict[str, Any]:
    """Run one plan of a sweep and return as `run_recipe`; nothing for a run that fails, which leaves its record."""
    try:
        return begin(plan, file, kind="train", sweep={"id": sweep, "place": place, "settings": list(settings)})
    except RunError as error:
        say(str(error))
        return {}


def plans(file: Path, tried: Sequence[Sequence[str]], *, overrides: Sequence[str], **given: Any) -> list[Plan]:
    """Return a recipe's plan with each of some settings. Raises InputError with what all plans found, each problem once."""
    made, found = [], dict[Problem, list[str]]()
    for settings in tried:
        try:
            made.append(ready(file, overrides=[*overrides, *settings], **given))
        except InputError as error:
            for problem in error.problems:
                found.setdefault(problem, []).append(" ".join(settings))
    if found:
        raise InputError([_shared(problem, where, len(tried)) for problem, where in found.items()])
    return made


def _shared(problem: Problem, where: Sequence[str], tried: int) -> Problem:
    """Return a problem with the settings that have it, unless all have."""
    if len(where) == tried:
        return problem
    more = f" and {len(where) - 1} more" if len(where) > 1 else ""
    return Problem(problem.file, problem.key, f"{problem.problem} (with {where[0]}{more})")


def entries(name: str, store: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return (line, record) of every run of a sweep, in the order they were tried."""
    found = [entry for entry in ledger.entries(ledger.home(store)) if (entry[1].get("sweep") or {}).get("id") == name]
    return sorted(found, key=lambda entry: entry[1]["sweep"]["place"])


def told(name: str, store: str) -> dict[str, Any]:
    """Return what the ledger says of a sweep: its runs in the order they were tried, and how they rank."""
    runs = [
        {"run": line["run"], "status": line["status"], "settings": found["sweep"]["settings"], "error": found["error"]}
        | {"metrics": found["metrics"].get("tuned") or {}}
        for line, found in entries(name, store)
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
