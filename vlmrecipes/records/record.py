"""The record of a run: one JSON file, there from the first second, sealed last.

| field                                 | what it says                                                                       |
|---------------------------------------|------------------------------------------------------------------------------------|
| `version`, `run`, `kind`, `parents`   | of the format; the run's id; `train` or `evaluate`; the runs it builds on, and how |
| `status`, `error`                     | `running`, `complete`, `failed`, `interrupted`; why                                |
| `pid`, `host`, `pid_started`          | the process that writes it                                                         |
| `created`, `started`, `ended`         | UTC; `seconds` of wall time over all resumes                                       |
| `command`, `recipe`, `plan`           | as given without secrets; the recipe resolved, with hashes; the plan's fingerprint |
| `data`                                | each snapshot: role, fingerprint, table versions and tags, sources, samples used   |
| `model`                               | id, commit, files, processor and chat template with hashes; what training made     |
| `train`, `generate`                   | how training went; how answers were generated, cut off, empty, failed              |
| `metrics`, `baselines`, `warnings`    | values with counts and intervals by model; what would mislead                      |
| `sweep`                               | only of a run of a sweep: its `id`, the `place` in it and the `settings` tried     |
| `environment`                         | machine, packages, code revision, variables of an allow-list                       |
| `outputs`, `seal`                     | every file with its hash; SHA-256 of the canonical JSON of all the rest            |
"""

from __future__ import annotations

import json
import math
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

from vlmrecipes.errors import RunError, StoreError
from vlmrecipes.fingerprint import file_sha256, fingerprint
from vlmrecipes.masking import without_secrets
from vlmrecipes.records import atomic, process
from vlmrecipes.records.environment import command, environment

VERSION = 1
"""Version of the record's format. A newer one is refused, an older one is read."""

NAME = "record.json"
WORKING = ("rows.arrow", "lengths.npy", "failure.txt")
"""Files that training and `--resume` need and a finished run does not."""
UNSEALED = (NAME, "report.html", *WORKING)
"""Files of the run folder that the seal does not list: the record itself, what is made from it, and what may be pruned."""

EXPORTS = "exports"
"""Folder of what was made from a finished run later; it is no part of the record."""

Kind = Literal["train", "evaluate"]
Ended = Literal["complete", "failed", "interrupted"]

KINDS = {
    "adapter": "weights",
    "model": "weights",
    "predictions.parquet": "predictions",
    "metrics.jsonl": "log",
    "recipe.toml": "recipe",
    "plan.json": "plan",
}
"""What the files of a run folder are, by the first part of their path."""

_OWN = {"version", "run", "kind", "status", "created", "started", "ended", "seconds", "outputs", "seal"}


def new_run_id() -> str:
    """Return an id that sorts by time and is unique: `20261121-101530-3fa9c1`, UTC."""
    return f"{now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


def start(folder: Path, *, run: str, kind: Kind, recipe: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Make the run folder with a record that says `running`, then add the environment. Return the record.

    Raises RunError when the folder already holds a record.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / NAME).exists():
        raise RunError(f"{folder / NAME}: a run already has its record here")
    time = _stamp()
    head = {"version": VERSION, "run": run, "kind": kind, "status": "running"} | process.identity()
    times = {"created": time, "started": time, "ended": None, "seconds": 0.0, "error": None}
    asked = {"command": command(sys.argv), "parents": [], "recipe": dict(recipe)}
    record = head | times | asked | _empty() | _allowed(fields) | {"outputs": [], "seal": None}
    _write(folder, record)
    return record if record["environment"] else update(folder, environment=environment())


def update(folder: Path, **fields: Any) -> dict[str, Any]:
    """Replace whole fields of an open record and return it.

    Raises RunError when the record is sealed, ValueError for fields that only `start` and `finish` set.
    """
    allowed = _allowed(fields)
    with _locked(folder):
        return _write(folder, _open(folder) | allowed)


def resume(folder: Path, *, force: bool = False, **fields: Any) -> dict[str, Any]:
    """Reopen the record of a failed or interrupted run for this process, keeping the time it took so far.

    `force` takes a run of another host for dead. Raises RunError when the run is complete or still going on.
    """
    allowed = _allowed(fields)
    with _locked(folder):
        record = read(folder)
        if why := process.alive(record, folder, force=force):
            raise RunError(f"run {record['run']}: {why}")
        if record["status"] == "complete":
            raise RunError(f"run {record['run']} is complete: only a failed or interrupted run is resumed")
        again: dict[str, Any] = {
            "status": "running",
            "started": _stamp(),
            "ended": None,
            "error": None,
            "outputs": [],
            "seal": None,
        }
        return _write(folder, record | again | process.identity() | allowed)


def finish(folder: Path, status: Ended, error: BaseException | str | None = None) -> dict[str, Any]:
    """Write how the run ended, list its outputs with their hashes, seal the record and return it.

    Raises RunError when it is sealed already.
    """
    with _locked(folder):
        record, time = _open(folder), now()
        spent = (time - datetime.fromisoformat(record["started"])).total_seconds()
        told = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else error
        ended = {
            "status": status,
            "ended": _stamp(time),
            "seconds": round(record["seconds"] + max(0.0, spent), 3),
            "error": None if told is None else without_secrets(told),
            "outputs": _outputs(folder),
        }
        return _write(folder, _sealed(record | ended))


def seal(folder: Path) -> dict[str, Any]:
    """Seal an ended record again after files were added to its folder, and return it.

    Raises RunError when something that was sealed before is missing or changed, or the run has not ended.
    """
    with _locked(folder):
        if problems := _seal_problems(folder, added=False):
            raise RunError("\n".join(problems))
        return _write(folder, _sealed(read(folder) | {"outputs": _outputs(folder)}))


def check_seal(folder: Path) -> list[str]:
    """Return what differs between a run folder and its seal, one sentence each; nothing when it is as sealed."""
    try:
        return _seal_problems(folder, added=True)
    except StoreError as error:
        return [str(error)]


def read(folder: Path) -> dict[str, Any]:
    """Return the record of a run folder; `running` reads as `interrupted` once its process is gone.

    Raises StoreError when there is none, it is damaged, or a newer vlmrecipes wrote it.
    """
    record = _load(folder / NAME)
    if record.get("status") == "running" and process.gone(record):
        record["status"] = "interrupted"
    return record


def _empty() -> dict[str, Any]:
    # Every field is there from the start, so that no reader has to ask whether it is.
    names = ("plan", "data", "model", "train", "generate", "metrics", "baselines", "warnings", "environment")
    return {name: [] if name in ("data", "warnings") else {} for name in names}


def _load(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: damaged, not whole JSON: {error}") from error
    version = record.get("version") if isinstance(record, dict) else None
    if type(version) is not int or version < 1:
        raise StoreError(f"{path}: not a run record: it has no version")
    if version > VERSION:
        raise StoreError(
            f"{path}: record version {version}; this vlmrecipes reads up to {VERSION}: install a newer one"
        )
    return dict(record)


def _open(folder: Path) -> dict[str, Any]:
    record = _load(folder / NAME)
    if record.get("seal"):
        raise RunError(f"{folder / NAME}: sealed; a finished run does not change")
    return record


def _write(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    plain = dict(_plain(record))
    atomic.write_bytes(folder / NAME, rendered(plain))
    return plain


def rendered(record: Mapping[str, Any]) -> bytes:
    """Return the bytes that stand for `record` in its file; NaN and infinities are null."""
    return (json.dumps(_plain(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    """Return `value` as JSON can hold it: NaN and infinities become null, half characters become `?`."""
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    plain = dict(_plain(record))
    return plain | {"seal": _seal_of(plain)}


def _seal_of(record: Mapping[str, Any]) -> str:
    return fingerprint({key: value for key, value in record.items() if key != "seal"})


def _outputs(folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "path": name,
            "kind": KINDS.get(name.partition("/")[0], "other"),
            "sha256": file_sha256(folder / name),
            "bytes": (folder / name).stat().st_size,
        }
        for name in _output_names(folder)
    ]


def _output_names(folder: Path) -> list[str]:
    """Return the files a seal lists; checkpoints come and go with training, hidden files are other programs' notes."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = (
        path
        for path in paths
        if path.parts[0] != EXPORTS and not any(part.startswith((".", "checkpoint-")) for part in path.parts)
    )
    return sorted(name for path in kept if (name := path.as_posix()) not in UNSEALED)


def _seal_problems(folder: Path, *, added: bool) -> list[str]:
    record = _load(folder / NAME)
    if not record.get("seal"):
        return [f"{NAME}: not sealed, the run is {read(folder).get('status')}"]
    if record["seal"] != _seal_of(record) or (folder / NAME).read_bytes() != rendered(record):
        # What it says of the other files is worth nothing now.
        return [f"{NAME}: changed since it was sealed"]
    listed = {str(output["path"]): output for output in record["outputs"]}
    problems = [problem for name, output in listed.items() if (problem := _output_problem(folder, name, output))]
    extra = [name for name in _output_names(folder) if name not in listed] if added else []
    return problems + [f"{name}: added since the run was sealed" for name in extra]


def _output_problem(folder: Path, name: str, output: Mapping[str, Any]) -> str:
    path = folder / name
    if not path.is_file():
        return f"{name}: missing"
    same = path.stat().st_size == output["bytes"] and file_sha256(path) == output["sha256"]
    return "" if same else f"{name}: changed since it was sealed"


def _allowed(fields: Mapping[str, Any]) -> dict[str, Any]:
    if wrong := sorted(_OWN & fields.keys()):
        raise ValueError(f"not for callers to set: {', '.join(wrong)}")
    return dict(fields)


def _stamp(time: datetime | None = None) -> str:
    return (time or now()).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a parent and its training process from writing over each other's fields."""
    if sys.platform == "win32":
        yield
        return
    import fcntl
    import os

    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be read: {error.strerror}") from error
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
