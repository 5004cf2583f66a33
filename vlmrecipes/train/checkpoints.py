"""Checkpoints that are whole or not there: written aside, then renamed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEPT = 2
"""Checkpoints that stay; the one before the newest is for the case that a disk lost the newest."""
STATE = "trainer_state.json"
ASIDE = ".writing"
NAME = re.compile(r"checkpoint-(\d+)")


def newest(folder: Path) -> tuple[Path, int] | None:
    """Return the newest complete checkpoint in `folder` and its step, or None."""
    found = [(path, step) for path, step in _all(folder) if _complete(path, step)]
    return found[-1] if found else None


def forget(folder: Path, kept: int = KEPT) -> None:
    """Delete all checkpoints but the newest few."""
    found = _all(folder)
    for path, _ in found[: len(found) - kept]:
        shutil.rmtree(path)


@contextmanager
def aside(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that takes its place, and its name, when the block ends well."""
    temporary = target.parent / ASIDE / target.name
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
    shutil.rmtree(temporary.parent)


def _all(folder: Path) -> list[tuple[Path, int]]:
    """Return checkpoints with their steps, oldest first."""
    there = folder.iterdir() if folder.is_dir() else iter(())
    named = [(path, NAME.fullmatch(path.name)) for path in there]
    return sorted(((path, int(match[1])) for path, match in named if match), key=lambda pair: pair[1])


def _complete(path: Path, step: int) -> bool:
    try:
        state = json.loads((path / STATE).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    weights = (
        any(path.glob("*.safetensors")) and (path / "optimizer.pt").is_file() and (path / "scheduler.pt").is_file()
    )
    return weights and state.get("global_step") == step
