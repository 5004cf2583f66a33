"""Freed memory is kept, unless the environment says otherwise; asked of processes, since it holds for a whole one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

ASK = "from vlmrecipes.data import freed; print(freed.keep())"


def kept(**environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=clean | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_glibc_takes_the_settings() -> None:
    assert kept() == "True"


def test_settings_of_the_environment_stay() -> None:
    assert kept(MALLOC_ARENA_MAX="2") == "False"
