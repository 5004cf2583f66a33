"""`runs verify`: a run held against its record, and, when asked for, against what its model says today."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmrecipes.errors import InputError, RunError
from vlmrecipes.job import start
from vlmrecipes.plan import Plan, read_plan
from vlmrecipes.recipe import check_trust
from vlmrecipes.records import atomic, ledger, predictions
from vlmrecipes.records.verify import levels


def verify_run(
    name: str, *, store: str, regenerate: int = 0, strict: bool = False, trust_remote_code: bool = False
) -> dict[str, Any]:
    """Return the JSON object of `vlmrecipes runs verify`: `run, ok, levels`, each level `{ok, problems}`.

    `regenerate` adds a level of that name: so many rows are generated again by the run's model, and their texts compared.
    Raises InputError for a run that is not there, and for one whose model brings code that is not allowed to run.
    """
    folder = ledger.find(ledger.home(store), name)
    found = levels(folder, store=store, strict=strict)
    if regenerate:
        check_trust(read_plan(folder / "plan.json").recipe, str(folder / "recipe.toml"), allowed=trust_remote_code)
        found["regenerate"] = _regenerated(folder, regenerate)
    return {"run": folder.name, "ok": all(level["ok"] for level in found.values()), "levels": found}


def _regenerated(folder: Path, rows: int) -> dict[str, Any]:
    """Return `{ok, problems, n, equal}`: how many of the first `rows` rows are said again letter by letter."""
    try:
        again = _said_again(folder, rows)
        before = {
            row["id"]: row["prediction"]
            for row in predictions.read(folder / predictions.NAME).to_pylist()
            if row["model"] == "tuned"
        }
    except (InputError, RunError) as error:
        return {"ok": False, "problems": [str(error)], "n": 0, "equal": 0}
    problems = [
        f"sample {sample}: said {before.get(sample)!r} then, {text!r} now"
        for sample, text in again.items()
        if before.get(sample) != text
    ]
    return {"ok": not problems, "problems": problems, "n": len(again), "equal": len(again) - len(problems)}


def _said_again(folder: Path, rows: int) -> dict[str, str | None]:
    """Return text by sample id, by the very job that the run was, in a folder that is thrown away."""
    plan = _plan(folder, rows)
    with tempfile.TemporaryDirectory(prefix="vlmrecipes-") as temporary:
        there = Path(temporary)
        atomic.write_bytes(there / "plan.json", json.dumps(plan.to_json(), ensure_ascii=False).encode())
        start(there)
        said = json.loads((there / "tuned.json").read_text("utf-8"))["predictions"]
    return {item["id"]: item["text"] for item in said}


def _plan(folder: Path, rows: int) -> Plan:
    plan = read_plan(folder / "plan.json")
    own = ledger.weights(folder)
    scoring = plan.recipe.eval.model_copy(update={"limit": rows, "cache": False})
    return replace(
        plan,
        trains=False,
        train=(),
        tuned=plan.tuned or (str(own.absolute()) if own else ""),
        recipe=plan.recipe.model_copy(update={"eval": scoring}),
    )
