"""`vlmrecipes` as a user starts it: a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

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


def inside(*words: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a verb in this process, which has imported everything heavy already; processes that it starts are real."""
    from vlmrecipes.cli import main

    command, out, code = ["vlmrecipes", *map(str, words)], io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", command),
        mock.patch.dict(os.environ, environment(), clear=True),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(command, code, out.getvalue(), "")


def one_object(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    """Return the one JSON object that a verb printed, when it ended with `code`; wrong input gives no traceback."""
    assert done.returncode == code, done.stderr
    assert code == 1 or "Traceback" not in done.stderr
    return json.loads(done.stdout)
