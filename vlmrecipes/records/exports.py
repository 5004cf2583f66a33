"""What was made from a finished run later: one file each, beside the sealed record and no part of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmrecipes.records import atomic, record


def folder_of(run: Path) -> Path:
    """Return the folder that holds the entries, and exports that were given no other place."""
    return run / record.EXPORTS


def add(run: Path, entry: Mapping[str, Any]) -> None:
    """Note an export of the run."""
    folder_of(run).mkdir(exist_ok=True)
    number = sum(1 for _ in folder_of(run).glob("*.json"))
    path = folder_of(run) / f"{number:04}-{record.new_run_id()}.json"
    atomic.write_bytes(path, record.rendered(entry))


def listed(run: Path) -> list[dict[str, Any]]:
    """Return the entries, oldest first; an entry that cannot be read is left out."""
    found = []
    for path in sorted(folder_of(run).glob("*.json")):
        try:
            entry = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found
