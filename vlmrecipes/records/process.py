"""Whether the process that wrote a record still runs."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def identity() -> dict[str, Any]:
    """Return `pid`, `host` and `pid_started` (clock ticks since boot; None where the system does not tell)."""
    stat = _stat(os.getpid())
    return {"pid": os.getpid(), "host": platform.node(), "pid_started": stat[1] if stat else None}


def gone(record: Mapping[str, Any]) -> bool:
    """Return whether the process named by `pid`, `host` and `pid_started` has certainly ended."""
    pid = record.get("pid")
    if not isinstance(pid, int) or pid <= 0 or record.get("host") != platform.node():
        return False
    if not _exists(pid):
        return True
    stat, started = _stat(pid), record.get("pid_started")
    # Numbers are used again: another start time is another process. A zombie has ended, its parent has not noticed.
    return stat is not None and (stat[0] == "Z" or (started is not None and stat[1] != started))


def alive(record: Mapping[str, Any], folder: Path, *, force: bool = False) -> str:
    """Return why the run in `folder` may be neither gone on with nor removed; nothing when it has ended.

    Nobody here can ask another host, where `force` says that the run is dead. On this host the process itself is asked.
    """
    if record.get("status") != "running" or gone(record):
        return ""
    if record.get("host") == platform.node():
        return "still going on; stop it first"
    if force:
        return ""
    last = max((file.stat().st_mtime for file in folder.rglob("*") if file.is_file()), default=0.0)
    since = datetime.fromtimestamp(last, UTC).isoformat(timespec="seconds")
    told = (
        f"runs on host {record.get('host')!r}, which cannot be asked from here, and has written nothing since {since}"
    )
    return f"{told}; if it is dead there, say --force"


def _exists(pid: int) -> bool:
    if sys.platform == "win32":
        # Signal 0 is Ctrl-C there.
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _stat(pid: int) -> tuple[str, int] | None:
    """Return a process's state letter and start time from `/proc`."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The program's name, in brackets, may itself hold spaces and brackets.
        fields = text.rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return None
