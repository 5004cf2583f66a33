"""`runs export`: a finished run in the form of a tool that others use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlmrecipes.errors import InputError
from vlmrecipes.records import atomic, ledger, openlineage, record
from vlmrecipes.records.to_mlflow import to_mlflow

FORMATS = ("mlflow", "openlineage")


def hand_over(  # noqa: PLR0913 - what the verb takes
    name: str,
    to: str,
    *,
    store: str,
    uri: str = "",
    experiment: str = "",
    weights: bool = False,
    output: Path | None = None,
) -> dict[str, Any]:
    """Tell a run to MLflow (see `to_mlflow`), or write its OpenLineage events to `output` and return `{run, path, events}`.

    Raises InputError for an unknown format, a run that is not there, and a file that cannot be written.
    """
    if to not in FORMATS:
        raise InputError.one(f"no format {to!r}; there are: {', '.join(FORMATS)}", key="--to")
    folder = ledger.find(ledger.home(store), name)
    if to == "mlflow":
        return to_mlflow(folder, uri=uri, experiment=experiment, weights=weights)
    target = output or Path(f"{folder.name}.openlineage.jsonl")
    told = openlineage.events(record.read(folder))
    atomic.write_asked(target, "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in told).encode())
    return {"run": folder.name, "path": str(target.absolute()), "events": len(told)}
