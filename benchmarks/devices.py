"""Measure trainings on two GPUs: how many times the rows of one they learn, and what sharded weights take and cost.

    python benchmarks/devices.py [--part one,two,sharded] [--work FOLDER] [--seconds 240] [-o FILE] [--tiny]

Random weights in the shape of Qwen2-VL-2B; 96 rows, a third of them pages of 840 x 1120 pixels with 600 letters, the others
lines of 40; LoRA of rank 16 on both towers by the TRL backend, 8 rows at a time on each device, gradient checkpointing. Each
part is a run's own training process, or two of them, one part after the other:

- `one`: one GPU, 8 rows a step;
- `two`: train.devices = 2, 16 rows a step;
- `sharded`: `two` with train.sharded = true.

All show the same 96 rows in every epoch. The first epoch does not count, the two after it do. Every result goes to FILE at
once, a JSON line; the last line, which is also printed, holds all of them: `times_one` are samples/s of `two` over those of
`one`; `losses_apart` is the greatest relative difference of the losses of `sharded` from those of `two`. `--tiny` does all
this on a CPU with two processes and a tiny model.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import made
import trained
from training import Results, about, environment, fresh, gib
from turns import EVENTS, Contender, say

from vlmrecipes.plan import Plan
from vlmrecipes.train import fleet

HERE = Path(__file__).parent
ROWS, AT_ONCE, EPOCHS = 96, 8, 3
PARTS: Mapping[str, Mapping[str, Any]] = {
    "one": {"devices": 1},
    "two": {"devices": 2},
    "sharded": {"devices": 2, "sharded": True},
}
TRAIN: Mapping[str, Any] = {
    "backend": "trl",
    "optimizer": "adamw_torch",
    "batch_size": AT_ONCE,
    "gradient_accumulation": 1,
    "group_by_length": True,
    "workers": 4,
}


def measure(name: str, plan: Plan, home: Path, until: float, *, tiny: bool) -> tuple[Contender, dict[str, Any]]:
    """Train a part, end it at `until` (of `time.monotonic`) when it is not done, and return it with its figures."""
    devices = PARTS[name]["devices"]
    epoch = ROWS // (AT_ONCE * devices)
    settings = {**TRAIN, **PARTS[name], "steps": EPOCHS * epoch, **({"workers": 1} if tiny else {})}
    recipe = trained.recipe(Path(plan.model.path), "mixed", **settings)
    folder = trained.ready(plan, recipe, home / name)
    launcher = fleet.command(devices)[:-1]  # a script instead of a module
    one = Contender(name, folder, [*launcher, str(HERE / "clocked.py"), str(folder)])
    one.start(environment(home))
    while one.alive and time.monotonic() < until:
        time.sleep(0.1)
    one.kill("the time was over")
    planned = json.loads((folder / "plan.json").read_text("utf-8"))["memory_bytes"]
    return one, {"devices": devices, "planned_gib": gib(planned), **figures(one, devices, epoch)}


def figures(one: Contender, devices: int, epoch: int) -> dict[str, Any]:
    """Return what the clocks of all devices have told; steps of the first `epoch` do not count."""
    told: dict[str, Any] = {"error": one.error()}
    seen = [events(one.folder if rank == 0 else one.folder / f"device-{rank}") for rank in range(devices)]
    told["losses"] = [event["loss"] for event in seen[0] if "logged" in event]
    steps = [event for event in seen[0] if "step" in event]
    counted = [event["seconds"] for event in steps if event["step"] > epoch]
    told["first_steps_seconds"] = [round(event["seconds"], 3) for event in steps[:2]]
    if counted:
        seconds = sum(counted)
        told |= {
            "steps": len(counted),
            "samples_per_second": round(len(counted) * AT_ONCE * devices / seconds, 3),
            "median_step_seconds": round(statistics.median(counted), 4),
            "waiting_share": round(sum(event["data"] for event in steps[-len(counted) :]) / seconds, 4),
        }
    told["peak_gib"] = [gib(max((event.get("peak") or 0 for event in told_by), default=0)) for told_by in seen]
    told["held_gib"] = [gib(next((event.get("held") for event in told_by), None)) for told_by in seen]
    return told


def events(folder: Path) -> list[dict[str, Any]]:
    """Return what a device's clock has told."""
    path = folder / EVENTS
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def beside(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the parts are beside each other, as far as they are there."""
    told: dict[str, Any] = {}
    rates = {name: part.get("samples_per_second") for name, part in found.items()}
    if rates.get("one") and rates.get("two"):
        told["times_one"] = round(rates["two"] / rates["one"], 3)
    if rates.get("two") and rates.get("sharded"):
        told["sharded_over_two"] = round(rates["sharded"] / rates["two"], 3)
    if "two" in found and "sharded" in found:
        pairs = list(zip(found["two"]["losses"], found["sharded"]["losses"], strict=False))
        told["losses_compared"] = len(pairs)
        told["losses_apart"] = max((abs(a - b) / abs(a) for a, b in pairs), default=None)
        told["peak_gib"] = {name: max(found[name]["peak_gib"]) for name in ("two", "sharded")}
    return told


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default=",".join(PARTS), help="which of one, two, sharded")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vlmrecipes-training")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("-o", type=Path, help="file of results")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    deadline = time.monotonic() + args.seconds
    os.environ["HF_HUB_OFFLINE"] = "1"
    work, shape = args.work.absolute(), "tiny" if args.tiny else "2b"
    made.prepare(work, [shape], tiny=args.tiny)
    say("made")
    home = fresh(work / "devices")
    plan = trained.planned(made.folder_of(work, shape), work / "store", "mixed")
    results = Results(args.o and args.o.absolute(), {"part": "devices", "shape": shape, **about()})
    found: dict[str, dict[str, Any]] = {}
    names = args.part.split(",")
    for place, name in enumerate(names):
        until = time.monotonic() + (deadline - time.monotonic()) / (len(names) - place)
        one, found[name] = measure(name, plan, home, until, tiny=args.tiny)
        results.add({"name": name, **found[name]})
        results.keep_log(one)
        say(f"{name}: {found[name].get('samples_per_second')} samples/s {found[name]['error'][-300:]}")
    results.end({"parts": found, **beside(found)})


if __name__ == "__main__":
    main()
