"""What the folder of runs can do without: checkpoints of runs that ended, and, when asked for, whole runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.errors import InputError, Problem, StoreError
from vlmrecipes.records import ledger, process, record

CHECKPOINTS = "checkpoints"
GONE = ".gone"
"""Ending of the hidden name that a run's folder gets before it is removed, so that no half of a run is ever listed."""


def prune_runs(
    names: Sequence[str] = (), *, store: str, failed: bool = False, force: bool = False, yes: bool = False
) -> dict[str, Any]:
    """Remove what ended runs left of their training, and the runs in `names`; without `yes` only tell.

    Of a run that can still be resumed, checkpoints stay, unless `failed` removes every failed and interrupted run whole. A
    complete run goes only when it is named, and by `force` one that died on another host, too. Returns `{removed, paths:
    [{path, bytes, why}], bytes}`.

    Raises InputError for runs that are not there, still going on, or needed by another run that stays.
    """
    home = ledger.home(store)
    whole = _asked(home, names, force=force) | (set(_failed(home)) if failed else set())
    _check_free(home, whole)
    found = [*((path, "whole run") for path in sorted(whole)), *_leftovers(home, whole)]
    paths = [{"path": str(path), "bytes": _bytes(path), "why": why} for path, why in found]
    if yes:
        for path, _ in found:
            _remove(path)
    return {"removed": yes, "paths": paths, "bytes": sum(each["bytes"] for each in paths)}


def _asked(home: Path, names: Sequence[str], *, force: bool) -> set[Path]:
    folders = {ledger.find(home, name) for name in names}
    going = [(folder.name, why) for folder in sorted(folders) if (why := _alive(folder, force=force))]
    if going:
        raise InputError([Problem("", name, why) for name, why in going])
    return folders


def _failed(home: Path) -> Iterator[Path]:
    """Yield runs that failed or were interrupted, and folders that hold no record: a run that died before its first word."""
    for line in ledger.runs(home):
        folder = home / line["run"]
        if line["status"] in ("failed", "interrupted") or not (folder / record.NAME).exists():
            yield folder


def _check_free(home: Path, whole: set[Path]) -> None:
    """Refuse to remove a run whose adapter another run, that stays, was scored with."""
    problems = [
        Problem("", folder.name, f"run {user.name} was scored with its result; name both, or keep it")
        for user in (home / line["run"] for line in ledger.runs(home))
        if user not in whole
        for folder in sorted(whole)
        if _tuned(user).is_relative_to(folder.absolute())
    ]
    if problems:
        raise InputError(problems)


def _tuned(folder: Path) -> Path:
    try:
        return Path(json.loads((folder / "plan.json").read_text("utf-8"))["tuned"]).absolute()
    except (OSError, ValueError, KeyError, TypeError):
        return Path("/")


def _leftovers(home: Path, whole: set[Path]) -> Iterator[tuple[Path, str]]:
    for line in ledger.runs(home):
        folder = home / line["run"]
        if folder not in whole and line["status"] == "complete":
            for name in (CHECKPOINTS, *record.WORKING):
                if (folder / name).exists():
                    yield folder / name, "training has ended"
            for place in sorted((folder / record.EXPORTS).glob(".*.tmp*")):
                yield place, "half exported"
    for folder in sorted(home.glob(f".*{GONE}")) if home.is_dir() else ():
        yield folder, "half removed"


def _alive(folder: Path, *, force: bool) -> str:
    try:
        return process.alive(record.read(folder), folder, force=force)
    except StoreError:
        return ""


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove(path: Path) -> None:
    if not path.is_dir():
        path.unlink()
        return
    hidden = path if path.name.endswith(GONE) else path.with_name(f".{path.name}{GONE}")
    path.rename(hidden)
    shutil.rmtree(hidden)
