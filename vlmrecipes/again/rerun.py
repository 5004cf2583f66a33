"""`rerun`: a run's recipe on other data, and which part of the change is the data's and which the model's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.again.plans import plan_again
from vlmrecipes.compare.work import compare_runs
from vlmrecipes.errors import InputError
from vlmrecipes.plan import Plan
from vlmrecipes.progress import say
from vlmrecipes.records import ledger, predictions, record
from vlmrecipes.run import begin, swapped


def rerun(  # noqa: PLR0913 - a run and what is otherwise
    name: str,
    *,
    store: str,
    swaps: Sequence[str] = (),
    overrides: Sequence[str] = (),
    model: str = "",
    trust_remote_code: bool = False,
    allow_code: bool = False,
    output: Path | None = None,
) -> dict[str, Any]:
    """Do a run again and return as `run_recipe`, with `rerun_of` and `comparison`, the JSON object of `compare`.

    `swaps` are as for `run`, `latest` being the newest snapshot of the same dataset; a role that they do not name keeps the
    snapshot that the run used. `model` scores another run's weights, for a run that trained nothing. `comparison` is None
    where the two have nothing in common, or the first has no predictions; `output` is where its page goes.
    Raises InputError when nothing would be otherwise, and as `run_recipe`.
    """
    folder = ledger.find(ledger.home(store), name)
    if output is not None and not output.absolute().parent.is_dir():
        raise InputError.one("its folder is not there", file=str(output), key="--output")
    before = record.read(folder)
    plan = plan_again(
        folder,
        store=store,
        swaps=swapped(swaps),
        overrides=overrides,
        model=model,
        trust_remote_code=trust_remote_code,
        allow_code=allow_code,
    )
    if swaps and not (overrides or model):
        _check_new(before["data"], plan)
    view = begin(plan, folder / "recipe.toml", kind=before["kind"], parents=[{"run": folder.name, "as": "rerun"}])
    return view | {"rerun_of": folder.name, "comparison": _compared(folder, view["run"], store, output)}


def _check_new(data: Sequence[dict[str, Any]], plan: Plan) -> None:
    used = [(part["role"], part["snapshot"]) for part in data]
    if used == plan.roles():
        names = ", ".join(dict.fromkeys(snapshot for _, snapshot in used))
        problem = (
            f"the run used {names} already: ingest newer data first, or leave --data out to run it again as it was"
        )
        raise InputError.one(problem, key="--data")


def _compared(before: Path, after: str, store: str, output: Path | None) -> dict[str, Any] | None:
    if not (before / predictions.NAME).exists():
        say(f"{before.name} has no predictions to compare with")
        return None
    try:
        return compare_runs([before.name, after], store=store, output=output)
    except InputError as error:
        say(f"not compared: {error}")
        return None
