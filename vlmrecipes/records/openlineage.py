"""A run as OpenLineage events (openlineage.io, spec 2-0-2): START, then COMPLETE, FAIL or ABORT, one JSON object a line.

Snapshots and the model are input datasets, weights and predictions output datasets; the version of each is its fingerprint
or hash. What OpenLineage has no facet for (recipe, plan, metrics, seal) is in the facet `vlmrecipes_run`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from vlmrecipes.data.place import is_remote
from vlmrecipes.fingerprint import fingerprint, sha256
from vlmrecipes.progress import say
from vlmrecipes.records import record as records
from vlmrecipes.version import VERSION

VARIABLE = "VLMRECIPES_OPENLINEAGE"
"""Environment variable that names the file events are appended to."""
Kind = Literal["START", "RUNNING", "COMPLETE", "FAIL", "ABORT"]
ENDS: dict[str, Kind] = {"complete": "COMPLETE", "failed": "FAIL", "interrupted": "ABORT"}
PRODUCER = f"urn:vlmrecipes:{VERSION}"
SPEC = "https://openlineage.io/spec"
EVENT = f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
FACETS = {
    "processing_engine": "1-1-1/ProcessingEngineRunFacet",
    "parent": "1-2-0/ParentRunFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "sourceCodeLocation": "1-1-0/SourceCodeLocationJobFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet",
    "storage": "1-0-1/StorageDatasetFacet",
    "inputStatistics": "1-0-0/InputStatisticsInputDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
}
"""The published facets that are used, with the version of their schema."""
OWN = "vlmrecipes_run"
_ID = re.compile(r"(\d{8})-(\d{6})-")


def emit(folder: Path, kind: Kind | None = None) -> None:
    """Append an event about a run to the file that `$VLMRECIPES_OPENLINEAGE` names; without it do nothing.

    `kind` None stands for how the run ended. A file that cannot be written is told and stops no run.
    """
    target = os.environ.get(VARIABLE)
    if not target:
        return
    told = records.read(folder)
    line = json.dumps(event(told, kind or ENDS[told["status"]]), ensure_ascii=False) + "\n"
    try:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with Path(target).open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        say(f"OpenLineage event not written to {target}: {error.strerror}")


def events(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the events of a run from its record: START and, once it has ended, how."""
    end = ENDS.get(str(record["status"]))
    return [event(record, "START")] + ([event(record, end)] if end else [])


def event(record: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """Return one RunEvent; facets and outputs that only an ended run has are left out of the others."""
    ended = kind in ENDS.values()
    return {
        "eventType": kind,
        "eventTime": (record.get("ended") if ended else None) or record["started" if kind == "RUNNING" else "created"],
        "run": {"runId": run_id(record["run"]), "facets": dict(_run_facets(record, ended=ended))},
        "job": _job(record) | {"facets": dict(_job_facets(record))},
        "inputs": list(_inputs(record)),
        "outputs": list(_outputs(record)) if ended else [],
        "producer": PRODUCER,
        "schemaURL": EVENT,
    }


def run_id(run: str) -> str:
    """Return the UUID (version 7, RFC 9562) of a run: its time, and bits from the hash of its id; always the same one."""
    match = _ID.match(run)
    time = datetime.strptime("".join(match.groups()), "%Y%m%d%H%M%S").replace(tzinfo=UTC) if match else None
    milliseconds = int(time.timestamp() * 1000) if time else 0
    bits = int(sha256(run.encode())[:20], 16)
    low = bits & ((1 << 62) - 1)
    high = (bits >> 62) & 0xFFF
    return str(UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low))


def _facet(facet: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    schema = FACETS[facet]
    url = f"{SPEC}/facets/{schema}.json#/$defs/{schema.rpartition('/')[2]}"
    return facet, {"_producer": PRODUCER, "_schemaURL": url} | {k: v for k, v in fields.items() if v is not None}


def _run_facets(record: Mapping[str, Any], *, ended: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    yield _facet("processing_engine", version=VERSION, name="vlmrecipes", openlineageAdapterVersion=VERSION)
    for parent in record.get("parents") or ():
        if parent["as"] == "model":
            yield _facet("parent", run={"runId": run_id(parent["run"])}, job=_job(record))
    if ended and record.get("error"):
        yield _facet("errorMessage", message=str(record["error"]), programmingLanguage="PYTHON")
    own = {
        "run": record["run"],
        "recipe": (record.get("recipe") or {}).get("fingerprint"),
        "plan": (record.get("plan") or {}).get("fingerprint"),
    }
    if ended:
        own |= {"seal": record.get("seal"), "metrics": _metrics(record.get("metrics") or {})}
    yield OWN, {"_producer": PRODUCER, "_schemaURL": f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunFacet"} | own


def _metrics(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        model: {told.get("spec", name): told.get("value") for name, told in by.items()} for model, by in found.items()
    }


def _job(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"namespace": "vlmrecipes", "name": str((record.get("recipe") or {}).get("name") or record["run"])}


def _job_facets(record: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = "TRAINING" if record["kind"] == "train" else "EVALUATION"
    yield _facet("jobType", processingType="BATCH", integration="VLMRECIPES", jobType=kind)
    git = (record.get("environment") or {}).get("git") or {}
    if git.get("remote"):
        yield _facet(
            "sourceCodeLocation", type="git", url=git["remote"], repoUrl=git["remote"], version=git.get("commit")
        )


def _inputs(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for part in record.get("data") or ():
        parts.setdefault(str(part["snapshot"]), []).append(part)
    for name, roles in parts.items():
        used = [count for part in roles if (count := (part.get("selection") or {}).get("samples")) is not None]
        rows = sum(used) if len(used) == len(roles) else roles[0].get("samples")
        facets = [_facet("version", datasetVersion=roles[0].get("fingerprint") or name)]
        facets.append(_facet("storage", storageLayer="lance", fileFormat="lance"))
        yield {
            "namespace": _namespace(roles[0].get("store")),
            "name": name,
            "facets": dict(facets),
            "inputFacets": dict([_facet("inputStatistics", rowCount=rows)]),
        }
    model = record.get("model") or {}
    if model.get("id"):
        version = model.get("revision") or fingerprint(model.get("files") or {})
        facets = [_facet("version", datasetVersion=version)]
        yield {"namespace": "model", "name": str(model["id"]), "facets": dict(facets), "inputFacets": {}}


def _outputs(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each output, a folder of weights as one, with bytes, files and a hash over what it holds."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for part in record.get("outputs") or ():
        groups.setdefault(str(part["path"]).partition("/")[0], []).append(part)
    store = next((part.get("store") for part in record.get("data") or () if part.get("store")), None)
    for name in ("adapter", "model", "predictions.parquet"):
        if files := groups.get(name):
            hashes = {str(part["path"]): part["sha256"] for part in files}
            version = files[0]["sha256"] if name in hashes else fingerprint(hashes)
            size = sum(part["bytes"] for part in files)
            yield {
                "namespace": _namespace(store),
                "name": f"runs/{record['run']}/{name}",
                "facets": dict([_facet("version", datasetVersion=version)]),
                "outputFacets": dict([_facet("outputStatistics", size=size, fileCount=len(files))]),
            }


def _namespace(store: str | None) -> str:
    if not store:
        return "vlmrecipes"
    return store if is_remote(store) else Path(store).as_uri() if Path(store).is_absolute() else store
