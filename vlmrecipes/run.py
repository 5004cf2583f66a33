"""Wiring: plan → job → scores → record → report."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmrecipes.data.sample import Sample
from vlmrecipes.data.snapshot import Snapshot, open_snapshot
from vlmrecipes.data.store import local
from vlmrecipes.errors import InputError, Problem, RunError, StoreError, VlmRecipesError
from vlmrecipes.evaluate import metrics
from vlmrecipes.evaluate.score import Answer, score
from vlmrecipes.fingerprint import file_sha256, fingerprint
from vlmrecipes.job import FAILURE, LENGTHS
from vlmrecipes.plan import Plan, chosen, make_plan, read_plan
from vlmrecipes.progress import say
from vlmrecipes.recipe import Recipe, read_recipe
from vlmrecipes.records import atomic, ledger, predictions, record
from vlmrecipes.records.report import write_report

MODELS = ("base", "tuned")
ENGINES = ("hf",)


def runs_folder(store: str) -> Path:
    """Return the folder that holds a store's runs."""
    return local(store) / "runs"


def planned(file: Path, *, store: str, swaps: Sequence[str] = (), overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON object of `vlmrecipes plan`; its problems are listed in it. Raises InputError for a broken recipe."""
    recipe = _recipe(file, overrides)
    plan = make_plan(recipe, store=store, file=str(file), snapshots=_swapped(swaps))
    return replace(plan, problems=(*plan.problems, *_score_problems(plan, str(file)))).summary()


def run_recipe(
    file: Path,
    *,
    store: str,
    swaps: Sequence[str] = (),
    overrides: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Run a recipe and return the JSON object of `vlmrecipes run`.

    Raises InputError with everything the plan found, RunError when the run failed; its record says why.
    """
    recipe = _recipe(file, overrides)
    _check_trust(recipe, file, allowed=trust_remote_code)
    say(f"plan {recipe.name}")
    plan = make_plan(recipe, store=store, file=str(file), snapshots=_swapped(swaps))
    return _begin(plan, file, kind="train")


def evaluate_model(  # noqa: PLR0913
    file: Path,
    model: str,
    *,
    engine: str = "hf",
    store: str,
    swaps: Sequence[str] = (),
    overrides: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Score `model`, a model id or a run, on the recipe's eval side; returns as `run_recipe`, under `metrics.tuned`."""
    if engine not in ENGINES:
        raise InputError.one(f"no engine {engine!r}; there is: {', '.join(ENGINES)}", key="--engine")
    recipe = _recipe(file, overrides)
    base, tuned = _model(model, store)
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update=base)})
    _check_trust(recipe, file, allowed=trust_remote_code)
    plan = make_plan(recipe, store=store, file=str(file), snapshots=_swapped(swaps), trains=False, tuned=tuned)
    return _begin(plan, file, kind="evaluate")


def resume_run(name: str, *, store: str) -> dict[str, Any]:
    """Go on with an interrupted or failed run, and return as `run_recipe`. A complete one is returned as it is."""
    folder = ledger.find(runs_folder(store), name)
    if record.read(folder)["status"] == "complete":
        say(f"{folder.name} is complete; nothing to do")
        return _view(folder)
    record.resume(folder)
    return _finish(folder, read_plan(folder / "plan.json"))


def report(names: Sequence[str], output: Path, *, store: str, last: int = 0) -> dict[str, Any]:
    """Write one HTML page about the runs `names`, or the `last` ones, to `output`; returns its path and the runs' scores.

    Raises InputError for a run that is not there, and when none is named.
    """
    there = runs_folder(store)
    newest = [run["run"] for run in ledger.runs(there)[:last]]
    folders = [ledger.find(there, name) for name in (*names, *reversed(newest))]
    if not folders:
        raise InputError.one("no run to report on: name one, or say --last 1")
    try:
        write_report(folders, output, _pictures(store, folders))
    except OSError as error:
        raise InputError.one(f"cannot be written: {error.strerror}", file=str(output), key="--output") from None
    return {"path": str(output.absolute()), "runs": [_view(folder) for folder in folders]}


def _recipe(file: Path, overrides: Sequence[str]) -> Recipe:
    recipe = read_recipe(file, tuple(overrides))
    if problems := metrics.problems(recipe.eval.metrics, str(file)):
        raise InputError(problems)
    return recipe


def _swapped(swaps: Sequence[str]) -> dict[str, str]:
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


def _check_trust(recipe: Recipe, file: Path, *, allowed: bool) -> None:
    if recipe.model.trust_remote_code and not allowed:
        problem = "the recipe asks to run code from the model's repository; say --trust-remote-code to allow it"
        raise InputError.one(problem, file=str(file), key="model.trust_remote_code")


def _model(name: str, store: str) -> tuple[dict[str, str], str]:
    """Return the recipe's model keys for `name`, and the folder of tuned weights when `name` is a run."""
    try:
        folder = ledger.find(runs_folder(store), name)
    except InputError:
        return {"id": name, "revision": "", "init": "weights"}, ""
    found = record.read(folder)
    if found["status"] != "complete":
        raise InputError.one(f"run {folder.name} is {found['status']}: it has no result to score", key="--model")
    model = read_plan(folder / "plan.json").recipe.model
    tuned = next((str(folder / part) for part in ("adapter", "model") if (folder / part).is_dir()), "")
    return {"id": model.id, "revision": model.revision, "init": model.init, "load_in": model.load_in}, tuned


def _begin(plan: Plan, file: Path, *, kind: record.Kind) -> dict[str, Any]:
    import numpy as np

    if problems := [*plan.problems, *_score_problems(plan, str(file))]:
        raise InputError(problems)
    name = record.new_run_id()
    folder = runs_folder(plan.store) / name
    record.start(folder, run=name, kind=kind, recipe=_recipe_fields(plan.recipe, file), **_plan_fields(plan))
    atomic.write_bytes(folder / "recipe.toml", file.read_bytes())
    atomic.write_bytes(folder / "plan.json", json.dumps(plan.to_json(), indent=2, ensure_ascii=False).encode())
    if plan.lengths is not None:
        np.save(folder / LENGTHS, plan.lengths)
    say(f"run {name}")
    return _finish(folder, plan)


def _recipe_fields(recipe: Recipe, file: Path) -> dict[str, Any]:
    resolved = recipe.model_dump(mode="json")
    return {
        "name": recipe.name,
        "version": recipe.version,
        "fingerprint": fingerprint(resolved),
        "source_sha256": file_sha256(file),
        "resolved": resolved,
    }


def _plan_fields(plan: Plan) -> dict[str, Any]:
    summary = plan.summary()
    return {
        "plan": {key: summary[key] for key in ("plan", "fingerprint", "steps", "tokens", "memory_bytes")},
        "data": [_data_fields(role, open_snapshot(plan.store, name)) for role, name in plan.roles()],
        "model": {"id": plan.model.id, "revision": plan.model.revision, "files": plan.model.files},
    }


def _data_fields(role: str, snapshot: Snapshot) -> dict[str, Any]:
    keys = ("samples", "splits", "rows", "drops", "license", "images", "parent")
    return {"role": role, "snapshot": snapshot.name, "fingerprint": snapshot.fingerprint} | {
        key: snapshot.manifest[key] for key in keys
    }


def _finish(folder: Path, plan: Plan) -> dict[str, Any]:
    """Do what is left of a run: the job, the scores, the sealed record, the report."""
    try:
        _work(folder)
        _score(folder, plan)
        record.finish(folder, "complete")
    except KeyboardInterrupt:
        record.finish(folder, "interrupted", f"stopped by the user; go on with: vlmrecipes run --resume {folder.name}")
        raise
    except BaseException as error:
        record.finish(folder, "failed", error)
        _write_report(folder, plan.store)
        raise
    _write_report(folder, plan.store)
    return _view(folder)


def _write_report(folder: Path, store: str) -> None:
    write_report([folder], folder / "report.html", _pictures(store, [folder]))


def _work(folder: Path) -> None:
    """Run the job in a process of its own. Raises RunError with what it said."""
    (folder / FAILURE).unlink(missing_ok=True)
    command = [sys.executable, "-m", "vlmrecipes.job", str(folder.absolute())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sys.stderr) as job:  # noqa: S603 - our own module
        code = job.wait()
    if code:
        failure = folder / FAILURE
        why = failure.read_text("utf-8") if failure.exists() else f"its process ended with code {code}"
        failure.unlink(missing_ok=True)
        raise RunError(f"run {folder.name} failed: {why}\ngo on with: vlmrecipes run --resume {folder.name}")


def _score(folder: Path, plan: Plan) -> None:
    """Score what the job generated; write predictions.parquet and the record's fields."""
    names, by = plan.recipe.eval.metrics, plan.recipe.eval.by
    samples = evaluated(plan)
    results: dict[str, Any] = {}
    generate: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for model in MODELS:
        if (stage := folder / f"{model}.json").exists():
            found = json.loads(stage.read_text("utf-8"))
            said = {item["id"]: item for item in found["predictions"]}
            answers = [_answer(name, sample, said[sample.id]) for name, sample in samples]
            results[model], scores = score(answers, names, by=by, seed=plan.recipe.train.seed)
            generate[model] = found["stats"]
            rows += [
                _prediction(model, sample, said[sample.id], {name: scores[name][place] for name in names})
                for place, (_, sample) in enumerate(samples)
            ]
    predictions.write(folder / "predictions.parquet", rows, names)
    fields = {"metrics": results, "generate": generate}
    if (trained := folder / "trained.json").exists():
        fields |= _trained_fields(json.loads(trained.read_text("utf-8")), record.read(folder)["model"])
    record.update(folder, **fields)


def _score_problems(plan: Plan, file: str) -> list[Problem]:
    """Return what speaks against scoring these references, told before anything is trained."""
    unsaid = {"text": ""}
    answers = [_answer(name, sample, unsaid) for name, sample in evaluated(plan)]
    try:
        if answers:
            score(answers, plan.recipe.eval.metrics, by=plan.recipe.eval.by, resamples=1)
    except InputError as error:
        return [Problem(file, f"eval.{problem.key}".rstrip("."), problem.problem) for problem in error.problems]
    return []


def evaluated(plan: Plan) -> list[tuple[str, Sample]]:
    """Return (snapshot, sample) of everything that is scored, in order."""
    limit = plan.recipe.eval.limit
    return [
        (name, sample)
        for role, name in plan.roles()
        if role == "eval"
        for sample in chosen(open_snapshot(plan.store, name).samples("eval"), limit)
    ]


def _answer(snapshot: str, sample: Sample, said: Mapping[str, Any]) -> Answer:
    labels = {"source": sample.source, "snapshot": snapshot} | {k: str(v) for k, v in sample.metadata.items()}
    return Answer(
        id=sample.id, prediction=said["text"], references=sample.references, cluster=sample.group, labels=labels
    )


def _prediction(model: str, sample: Sample, said: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, Any]:
    text = "\n".join(part["text"] for part in sample.messages[-1]["content"] if part["type"] == "text")
    row = {
        "model": model,
        "id": sample.id,
        "prediction": said["text"],
        "references": list(sample.references),
        "prompt": text,
        "images": list(sample.images),
        "group": sample.group,
        "split": sample.split,
        "source": sample.source,
        "metadata": json.dumps(dict(sample.metadata), ensure_ascii=False),
        "tokens": said["tokens"],
        "truncated": said["truncated"],
    }
    for name, one in scores.items():
        row |= {f"{name}.numerator": one.numerator, f"{name}.denominator": one.denominator}
    return row


def _trained_fields(trained: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    model = model | {key: trained.pop(key) for key in ("parameters", "lora_modules", "dtype", "attention")}
    return {"train": trained, "model": model}


def _pictures(store: str, folders: Sequence[Path]) -> Any:
    """Return a function from image keys to bytes, over all snapshots that the runs name; what is gone is left out."""
    readers = []
    for folder in folders:
        for part in record.read(folder).get("data") or ():
            try:
                readers.append(open_snapshot(store, part["snapshot"]).reader())
            except VlmRecipesError as error:
                say(f"pictures of {part['snapshot']} cannot be shown: {error}")

    def pictures(keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for reader in readers:
            for key in keys:
                if key not in found:
                    try:
                        found[key] = reader.read([key])[0]
                    except StoreError:
                        continue
        return found

    return pictures


def _view(folder: Path) -> dict[str, Any]:
    """Return the JSON object of `run` from the record."""
    found = record.read(folder)
    weights = next((folder / name for name in ("adapter", "model") if (folder / name).is_dir()), None)
    return {
        "run": found["run"],
        "status": found["status"],
        "recipe": found["recipe"]["name"],
        "record": str((folder / record.NAME).absolute()),
        "snapshot": next(part["snapshot"] for part in found["data"]),
        "metrics": found["metrics"],
        "adapter": str(weights.absolute()) if weights else None,
        "report": str((folder / "report.html").absolute()),
        "seconds": found["seconds"],
    }
