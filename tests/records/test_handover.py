"""Runs in the forms of other tools, each read back by that tool."""

from __future__ import annotations

import importlib
import json
import pkgutil
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import attr
import pytest
from command import inside, one_object
from scored import Scored  # noqa: TC002

from vlmrecipes.errors import InputError, MissingExtraError
from vlmrecipes.records import openlineage, record
from vlmrecipes.records.to_mlflow import to_mlflow

GIT = {"remote": "https://example.org/lines.git", "commit": "abc", "dirty": False}
MACHINE = {"python": "3.11.9", "packages": {}, "git": GIT}


def classes() -> dict[str, type]:
    """Return the classes of the openlineage package by the address of the schema that each was made from."""
    import openlineage.client.generated as home

    found: dict[str, type] = {}
    for module in pkgutil.iter_modules(home.__path__):
        for value in vars(importlib.import_module(f"{home.__name__}.{module.name}")).values():
            if isinstance(value, type) and attr.has(value) and hasattr(value, "_get_schema"):
                found[value._get_schema()] = value  # noqa: SLF001 - there is no other way to ask
    return found


def read_back(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as the openlineage package writes it after it has read it, so that it has checked every part.

    Keys that a schema does not know raise TypeError there, as do missing ones; times and ids are checked by their own rules.
    """
    from openlineage.client import event_v2
    from openlineage.client.facet_v2 import parent_run
    from openlineage.client.serde import Serde

    known = classes()

    def facets(found: dict[str, Any]) -> dict[str, Any]:
        return {name: facet(name, dict(fields)) for name, fields in found.items()}

    def facet(name: str, fields: dict[str, Any]) -> Any:
        producer, schema = fields.pop("_producer"), fields.pop("_schemaURL")
        made = known[schema]
        if name == openlineage.OWN:
            return made(producer=producer).with_additional_properties(**fields)
        if name == "parent":
            fields = {"run": parent_run.Run(**fields["run"]), "job": parent_run.Job(**fields["job"])}
        return made(**fields, producer=producer)

    def dataset(kind: Any, told: dict[str, Any], own: str) -> Any:
        return kind(**told | {"facets": facets(told["facets"]), own: facets(told[own])})

    made = event_v2.RunEvent(
        eventType=event_v2.RunState(event["eventType"]),
        eventTime=event["eventTime"],
        producer=event["producer"],
        run=event_v2.Run(event["run"]["runId"], facets(event["run"]["facets"])),
        job=event_v2.Job(**event["job"] | {"facets": facets(event["job"]["facets"])}),
        inputs=[dataset(event_v2.InputDataset, each, "inputFacets") for each in event["inputs"]],
        outputs=[dataset(event_v2.OutputDataset, each, "outputFacets") for each in event["outputs"]],
    )
    assert event["schemaURL"] == made.schemaURL
    return dict(Serde.to_dict(made))


def plain(value: Any) -> Any:
    """Return `value` without empty parts, which the package leaves out."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item not in ({}, [], None)}
    return [plain(item) for item in value] if isinstance(value, list) else value


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_event_of_a_real_run_is_one_of_openlineage(scored: Scored) -> None:
    found = read_lines(Path(scored.store) / "openlineage.jsonl")
    assert [event["eventType"] for event in found] == ["START", "COMPLETE"] * 2
    assert len({event["run"]["runId"] for event in found}) == 2
    for event in found:
        assert plain(read_back(event)) == plain(event)
    start, end = found[:2]
    told = record.read(scored.folder())
    assert start["inputs"][0]["facets"]["version"]["datasetVersion"] == told["data"][0]["fingerprint"]
    assert start["inputs"][0]["name"] == "example@1"
    assert [each["name"] for each in end["outputs"]] == [f"runs/{scored.whole}/predictions.parquet"]
    metrics = end["run"]["facets"]["vlmrecipes_run"]["metrics"]["tuned"]
    assert metrics == {each["spec"]: each["value"] for each in told["metrics"]["tuned"].values()}
    assert start["eventTime"] < end["eventTime"]


@pytest.mark.parametrize(("status", "kind"), [("failed", "FAIL"), ("interrupted", "ABORT"), ("complete", "COMPLETE")])
def test_how_a_run_ended_is_told(status: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(openlineage.VARIABLE, str(tmp_path / "events.jsonl"))
    parents = [{"run": "20261120-101530-3fa9c1", "as": "model"}]
    folder = tmp_path / "20261121-101530-3fa9c1"
    record.start(folder, run=folder.name, kind="evaluate", recipe={"name": "x"}, environment=MACHINE, parents=parents)
    openlineage.emit(folder, "START")
    openlineage.emit(folder, "RUNNING")
    record.finish(folder, status, None if status == "complete" else "GPU is full")
    openlineage.emit(folder)
    found = read_lines(tmp_path / "events.jsonl")
    assert [event["eventType"] for event in found] == ["START", "RUNNING", kind]
    assert all(plain(read_back(event)) == plain(event) for event in found)
    facets = found[-1]["run"]["facets"]
    assert facets.get("errorMessage", {}).get("message") == (None if status == "complete" else "GPU is full")
    assert facets["parent"]["run"]["runId"] == openlineage.run_id("20261120-101530-3fa9c1")
    assert found[0]["job"]["facets"]["sourceCodeLocation"]["version"] == "abc"


def test_events_that_cannot_be_written_stop_no_run(
    finished: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(openlineage.VARIABLE, str(tmp_path / "file" / "events.jsonl"))
    openlineage.emit(folder)
    assert "OpenLineage event not written" in capsys.readouterr().err


def test_a_run_has_one_id_that_tells_its_time() -> None:
    found = UUID(openlineage.run_id("20261121-101530-3fa9c1"))
    assert (found.version, found.variant) == (7, "specified in RFC 4122")
    assert datetime.fromtimestamp((found.int >> 80) / 1000, UTC).isoformat() == "2026-11-21T10:15:30+00:00"
    assert openlineage.run_id("20261121-101530-3fa9c1") == str(found) != openlineage.run_id("20261121-101530-3fa9c2")
    assert UUID(openlineage.run_id("golden")).version == 7


def test_events_of_a_run_from_its_record(scored: Scored, tmp_path: Path) -> None:
    words = ("runs", "export", scored.whole, "--store", scored.store, "--to", "openlineage", "--json")
    found = one_object(inside(*words, "-o", "events.jsonl", cwd=tmp_path))
    live = read_lines(Path(scored.store) / "openlineage.jsonl")[:2]
    again = read_lines(tmp_path / "events.jsonl")
    assert (found["events"], Path(found["path"])) == (2, tmp_path / "events.jsonl")
    assert again == [live[0] | {"inputs": again[0]["inputs"]}, live[1]]
    assert (
        "there are: mlflow, openlineage" in one_object(inside(*words[:6], "prov", "--json", cwd=tmp_path), 2)["error"]
    )


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An MLflow store in files, which needs no database."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return (tmp_path / "mlruns").as_uri()


def test_a_run_in_mlflow(finished: Callable[..., Path], server: str) -> None:
    fingerprint = "sha256:" + "ab" * 32
    data = [
        {"role": role, "snapshot": "lines@3", "fingerprint": fingerprint, "store": "/x", "samples": 9}
        for role in ("train", "eval")
    ]
    long = {"name": "lines", "version": "1.0.0", "resolved": {"train": {"steps": 9}, "note": "x" * 9000, "none": None}}
    folder = finished(data=data, recipe=long, environment=MACHINE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        view = to_mlflow(folder, uri=server, weights=True)
        again = to_mlflow(folder, uri=server)
        client = mlflow.MlflowClient(tracking_uri=server)
        run = client.get_run(view["mlflow_run"])
        history = client.get_metric_history(view["mlflow_run"], "train/loss")
        artifacts = {each.path for each in client.list_artifacts(view["mlflow_run"])}
        weights = [each.path for each in client.list_artifacts(view["mlflow_run"], "adapter")]
    assert (view["unchanged"], again["unchanged"], again["mlflow_run"]) == (False, True, view["mlflow_run"])
    assert (run.info.status, run.info.run_name) == ("FINISHED", folder.name)
    assert run.data.params["train.steps"] == "9"
    assert len(run.data.params["note"]) == 6000
    assert "none" not in run.data.params
    assert run.data.metrics["tuned/cer"] == 0.25
    assert run.data.metrics["base/cer.high"] == pytest.approx(0.55)
    assert [(point.step, point.value) for point in history] == [
        (step, pytest.approx(3 / step)) for step in range(1, 10)
    ]
    inputs = {each.tags[0].value: each for each in run.inputs.dataset_inputs}
    assert set(inputs) <= {"training", "evaluation", fingerprint}
    assert all(each.dataset.digest == "ab" * 18 and len(each.dataset.digest) <= 36 for each in inputs.values())
    assert fingerprint in {tag.value for each in inputs.values() for tag in each.tags}
    assert {"record.json", "recipe.toml", "predictions.parquet", "metrics.jsonl", "adapter"} - {
        "recipe.toml"
    } <= artifacts
    assert weights == ["adapter/weights.bin"]
    assert run.data.tags["vlmrecipes.seal"] == record.read(folder)["seal"]
    assert run.data.tags["mlflow.source.git.commit"] == "abc"


def test_what_mlflow_refuses_is_told(
    finished: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    folder = finished()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match="MLflow does not take the run"):
            to_mlflow(folder, uri=(tmp_path / "mlruns").as_uri())
    record.start(tmp_path / "open", run="open", kind="train", recipe={}, environment={"python": "3"})
    with pytest.raises(InputError, match="only a run that has ended"):
        to_mlflow(tmp_path / "open", uri="x")


def test_without_mlflow_the_way_to_it_is_told(finished: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vlmrecipes\[mlflow\]'"):
        to_mlflow(finished(), uri="x")
