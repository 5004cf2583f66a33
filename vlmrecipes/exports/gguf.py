"""GGUF for llama.cpp: a model file and, beside it, the vision tower and projector (mmproj).

llama.cpp's own converter writes both from the merged model. They are read back and every tensor is looked for in the merged
weights; where a build of llama.cpp is at hand, it answers a few rows as well.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from vlmrecipes import extras
from vlmrecipes.errors import MissingExtraError, RunError
from vlmrecipes.exports import convert, llama, tensors, weights
from vlmrecipes.exports.formats import GGUF, Settings
from vlmrecipes.exports.parity import Probe, check
from vlmrecipes.exports.source import Source

SCRIPT = "convert_hf_to_gguf.py"
PACKAGES = ("gguf", "sentencepiece")
MMPROJ = "mmproj-"
WAY = (
    f"{SCRIPT} of llama.cpp was not found: git clone https://github.com/ggml-org/llama.cpp, then say "
    "--converter llama.cpp or set LLAMA_CPP=llama.cpp (folder)"
)


def find(given: str) -> Path:
    """Return llama.cpp's converter: `given`, else `$LLAMA_CPP`, else on the PATH.

    Raises MissingExtraError with the way to install when there is none, or a Python package that it uses is missing.
    """
    for package in PACKAGES:
        extras.need(package, "write a GGUF and read it back")
    named = given or os.environ.get("LLAMA_CPP") or shutil.which(SCRIPT) or ""
    place = Path(named).expanduser()
    script = place / SCRIPT if place.is_dir() else place
    if not named or not script.is_file():
        raise MissingExtraError(f"{named}: {WAY}" if named else WAY)
    return script.resolve()


def write(source: Source, probe: Probe, folder: Path, settings: Settings) -> dict[str, Any]:
    """Write both files into `folder` and return the parity of the merged model, with `gguf` about the files.

    Raises RunError with the converter's last words when it does not know the model.
    """
    script = find(settings.converter)
    whole = folder.with_name(f"{folder.name}.16bit")
    try:
        digests = weights.write_merged(source, whole, settings.max_shard_size)
        parity = check(probe, whole, name=GGUF, weights=digests)
        recipe = re.sub(r"[^\w.-]+", "-", source.record["recipe"]["name"])
        name = f"{recipe}-{settings.outtype}.gguf"
        with convert.prepared(whole):
            _convert(script, whole, folder / name, settings.outtype)
            _convert(script, whole, folder / f"{MMPROJ}{name}", settings.outtype, "--mmproj")
        convert.without_windows(folder / f"{MMPROJ}{name}")
        found = {"converter": script.name, **tensors.compare(whole, sorted(folder.glob("*.gguf")))}
    finally:
        shutil.rmtree(whole, ignore_errors=True)
    return _with(parity, found | _answers(probe, folder, script))


def again(probe: Probe, folder: Path) -> dict[str, Any]:
    """Return a parity with what can be held again against the run: llama.cpp's answers, where there is a build of it."""
    named = os.environ.get("LLAMA_CPP") or ""
    files = {path.name: tensors.whole(path) for path in sorted(folder.glob("*.gguf"))}
    problems = [f"{name}: {problem}" for name, found in files.items() for problem in found]
    told = _answers(probe, folder, Path(named) / SCRIPT)
    parity = {"format": GGUF, "samples": len(probe.rows), "problems": problems}
    return _with(parity, told)


def _with(parity: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    problems = [*parity["problems"], *found.pop("problems", ())]
    return {**parity, "ok": not problems, "problems": problems, GGUF: found}


def _answers(probe: Probe, folder: Path, script: Path) -> dict[str, Any]:
    """Return what llama.cpp answers, held against the run's model; `answers` is None without a build of it."""
    program = llama.find(script.parent)
    if program is None:
        return {"answers": None}
    model = next(path for path in sorted(folder.glob("*.gguf")) if not path.name.startswith(MMPROJ))
    return llama.compare(program, model, model.with_name(f"{MMPROJ}{model.name}"), probe)


def _convert(script: Path, whole: Path, target: Path, outtype: str, *more: str) -> None:
    command = [sys.executable, convert.__file__, str(script), str(whole)]
    options = ["--outfile", str(target), "--outtype", outtype, *more]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)  # noqa: S603 - named by the user
    if done.returncode or not target.is_file():
        words = [line for line in done.stderr.strip().splitlines() if line.strip()] or ["no word of why"]
        raise RunError(f"{script.name} cannot convert {whole.name}{' '.join(['', *more])}: {words[-1]}")
