"""`runs reproduce`: a run done again from its record, and how close it comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.again.plans import plan_again
from vlmrecipes.errors import InputError, Problem
from vlmrecipes.plan import Plan, read_plan
from vlmrecipes.records import ledger, predictions, record
from vlmrecipes.records.verify import levels
from vlmrecipes.run import begin

PLANNED = ("recipe", "train", "eval", "steps", "max_new_tokens", "packages")


def reproduce(name: str, *, store: str, trust_remote_code: bool = False, allow_code: bool = False) -> dict[str, Any]:
    """Do a complete run again, as it was, and tell how close it came.

    Returns `run, reproduction_of, ok, equal, plan, environment, metrics, predictions`.
    Before anything is computed the seal, and the hashes of recipe, model files, snapshots and images, must be as recorded.
    `plan` is `{equal, recorded, found, differences}`, `environment` what is different on this machine. A metric is
    `{recorded, found, difference, low, high, equal, within}`, `within` meaning inside the recorded 95 % interval; `ok` says
    that all are, by the same plan but for package versions. `equal` says that every value is the same to the last bit.

    Raises InputError for a run that is not there, not complete, or not what its record says.
    """
    folder = ledger.find(ledger.home(store), name)
    before = record.read(folder)
    if before["status"] != "complete":
        raise InputError.one(f"run {folder.name} is {before['status']}: only a complete run can be reproduced")
    found = levels(folder, store=store)
    if problems := [
        Problem(folder.name, level, text) for level in ("seal", "inputs") for text in found[level]["problems"]
    ]:
        raise InputError(problems)
    plan = plan_again(folder, store=store, trust_remote_code=trust_remote_code, allow_code=allow_code)
    parents = [{"run": folder.name, "as": "reproduction"}]
    view = begin(plan, folder / "recipe.toml", kind=before["kind"], parents=parents)
    told = _plans(read_plan(folder / "plan.json"), plan)
    return _judged(folder, view, told) | {"environment": found["environment"]["problems"]}


def _plans(recorded: Plan, found: Plan) -> dict[str, Any]:
    before, after = (plan.to_json() for plan in (recorded, found))
    differences = [key for key in PLANNED if before[key] != after[key]]
    prints = {"recorded": recorded.fingerprint, "found": found.fingerprint}
    return {"equal": prints["recorded"] == prints["found"], **prints, "differences": differences}


def _judged(folder: Path, view: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    recorded, found = record.read(folder)["metrics"], view["metrics"]
    metrics = {
        model: {name: _metric(told, found[model][name]["value"]) for name, told in by_name.items()}
        for model, by_name in recorded.items()
    }
    every = [told for by_name in metrics.values() for told in by_name.values()]
    same_plan = plan["equal"] or plan["differences"] == ["packages"]
    return {
        "run": view["run"],
        "reproduction_of": folder.name,
        "ok": same_plan and all(told["within"] for told in every),
        "equal": all(told["equal"] for told in every),
        "plan": plan,
        "metrics": metrics,
        "predictions": _predictions(folder, folder.with_name(view["run"])),
    }


def _metric(told: Mapping[str, Any], value: float | None) -> dict[str, Any]:
    before, low, high = (told[key] for key in ("value", "low", "high"))
    equal = before == value
    inside = equal or (None not in (low, high, value) and low <= value <= high)
    difference = None if before is None or value is None else value - before
    bounds = {"low": low, "high": high}
    return {"recorded": before, "found": value, "difference": difference} | bounds | {"equal": equal, "within": inside}


def _predictions(before: Path, after: Path) -> dict[str, int]:
    """Return how many texts there are, and how many are the same letter by letter."""
    one, other = (dict(_texts(folder)) for folder in (before, after))
    return {"n": len(one), "equal": sum(key in other and other[key] == text for key, text in one.items())}


def _texts(folder: Path) -> Iterator[tuple[tuple[str, str], str | None]]:
    rows: Sequence[Mapping[str, Any]] = predictions.read(folder / predictions.NAME).to_pylist()
    yield from (((row["model"], row["id"]), row["prediction"]) for row in rows)
