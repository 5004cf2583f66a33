"""Measure training: against a hand-written Unsloth script, Unsloth against TRL, and a plan's memory against what is taken.

    python benchmarks/training.py prepare            models of random weights and rows, made once into --work
    python benchmarks/training.py 16bit|4bit         speed on one GPU, see `speed`
    python benchmarks/training.py memory             memory on one GPU, see `figures_of`
        [--work FOLDER] [--seconds 270] [-o FILE] [--only NAME,…] [--shape 7b] [--steps 12] [--tiny]

Each result goes to FILE at once, a JSON line; the last line, which is also printed, holds all of them. What the processes
said is kept beside it, in FILE.logs. `--tiny` checks all this on a CPU with a tiny model and without Unsloth.

Speed: Qwen2.5-VL-7B's shape; 96 rows, a third of them pages of 840 x 1120 pixels with 600 letters, the others lines of 40;
LoRA of rank 16 on both towers, adamw_8bit, 8 rows an optimizer step, 12 steps of which 4 do not count. Every contender is a
process of its own; all are loaded and warm, then they take turns of 4 steps each (see `turns.py`), all on the same rows in
the same order:

- `hand`: `by_hand.py`, 2 rows at a time, 4 times a step;
- `ours`: the same as a recipe for this project's Unsloth backend; `trl`: that recipe with its TRL backend;
- `auto`: `ours` with batch_size = "auto", effective_batch = 8 and 4 loader processes;
- `keep`: `auto` without gradient checkpointing, one page at a time.

`loss_difference` is the greatest of all steps, relative; `--shape 2b --steps 50` compares losses for longer.

A step lasts from the end of the one before, waiting for rows included. `card_share` counts 6 floating point operations a
weight and token (forward, gradients of what is computed, and computing it again), as facts of earlier measurements do;
`model_flops_share` counts 4 a weight of the language model and text token and 4 a weight of the vision tower and patch
(nothing computed again, no attention scores, no adapters). Both are over what a bf16 product of 8192 x 8192 x 8192 reaches on
the card in the same minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fits
import made
import trained
from families import versions
from turns import STEPS, WARM, Contender, last_line, race, say

PACKAGES = ("torch", "transformers", "trl", "peft", "unsloth", "unsloth_zoo", "bitsandbytes")
ROWS_A_STEP = 8
LEFT = 8
"""Seconds kept for writing down what was measured."""
WARM_BEFORE = 0.2
"""Share of the time before which all contenders must be warm."""
SIDE = 8192
GIB = 2**30


class Results:
    """Where results go: a line at once, and all of them at the end."""

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        """Write to `path`, where one is given."""
        self.path = path
        self.about = dict(about)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, result: Mapping[str, Any]) -> None:
        """Append one line."""
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")

    def keep_log(self, one: Contender) -> None:
        """Keep what a process said, and what its clock told."""
        if self.path:
            kept = self.path.with_name(f"{self.path.name}.logs")
            kept.mkdir(exist_ok=True)
            for name in ("log.txt", "events.jsonl"):
                if (one.folder / name).exists():
                    shutil.copy(one.folder / name, kept / f"{one.name.replace(' ', '-')}.{name}")

    def end(self, result: Mapping[str, Any]) -> None:
        """Write and print all."""
        whole = self.about | dict(result)
        self.add(whole)
        print(json.dumps(whole, indent=1))


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a training: offline, with this project to import wherever it runs."""
    paths = [str(Path(path).resolve()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    root = str(Path(__file__).resolve().parents[1])
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([*paths, root])),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "8"),
        "PYTHONUNBUFFERED": "1",
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "UNSLOTH_COMPILE_LOCATION": str(folder / "compiled"),
    }


def speed(  # noqa: PLR0913
    work: Path, bits: str, names: Sequence[str], results: Results, deadline: float, *, shape: str, steps: int
) -> None:
    """Let the contenders take turns and write what each has reached, and all beside the first."""
    home, tiny = fresh(work / f"speed-{shape}-{bits}-{steps}"), shape == "tiny"
    model = made.folder_of(work, shape)
    plan = trained.planned(model, work / "store", "mixed")
    order = trained.written_by_hand(plan, home / "rows.jsonl", math.ceil(steps * ROWS_A_STEP / len(plan.rows)))
    contenders = [trained.contender(name, plan, home, bits, steps, tiny=tiny) for name in names]
    weights = fits.sizes(plan)

    def told(peak: float = 0.0) -> dict[str, Any]:
        for one in contenders:
            results.keep_log(one)
        return {one.name: reached(one, order, weights, peak) for one in contenders}

    def on_turn(turn: int) -> None:
        say(f"turn {turn} done")
        results.add({"bits": bits, "turn": turn, "contenders": told()})

    warm = deadline - WARM_BEFORE * (deadline - time.monotonic())
    race(contenders, environment(home), deadline - LEFT, warm, on_turn, steps=steps)
    peak = product_rate()
    found = told(peak)
    for name, figures in found.items():
        results.add({"contender": name, "bits": bits, **figures})
        say(f"{name}: {figures.get('samples_per_second')} samples/s {last_line(figures['error'])}")
    ratios = {name: beside(one, found[names[0]]) for name, one in found.items() if name != names[0]}
    whole = {"bits": bits, "product_tflops": peak, "weights": weights, "contenders": found}
    results.end(whole | {"ratios_to": names[0], "ratios": ratios})


def fresh(folder: Path) -> Path:
    """Return the folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def reached(one: Contender, order: Sequence[trained.Shown], weights: Mapping[str, int], peak: float) -> dict[str, Any]:
    """Return the figures of a contender, over the steps that it has come to."""
    events = one.events()
    steps = {event["step"]: event for event in events if "step" in event}
    counted = [steps[step] for step in sorted(steps) if step > WARM]
    losses = {event["logged"]: event["loss"] for event in events if "logged" in event}
    begin = next((event for event in events if event.get("at") == "begin"), {})
    told = {
        "error": one.error(),
        "trained": begin.get("trained"),
        "steps": len(counted),
        "losses": [losses.get(step) for step in range(1, max(losses, default=0) + 1)],
    }
    told |= {"warm_seconds": [round(steps[step]["seconds"], 3) for step in sorted(steps) if step <= WARM]}
    if not counted:
        return told
    seconds = sum(step["seconds"] for step in counted)
    rows = [row for step in counted for row in order[(step["step"] - 1) * ROWS_A_STEP : step["step"] * ROWS_A_STEP]]
    tokens, patches = sum(row.tokens for row in rows), sum(row.patches for row in rows)
    last = steps[max(steps)]
    model = 4 * ((weights["total"] - weights["vision"] - weights["table"]) * tokens + weights["vision"] * patches)
    tflops = {"card": 6 * weights["total"] * tokens / seconds / 1e12, "model_flops": model / seconds / 1e12}
    return told | {
        "samples_per_second": round(len(rows) / seconds, 3),
        "tokens_per_second": round(tokens / seconds, 1),
        "median_step_seconds": round(statistics.median(step["seconds"] for step in counted), 4),
        "step_seconds": [round(step["seconds"], 4) for step in counted],
        "waiting_share": round(sum(step["data"] for step in counted) / seconds, 4),
        "tflops": {name: round(value, 1) for name, value in tflops.items()},
        **{f"{name}_share": round(value / peak, 4) for name, value in tflops.items() if peak},
        "memory_gib": {
            "loaded": gib(begin.get("held")),
            "between_steps": gib(last.get("held")),
            "peak": gib(last.get("peak")),
            "reserved": gib(last.get("reserved")),
        },
    }


def gib(count: int | None) -> float | None:
    """Return bytes as GiB."""
    return None if count is None else round(count / GIB, 3)


def beside(one: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """Return a contender's figures over those of the first, and how far its losses lie from that one's."""
    pairs = [
        (a, b) for a, b in zip(one["losses"], first["losses"], strict=False) if a is not None and b is not None and b
    ]
    told: dict[str, Any] = {"losses_compared": len(pairs)}
    if pairs:
        told["loss_difference"] = max(abs(a - b) / abs(b) for a, b in pairs)
    if "samples_per_second" in one and "samples_per_second" in first:
        told["samples_per_second"] = round(one["samples_per_second"] / first["samples_per_second"], 3)
        told["median_step"] = round(one["median_step_seconds"] / first["median_step_seconds"], 4)
        peaks = one["memory_gib"]["peak"], first["memory_gib"]["peak"]
        told["peak_memory"] = round(peaks[0] / peaks[1], 4) if all(peaks) else None
    return told


def product_rate() -> float:
    """Return the TFLOP/s of a large bf16 product on the card; 0 without one, or where it fails."""
    import torch

    if not torch.cuda.is_available():
        return 0.0
    try:
        return _product_rate()
    except RuntimeError as error:
        say(f"no rate of a product: {error}")
        return 0.0


def _product_rate() -> float:
    import torch

    a, b = (torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(10):
        a @ b
    torch.cuda.synchronize()
    return round(10 * 2 * SIDE**3 / (time.perf_counter() - began) / 1e12, 1)


def about() -> dict[str, Any]:
    """Return date, device and versions."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": device,
        "cores": os.cpu_count(),
        "versions": versions(PACKAGES),
    }


def main() -> None:
    """Do a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["prepare", "16bit", "4bit", "memory"])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vlmrecipes-training")
    parser.add_argument("--seconds", type=float, default=270)
    parser.add_argument("-o", type=Path, help="file of results")
    parser.add_argument("--only", default="", help="contenders, or words in the names of cases of memory")
    parser.add_argument("--shape", default="7b", help="of the model whose speed is measured")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a measurement of speed")
    parser.add_argument("--processes", type=int, default=8, help="trainings at a time that memory is measured of")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    deadline = time.monotonic() + args.seconds
    os.environ["HF_HUB_OFFLINE"] = "1"
    work = args.work.absolute()
    shapes = ["tiny"] if args.tiny else [args.shape] if args.part in ("16bit", "4bit") else ["7b", "2b", "12m"]
    say(f"make {', '.join(shapes)} and the rows")
    made.prepare(work, shapes, tiny=args.tiny)
    say("made")
    only = [name for name in args.only.split(",") if name]
    results = Results(args.o and args.o.absolute(), {"part": args.part, **about()})
    if args.part == "memory":
        cases = fits.cases(shapes, only, tiny=args.tiny)
        told = fits.measure(cases, work, environment, deadline - LEFT, processes=args.processes, results=results)
        results.end({"cases": told})
    elif args.part != "prepare":
        names = only or (trained.ON_CPU if args.tiny else trained.CONTENDERS)
        speed(work, args.part, names, results, deadline, shape=shapes[0], steps=args.steps)


if __name__ == "__main__":
    main()
