"""Wiring: plan → job → scores → record → report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmrecipes import extras
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.errors import InputError, MissingExtraError, Problem, RunError
from vlmrecipes.evaluate import metrics
from vlmrecipes.evaluate.engines import external
from vlmrecipes.exports import after
from vlmrecipes.fingerprint import sha256
from vlmrecipes.job import LENGTHS, start
from vlmrecipes.plan import Plan, fitting, make_plan, read_plan
from vlmrecipes.plan.checks import EXTERNAL
from vlmrecipes.plan.external import plan_external
from vlmrecipes.progress import say
from vlmrecipes.recipe import Recipe, check_trust, read_recipe
from vlmrecipes.records import atomic, ledger, openlineage, record, stored
from vlmrecipes.records.fields import plan_fields, recipe_fields
from vlmrecipes.records.report import write_report
from vlmrecipes.records.scored import scored_model
from vlmrecipes.records.scoring import score_problems, score_run
from vlmrecipes.train.reward_checks import code_problems, reference_problems
from vlmrecipes.train.view import rows_seen

ENGINES = ("hf", "unsloth", *EXTERNAL)


def planned(  # noqa: PLR0913
    file: Path,
    *,
    store: str,
    swaps: Sequence[str] = (),
    overrides: Sequence[str] = (),
    trust_remote_code: bool = False,
    allow_code: bool = False,
) -> dict[str, Any]:
    """Return the JSON object of `vlmrecipes plan`; its problems are listed in it. Raises InputError for a broken recipe."""
    recipe = _recipe(file, overrides)
    check_trust(recipe, str(file), allowed=trust_remote_code)
    plan = make_plan(recipe, store=store, file=str(file), snapshots=swapped(swaps))
    problems = [*plan.problems, *code_problems(recipe, str(file), allowed=allow_code), *_logging_problems(recipe, file)]
    problems += _data_problems(plan, str(file))
    return replace(plan, problems=tuple(problems)).summary() | {"rows": _rows_seen(plan)}


def _rows_seen(plan: Plan) -> list[dict[str, Any]]:
    from vlmrecipes.models.load import load_processor

    if not plan.rows or plan.lengths is None:
        return []
    processor = load_processor(plan.model, trust_remote_code=plan.recipe.model.trust_remote_code)
    readers = [open_snapshot(plan.store, name).reader() for name in plan.train_names()]
    lengths = plan.lengths[fitting(plan.recipe, plan.lengths)]
    how = {"responses_only": plan.recipe.train.responses_only, "rewarded": plan.recipe.grpo is not None}
    return rows_seen(processor, plan.rows, lengths, readers, **how)


def _data_problems(plan: Plan, file: str) -> list[Problem]:
    return [*score_problems(plan, file), *reference_problems(plan, file), *after.problems(plan, file)]


def run_recipe(  # noqa: PLR0913
    file: Path,
    *,
    store: str,
    swaps: Sequence[str] = (),
    overrides: Sequence[str] = (),
    trust_remote_code: bool = False,
    allow_code: bool = False,
) -> dict[str, Any]:
    """Run a recipe and return the JSON object of `vlmrecipes run`. `allow_code` allows rewards that are Python functions.

    Raises InputError with everything the plan found, RunError when the run failed (its record says why) or an export did.
    """
    allowed = {"trust_remote_code": trust_remote_code, "allow_code": allow_code}
    return begin(ready(file, store=store, swaps=swaps, overrides=overrides, **allowed), file, kind="train")


def ready(  # noqa: PLR0913
    file: Path,
    *,
    store: str,
    swaps: Sequence[str],
    overrides: Sequence[str],
    trust_remote_code: bool,
    allow_code: bool,
) -> Plan:
    """Return the plan of a recipe that is to be run. Raises InputError with everything that speaks against it."""
    recipe = _recipe(file, overrides)
    check_trust(recipe, str(file), allowed=trust_remote_code)
    check_code(recipe, str(file), allowed=allow_code)
    check_logging(recipe, file)
    say(f"plan {recipe.name}")
    plan = make_plan(recipe, store=store, file=str(file), snapshots=swapped(swaps))
    if problems := [*plan.problems, *_data_problems(plan, str(file))]:
        raise InputError(problems)
    return plan


def evaluate_model(  # noqa: PLR0913
    file: Path,
    model: str = "",
    *,
    engine: str = "",
    base_url: str = "",
    store: str,
    swaps: Sequence[str] = (),
    overrides: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Score `model` on the recipe's eval side; returns as `run_recipe`, under `metrics.tuned`.

    `model` is a model id or a run for the engines that load it here, a server's name for it for `openai`, nothing for
    `tesseract`. `engine` and `base_url` stand before the recipe's `eval.engine` and `eval.openai.base_url`.
    """
    if engine and engine not in ENGINES:
        raise InputError.one(f"no engine {engine!r}; there is: {', '.join(ENGINES)}", key="--engine")
    given = {"eval.engine": engine, "eval.openai.base_url": base_url}
    recipe = _recipe(file, [*overrides, *(f"{key}={value}" for key, value in given.items() if value)])
    if recipe.eval.engine in EXTERNAL:
        plan = _external(recipe, model, file, store, swaps)
    else:
        if not model:
            raise InputError.one("say which model is scored: a model id, a folder, or a run", key="--model")
        base, tuned = scored_model(model, store)
        asked = {override.partition("=")[0] for override in overrides}
        base = {key: value for key, value in base.items() if key == "id" or f"model.{key}" not in asked}
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update=base)})
        check_trust(recipe, str(file), allowed=trust_remote_code)
        plan = make_plan(recipe, store=store, file=str(file), snapshots=swapped(swaps), trains=False, tuned=tuned)
    return begin(plan, file, kind="evaluate")


def _external(recipe: Recipe, model: str, file: Path, store: str, swaps: Sequence[str]) -> Plan:
    """Return the plan of scoring what another program answers."""
    settings = recipe.eval
    if model and settings.engine == "openai":
        settings = settings.model_copy(update={"openai": settings.openai.model_copy(update={"model": model})})
        recipe = recipe.model_copy(update={"eval": settings})
    if found := external.problems(settings):
        raise InputError([Problem(str(file), key, problem) for key, problem in found])
    return plan_external(recipe, external.model_of(settings), store=store, file=str(file), snapshots=swapped(swaps))


def resume_run(
    name: str, *, store: str, trust_remote_code: bool = False, allow_code: bool = False, force: bool = False
) -> dict[str, Any]:
    """Go on with an interrupted or failed run, and return as `run_recipe`. A complete one only gets its exports.

    `force` takes a run that was started on another host, and cannot be asked about from here, for dead.
    """
    folder = ledger.find(ledger.home(store), name)
    plan = read_plan(folder / "plan.json")
    check_trust(plan.recipe, str(folder / "recipe.toml"), allowed=trust_remote_code)
    if record.read(folder)["status"] == "complete":
        say(f"{folder.name} is complete; nothing to train")
        after.export_asked(folder, plan)
        return ledger.outcome(folder)
    if plan.trains:
        check_code(plan.recipe, "", allowed=allow_code)
    record.resume(folder, force=force)
    openlineage.emit(folder, "RUNNING")
    return _finish(folder, plan)


def _recipe(file: Path, overrides: Sequence[str]) -> Recipe:
    recipe = read_recipe(file, tuple(overrides))
    if problems := metrics.problems(recipe.eval.metrics, str(file)):
        raise InputError(problems)
    return recipe


def swapped(swaps: Sequence[str]) -> dict[str, str]:
    """Return role → snapshot for `--data train=receipts@3`; a bare `receipts@3` stands for both roles."""
    found: dict[str, str] = {}
    problems = []
    for swap in swaps:
        role, equals, name = swap.rpartition("=")
        if role not in ("", "train", "eval") or not name or (equals and not role):
            problems.append(Problem("--data", swap, "expected train=NAME@N, eval=NAME@N or NAME@N"))
        found |= dict.fromkeys([role] if role else ["train", "eval"], name)
    if problems:
        raise InputError(problems)
    return found


def check_logging(recipe: Recipe, file: Path) -> None:
    """Raise MissingExtraError for a package that training is to be logged to and that is not installed."""
    for package in recipe.train.log_to:
        extras.need(package, f"log to it (train.log_to of {file})")


def _logging_problems(recipe: Recipe, file: Path) -> list[Problem]:
    try:
        check_logging(recipe, file)
    except MissingExtraError as error:
        return [Problem(str(file), "train.log_to", str(error))]
    return []


def check_code(recipe: Recipe, file: str, *, allowed: bool) -> None:
    """Raise InputError for a recipe with rewards that are Python functions, unless that is allowed and they can be used."""
    if problems := code_problems(recipe, file, allowed=allowed):
        raise InputError(problems)


def begin(
    plan: Plan, file: Path, *, kind: record.Kind, parents: Sequence[Mapping[str, str]] = (), **fields: Any
) -> dict[str, Any]:
    """Make the run's folder from a plan and the recipe's `file`, and do the run; return as `run_recipe`.

    `parents` are `{run, as}`, beside the run whose weights the plan scores; `fields` are more of the record. Raises as
    `run_recipe`.
    """
    import numpy as np

    if problems := [*plan.problems, *_data_problems(plan, str(file))]:
        raise InputError(problems)
    name = record.new_run_id()
    folder = ledger.home(plan.store) / name
    source = file.read_bytes()
    weights = [{"run": Path(plan.tuned).parent.name, "as": "model"}] if plan.tuned else []
    about = {"parents": [*weights, *(dict(parent) for parent in parents)], **plan_fields(plan), **fields}
    record.start(folder, run=name, kind=kind, recipe=recipe_fields(plan.recipe, sha256(source)), **about)
    atomic.write_bytes(folder / "recipe.toml", source)
    atomic.write_bytes(folder / "plan.json", json.dumps(plan.to_json(), indent=2, ensure_ascii=False).encode())
    if plan.lengths is not None:
        np.save(folder / LENGTHS, plan.lengths)
    openlineage.emit(folder, "START")
    say(f"run {name}")
    return _finish(folder, plan)


def _finish(folder: Path, plan: Plan) -> dict[str, Any]:
    """Do what is left of a run: the job, the scores, the sealed record, the report."""
    try:
        start(folder)
        score_run(folder, plan)
        _refuse_collapse(folder)
        record.finish(folder, "complete")
    except KeyboardInterrupt:
        record.finish(folder, "interrupted", f"stopped by the user; go on with: vlmrecipes run --resume {folder.name}")
        openlineage.emit(folder)
        raise
    except BaseException as error:
        record.finish(folder, "failed", error)
        openlineage.emit(folder)
        _write_report(folder, plan.store)
        raise
    openlineage.emit(folder)
    _write_report(folder, plan.store)
    after.export_asked(folder, plan)
    return ledger.outcome(folder)


def _refuse_collapse(folder: Path) -> None:
    """Raise RunError for a training by rewards that collapsed: what it left is scored and kept, but is no success."""
    found = (record.read(folder).get("train") or {}).get("collapse")
    if found and not found["rose"]:
        raise RunError(found["message"])


def _write_report(folder: Path, store: str) -> None:
    write_report([folder], folder / "report.html", stored.images(store, [folder]))
