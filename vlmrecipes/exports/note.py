"""`export.json`, the file in every export that tells where it comes from and how it was checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmrecipes.errors import InputError
from vlmrecipes.exports.formats import FORMATS
from vlmrecipes.exports.source import Source
from vlmrecipes.fingerprint import file_sha256, fingerprint
from vlmrecipes.records import record
from vlmrecipes.version import VERSION

NAME = "export.json"


def write(source: Source, wanted: str, parity: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write the note of an export whose other files are all there, and return what it holds."""
    found, files = source.record, _files(folder)
    told = {
        "version": 1,
        "format": wanted,
        "tool": f"vlmrecipes {VERSION}",
        "created": record.now().isoformat(timespec="seconds"),
        "run": source.run.name,
        "seal": found["seal"],
        "recipe": {key: found["recipe"][key] for key in ("name", "version", "fingerprint")},
        "model": {"id": source.base_name} | {key: found["model"][key] for key in ("revision", "files")},
        "data": [{key: part[key] for key in ("role", "snapshot", "fingerprint", "license")} for part in found["data"]],
        "parity": parity,
        "sha256": fingerprint({part["path"]: part["sha256"] for part in files}),
        "files": files,
    }
    (folder / NAME).write_bytes(record.rendered(told))
    return told


def read(folder: Path) -> dict[str, Any]:
    """Return the note of an export. Raises InputError when there is none, or no whole one."""
    try:
        told = json.loads((folder / NAME).read_text("utf-8"))
        if told["format"] in FORMATS and told["files"] and told["parity"]["samples"]:
            return dict(told)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError.one(f"no export of this program: it has no whole {NAME}", file=str(folder))


def changes(folder: Path, told: Mapping[str, Any]) -> list[str]:
    """Return what differs between the files of an export and its note, one sentence each."""
    listed = {part["path"]: part["sha256"] for part in told["files"]}
    there = {part["path"]: part["sha256"] for part in _files(folder) if part["path"] != NAME}
    return [
        *(f"{name}: missing" for name in listed if name not in there),
        *(f"{name}: changed since the export" for name in listed if there.get(name, listed[name]) != listed[name]),
        *(f"{name}: added since the export" for name in there if name not in listed),
    ]


def _files(folder: Path) -> list[dict[str, Any]]:
    return [
        {"path": path.relative_to(folder).as_posix(), "sha256": file_sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
