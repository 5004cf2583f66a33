"""Where a run happened: machine, packages, code revision. No secrets, and no import of anything heavy."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.fingerprint import canonical, sha256
from vlmrecipes.masking import HIDDEN, without_secrets

SECONDS = 10.0
"""A helper program that takes longer is given up on."""

ALLOWED = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
PREFIX = "VLMRECIPES_"
SECRET_NAMES = ("TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL")

_SECRET_WORDS = {"token", "key", "apikey", "secret", "password", "passwd", "credential", "credentials"}


def environment() -> dict[str, Any]:
    """Return what is known about this machine and process, as plain JSON values; what cannot be found is None."""
    packages = _packages()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"name": _cpu_name(), "count": os.cpu_count()},
        "memory_bytes": _memory_bytes(),
        "accelerators": _accelerators(),
        "git": _git(),
        "container": _in_container(),
        "variables": _variables(os.environ),
        "packages": packages,
        "packages_sha256": sha256(canonical(packages)),
    }


def command(arguments: Sequence[str]) -> list[str]:
    """Return a command line to record: the program's bare name, and `***` for the value of secret options."""
    if not arguments:
        return []
    program = Path(arguments[0]).name
    shown, hide_next = ["vlmrecipes" if program == "__main__.py" else program], False
    for argument in arguments[1:]:
        shown.append(HIDDEN if hide_next else _argument(argument))
        hide_next = not hide_next and argument.startswith("--") and "=" not in argument and _is_secret(argument)
    return shown


def _argument(argument: str) -> str:
    name, equals, _ = argument.partition("=")
    return f"{name}={HIDDEN}" if equals and _is_secret(name) else without_secrets(argument)


def _is_secret(name: str) -> bool:
    # Only the last word counts: `--hf-token` is one, `eval.max_new_tokens` is not.
    return re.split(r"[-_.]", name.lower())[-1] in _SECRET_WORDS


def _variables(variables: Mapping[str, str]) -> dict[str, str]:
    names = [name for name in variables if name in ALLOWED or name.startswith(PREFIX)]
    safe = sorted(name for name in names if not any(part in name.upper() for part in SECRET_NAMES))
    return {name: without_secrets(variables[name]) for name in safe}


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.processor()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _in_container() -> bool:
    return any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv"))


def _packages() -> dict[str, str]:
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        metadata = distribution.metadata
        # The first on the path is the one that is imported; a half-removed package has no name.
        if metadata and (name := metadata["Name"]):
            found.setdefault(name, metadata["Version"] or "")
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _accelerators() -> list[dict[str, Any]]:
    query = ("--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits")
    lines = (_output("nvidia-smi", *query) or "").splitlines()
    rows = [[cell.strip() for cell in line.split(",")] for line in lines]
    return [
        {"name": row[0], "driver": row[1], "memory_bytes": int(row[2]) * 2**20 if row[2].isdigit() else None}
        for row in rows
        if len(row) == 3  # noqa: PLR2004 - the three columns asked for
    ]


def _git() -> dict[str, Any] | None:
    commit = _output("git", "rev-parse", "HEAD")
    if commit is None:
        return None
    status = _output("git", "--no-optional-locks", "status", "--porcelain")
    remote = _output("git", "config", "--get", "remote.origin.url")
    patch = _output("git", "--no-optional-locks", "diff", "--binary", "--no-ext-diff", "HEAD") if status else None
    return {
        "commit": commit,
        "dirty": None if status is None else bool(status),
        "patch_sha256": sha256(patch.encode()) if patch else None,
        "remote": None if remote is None else without_secrets(remote),
    }


def _output(program: str, *arguments: str) -> str | None:
    """Return what a program prints, or None when it is missing, fails or takes too long."""
    path = shutil.which(program)
    if path is None:
        return None
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
