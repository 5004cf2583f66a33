"""`vlmrecipes` as a user starts it: a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment, with the checkout's package, one thread and no hub."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("VLMRECIPES_")}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "120"} | more


def vlmrecipes(*words: object, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vlmrecipes", *map(str, words)]
    return subprocess.run(
        command, cwd=cwd, env=environment(**variables), capture_output=True, text=True, timeout=300, check=False
    )


def one_object(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    """Return the one JSON object that a verb printed, when it ended with `code`; wrong input gives no traceback."""
    assert done.returncode == code, done.stderr
    assert code == 1 or "Traceback" not in done.stderr
    return json.loads(done.stdout)
