"""Hold every family to the conformance checks under both backends, on the device that is there.

    python benchmarks/families.py [--families qwen2_5_vl,…] [--backends trl,unsloth] [--processes 6] [-o FILE]

Each pair is a process of `tests/train/conformance.py` with a tiny model of random weights. Prints one JSON object: device
and versions, and for every backend and family each check's outcome, `ok` or what went wrong.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CHECKS = Path(__file__).parents[1] / "tests" / "train" / "conformance.py"
FAMILIES = (
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "mllama", "pixtral", "llava"),
    *("llava_next", "gemma3", "ministral3", "idefics3", "smolvlm"),
)
PACKAGES = ("torch", "transformers", "trl", "peft", "unsloth", "unsloth_zoo")
LIMIT = 300
"""Seconds for a pair."""


def checked(pair: tuple[str, str]) -> dict[str, str]:
    """Return the outcomes of one backend and family."""
    backend, family = pair
    command = [sys.executable, "-W", "ignore", str(CHECKS), family, backend]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {"all": f"not done after {LIMIT} s"}
    if done.returncode:
        return {"all": done.stderr.strip().splitlines()[-1][:300]}
    outcomes: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    if set(outcomes.values()) != {"ok"}:
        print(f"== {backend} {family}\n{done.stderr}", file=sys.stderr, flush=True)
    return outcomes


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def about() -> dict[str, Any]:
    """Return date, device and versions."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {"date": time.strftime("%Y-%m-%d"), "device": device, "versions": versions()}


def main() -> None:
    """Print the table as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--backends", default="trl,unsloth")
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("-o", type=Path)
    args = parser.parse_args()
    pairs = [(backend, family) for backend in args.backends.split(",") for family in args.families.split(",")]
    with ThreadPoolExecutor(args.processes) as pool:
        outcomes = list(pool.map(checked, pairs))
    table: dict[str, dict[str, Any]] = {backend: {} for backend, _ in pairs}
    for (backend, family), outcome in zip(pairs, outcomes, strict=True):
        table[backend][family] = outcome
    text = json.dumps(about() | {"outcomes": table}, indent=1) + "\n"
    print(text)
    if args.o:
        args.o.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
