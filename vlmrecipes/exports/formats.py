"""The formats, and what is asked for checked before any work."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vlmrecipes.errors import Problem

ADAPTER, MERGED, MERGED_4BIT, GGUF = "adapter", "merged_16bit", "merged_4bit", "gguf"
FORMATS = (ADAPTER, MERGED, MERGED_4BIT, GGUF)
OUTTYPES = ("f32", "f16", "bf16", "q8_0")
"""Precisions that llama.cpp's converter writes."""
SIZE = re.compile(r"[1-9]\d*(KB|MB|GB)")
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How exports are written and checked."""

    samples: int = 16
    """Samples of the eval side that are answered by the run's model and by the export."""
    max_shard_size: str = "5GB"
    """Largest file of weights, as `500MB`."""
    outtype: str = "bf16"
    """Precision of a GGUF: `f32`, `f16`, `bf16` or `q8_0`."""
    converter: str = ""
    """llama.cpp's `convert_hf_to_gguf.py`, or the folder that holds it; default: `$LLAMA_CPP`, then the PATH."""


def check(formats: tuple[str, ...], settings: Settings) -> list[Problem]:
    """Return what is wrong with what is asked for."""
    unknown = [name for name in formats if name not in FORMATS]
    problems = [Problem("", "--format", f"no format {name!r}; there is: {', '.join(FORMATS)}") for name in unknown]
    if not formats:
        problems.append(Problem("", "--format", f"say which format; there is: {', '.join(FORMATS)}"))
    if not SIZE.fullmatch(settings.max_shard_size):
        text = f"expected a size such as 500MB or 5GB, found {settings.max_shard_size!r}"
        problems.append(Problem("", "--max-shard-size", text))
    if settings.outtype not in OUTTYPES:
        problems.append(Problem("", "--outtype", f"no type {settings.outtype!r}; there is: {', '.join(OUTTYPES)}"))
    return problems


def check_target(folder: Path) -> list[Problem]:
    """Return why nothing can be written to `folder`."""
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        return [
            Problem("", str(folder), "is there already and not empty; give a folder that is empty or not there yet")
        ]
    return []
