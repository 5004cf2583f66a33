"""A finished run in an MLflow tracking server: parameters, metrics by step, the snapshots as dataset inputs, files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from vlmrecipes import extras
from vlmrecipes.errors import InputError
from vlmrecipes.page.formats import setting
from vlmrecipes.records import logged, record

FILES = ("record.json", "recipe.toml", "plan.json", "metrics.jsonl", "predictions.parquet", "report.html")
WEIGHTS = ("adapter", "model")
MOST_DIGEST, MOST_PARAM = 36, 6000
"""Characters that MLflow allows for a dataset's digest (more raise an error) and for a parameter's value."""
AT_ONCE = 100
"""Parameters that one request may hold."""
CONTEXT = {"train": "training", "eval": "evaluation"}
STATUS = {"complete": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


def to_mlflow(folder: Path, *, uri: str = "", experiment: str = "", weights: bool = False) -> dict[str, Any]:
    """Write the run in `folder` to the tracking server at `uri` and return `{run, uri, experiment, mlflow_run, unchanged}`.

    `uri` is a server's address or `sqlite:///FILE`; default: MLflow's own, `$MLFLOW_TRACKING_URI`. `experiment` is by default
    the recipe's name. Written once: a run that is there with the same seal is left as it is. With `weights`, the tuned weights
    go with it. Raises MissingExtraError without MLflow, InputError when the run has not ended or the server refuses.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = extras.need("mlflow", "write runs to an MLflow server")
    found = record.read(folder)
    if found["status"] not in STATUS:
        raise InputError.one(f"run {found['run']} is {found['status']}: only a run that has ended is exported")
    try:
        client = mlflow.MlflowClient(tracking_uri=uri or None)
        name = experiment or str(found["recipe"].get("name") or "vlmrecipes")
        there = client.get_experiment_by_name(name)
        where = there.experiment_id if there else client.create_experiment(name)
        known = _known(client, where, found)
        run = known or _written(mlflow, client, where, folder, weights=weights)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise InputError.one(f"MLflow does not take the run: {error}", key="--uri") from None
    told = {"run": found["run"], "uri": uri or mlflow.get_tracking_uri(), "experiment": name, "mlflow_run": run}
    return told | {"unchanged": bool(known)}


def _known(client: Any, experiment: str, found: Mapping[str, Any]) -> str:
    """Return the id of the MLflow run that holds this record already; empty when there is none."""
    same = f"tags.`vlmrecipes.run` = '{found['run']}' and tags.`vlmrecipes.seal` = '{found['seal']}'"
    runs = client.search_runs([experiment], filter_string=same)
    return str(runs[0].info.run_id) if runs else ""


def _written(mlflow: Any, client: Any, experiment: str, folder: Path, *, weights: bool) -> str:
    """Write everything and return the id of the new MLflow run; it is deleted again when something fails."""
    found = record.read(folder)
    begun = _milliseconds(found["created"])
    run = client.create_run(experiment, start_time=begun, run_name=found["run"], tags=_tags(found)).info.run_id
    entities = mlflow.entities
    try:
        for some in _batched(_params(found["recipe"].get("resolved") or {}), AT_ONCE):
            client.log_batch(run, params=[entities.Param(name, value) for name, value in some])
        scores = [entities.Metric(name, value, begun, 0) for name, value in _scores(found)]
        steps = [entities.Metric(name, value, begun, step) for name, step, value in _steps(folder)]
        for some in _batched([*scores, *steps], AT_ONCE * 10):
            client.log_batch(run, metrics=some)
        client.log_inputs(run, datasets=[_input(entities, part) for part in found["data"]])
        for name in FILES:
            if (folder / name).is_file():
                client.log_artifact(run, str(folder / name))
        for name in WEIGHTS if weights else ():
            if (folder / name).is_dir():
                client.log_artifacts(run, str(folder / name), name)
        client.set_terminated(run, STATUS[found["status"]], _milliseconds(found["ended"] or found["created"]))
    except BaseException:
        client.delete_run(run)
        raise
    return str(run)


def _tags(found: Mapping[str, Any]) -> dict[str, str]:
    git = found["environment"].get("git") or {}
    tags = {
        "vlmrecipes.run": found["run"],
        "vlmrecipes.seal": found["seal"],
        "vlmrecipes.kind": found["kind"],
        "vlmrecipes.recipe": found["recipe"].get("fingerprint"),
        "vlmrecipes.plan": found["plan"].get("fingerprint"),
        "mlflow.source.git.commit": git.get("commit"),
        "mlflow.source.git.repoURL": git.get("remote"),
        "mlflow.note.content": found["error"],
    }
    return {name: str(value) for name, value in tags.items() if value}


def _params(resolved: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield `train.learning_rate` and its value, and so on."""
    for name, value in resolved.items():
        if isinstance(value, Mapping):
            yield from _params(value, f"{before}{name}.")
        elif value is not None:
            yield _key(before + name), setting(value)[:MOST_PARAM]


def _scores(found: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for model, by_name in found["metrics"].items():
        for name, told in by_name.items():
            for part, key in (("", "value"), (".low", "low"), (".high", "high"), (".n", "n")):
                if told.get(key) is not None:
                    yield _key(f"{model}/{name}{part}"), float(told[key])


def _steps(folder: Path) -> Iterator[tuple[str, int, float]]:
    for name, points in logged.series(folder).items():
        for step, value in points:
            yield _key(f"train/{name}"), int(step), value


def _input(entities: Any, part: Mapping[str, Any]) -> Any:
    """Return a snapshot as MLflow has it: its digest cut to what fits, the whole fingerprint in a tag."""
    fingerprint = str(part["fingerprint"])
    dataset = entities.Dataset(
        name=str(part["snapshot"]),
        digest=fingerprint.removeprefix("sha256:")[:MOST_DIGEST],
        source_type="lancedb",
        source=json.dumps({"uri": part.get("store"), "snapshot": part["snapshot"]}),
        profile=json.dumps({key: part.get(key) for key in ("samples", "images", "splits")}),
    )
    tags = {"mlflow.data.context": CONTEXT.get(part["role"], part["role"]), "fingerprint": fingerprint}
    return entities.DatasetInput(dataset, [entities.InputTag(name, value) for name, value in tags.items()])


def _key(text: str) -> str:
    """Return a name that MLflow takes: letters, digits, `_-.:/` and blanks."""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)


def _milliseconds(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp).timestamp() * 1000)


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
