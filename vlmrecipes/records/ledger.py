"""The folder of runs: list them, find one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmrecipes.data.place import is_remote, local
from vlmrecipes.errors import InputError, StoreError
from vlmrecipes.records import exports
from vlmrecipes.records import record as records

LATEST = "latest"
WEIGHTS = ("adapter", "model")
"""Folders of what training makes, by what it is."""
SHOWN = 5
"""How many run ids an error lists."""


def home(store: str) -> Path:
    """Return the local folder of a store's runs; for a store in a bucket `$VLMRECIPES_RUNS`, else `.vlmrecipes/runs`."""
    if is_remote(store):
        return Path(os.environ.get("VLMRECIPES_RUNS") or ".vlmrecipes/runs")
    return local(store) / "runs"


def runs(folder: Path) -> list[dict[str, Any]]:
    """Return one line a run, newest first; a record that cannot be read has status `unreadable` and `why`."""
    return [line for line, _ in entries(folder)]


def entries(folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return (line, record) of every run, newest first; the record is empty where it cannot be read.

    The run folders are the ledger: one that is copied in or deleted by hand is right at once.
    """
    return sorted((_entry(path) for path in _folders(folder)), key=lambda entry: _age(entry[0]), reverse=True)


def find(folder: Path, run: str) -> Path:
    """Return the folder of a run by its id, the start of its id when only one has it, or `latest`.

    Raises InputError that names the runs there are.
    """
    paths = {path.name: path for path in _folders(folder)}
    if run in paths:
        return paths[run]
    if run == LATEST:
        return _latest(folder)
    matches = sorted(name for name in paths if run and name.startswith(run))
    if len(matches) == 1:
        return paths[matches[0]]
    if matches:
        raise InputError.one(f"{run!r} is the start of {len(matches)} runs: {_some(matches)}")
    raise InputError.one(f"no run {run!r} in {folder}; there is {_some(sorted(paths, reverse=True)) or 'none yet'}")


def _latest(folder: Path) -> Path:
    for line in runs(folder):
        if line["status"] != "unreadable":
            return folder / str(line["run"])
    raise InputError.one(f"no run in {folder} yet")


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _entry(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        found = records.read(path)
        return _summary(path.name, found), found
    except StoreError as error:
        return _unreadable(path.name, str(error)), {}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return _unreadable(path.name, f"{path / records.NAME}: damaged: {error!r}"), {}


def _summary(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    recipe = record["recipe"]
    return {
        "run": name,
        "status": str(record["status"]),
        "kind": record["kind"],
        "recipe": recipe.get("name"),
        "recipe_version": recipe.get("version"),
        "snapshot": snapshot(record),
        "metrics": {model: _values(metrics) for model, metrics in record["metrics"].items()},
        "created": str(record["created"]),
        "seconds": record["seconds"],
    }


def snapshot(record: Mapping[str, Any]) -> str | None:
    """Return what a run learned from, or what it scored when it learned nothing; several are joined by commas."""
    data = record["data"]
    chosen = [part for part in data if part["role"] == "train"] or data
    return ", ".join(dict.fromkeys(part["snapshot"] for part in chosen)) or None


def weights(folder: Path) -> Path | None:
    """Return the folder of what a run trained, an adapter or a whole model; None when it trained nothing."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_dir()), None)


def outcome(folder: Path) -> dict[str, Any]:
    """Return the JSON object of `vlmrecipes run` from the record."""
    found = records.read(folder)
    tuned = weights(folder)
    return {
        "run": found["run"],
        "status": found["status"],
        "recipe": found["recipe"]["name"],
        "record": str((folder / records.NAME).absolute()),
        "snapshot": next(part["snapshot"] for part in found["data"]),
        "metrics": found["metrics"],
        "baselines": found.get("baselines") or {},
        "warnings": found.get("warnings") or [],
        "adapter": str(tuned.absolute()) if tuned else None,
        "exports": [{key: entry.get(key) for key in ("format", "path")} for entry in exports.listed(folder)],
        "report": str((folder / "report.html").absolute()),
        "seconds": found["seconds"],
    }


def _values(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metric["value"] for name, metric in metrics.items()}


def _unreadable(name: str, why: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("kind", "recipe", "recipe_version", "snapshot", "created", "seconds"))
    return {"run": name, "status": "unreadable", **nothing, "metrics": {}, "why": why}


def _age(line: Mapping[str, Any]) -> tuple[str, str]:
    # Digits only, so that an id (20261121-101530-…) stands in where there is no time of creation.
    return re.sub(r"\D", "", line["created"] or line["run"][:15]).ljust(17, "0")[:17], line["run"]


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
