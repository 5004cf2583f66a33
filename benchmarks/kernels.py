"""Measure what the GPU does in a step of `auto` of `benchmarks/training.py`, and for how long it does nothing.

    python benchmarks/kernels.py [--bits 16bit] [--work FOLDER] [--seconds 240] [-o FILE] [--tiny]

Steps 7 and 8 are watched by PyTorch's profiler, which slows them: the times are shares, not rates. `busy_share` is the part of
those steps in which at least one kernel or copy runs; `kinds` are kernel seconds over the seconds of the steps, so that kernels
side by side count twice; `kernels` are the ones that take longest. `--tiny` does all this on a CPU, where no kernels are seen.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

KINDS = (
    ("copies", ("memcpy", "memset")),
    ("attention", ("flash", "fmha", "attention", "softmax")),
    ("4-bit weights", ("dequant", "quantize")),
    ("products", ("gemm", "nvjet", "cutlass", "xmma", "cublas", "splitk", "addmm")),
    ("optimizer", ("adam", "multi_tensor", "optimizer")),
)
"""Words by which a kernel's kind is told from its name, the first that fits; others are `the rest`."""
FIRST, LAST = 7, 8
MOST = 15
FOUND = "kernels.json"


def kind(name: str) -> str:
    """Return the kind of a kernel."""
    low = name.lower()
    return next((kind for kind, words in KINDS if any(word in low for word in words)), "the rest")


def busy(spans: Iterable[tuple[float, float]]) -> float:
    """Return how long at least one of the spans, each a beginning and an end, lasts."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def summary(events: Sequence[tuple[str, float, float]], seconds: float) -> dict[str, Any]:
    """Return the shares of kernels, each a name, a beginning and an end in microseconds, in steps of so many seconds."""
    kinds: Counter[str] = Counter()
    names: Counter[str] = Counter()
    for name, begin, end in events:
        kinds[kind(name)] += (end - begin) / 1e6
        names[name] += (end - begin) / 1e6
    return {
        "steps": LAST - FIRST + 1,
        "seconds": round(seconds, 4),
        "launches": len(events),
        "busy_share": round(busy((begin, end) for _, begin, end in events) / 1e6 / seconds, 4),
        "kinds": {name: round(spent / seconds, 4) for name, spent in kinds.most_common()},
        "kernels": {name[:120]: round(spent / seconds, 4) for name, spent in names.most_common(MOST)},
    }


def watcher(folder: Path) -> Any:
    """Return a callback of transformers' trainer that writes what the GPU did in the steps into `folder`."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile
    from transformers import TrainerCallback
    from turns import finish

    class Watcher(TrainerCallback):
        """Watches the steps from `FIRST` to `LAST`."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            """Begin behind the step before the first, end behind the last."""
            finish()
            if state.global_step == FIRST - 1:
                self.profile = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True)
                self.profile.start()
                self.since = time.perf_counter()
            elif state.global_step == LAST:
                seconds = time.perf_counter() - self.since
                self.profile.stop()
                spans = [
                    (event.name, event.time_range.start, event.time_range.end)
                    for event in self.profile.events()
                    if event.device_type == DeviceType.CUDA and not event.is_user_annotation
                ]
                (folder / FOUND).write_text(json.dumps(summary(spans, seconds)), "utf-8")

    return Watcher()


def train(folder: Path) -> int:
    """Train as a run's own process does, watched."""
    from vlmrecipes import job
    from vlmrecipes.train import trl_backend

    own = trl_backend.callbacks
    trl_backend.callbacks = lambda *given: [*own(*given), watcher(folder)]
    return job.main(folder, "trained")


def measure(work: Path, bits: str, seconds: float, *, tiny: bool) -> dict[str, Any]:
    """Train `auto` for as many steps as it takes in a process of its own, and return what was found."""
    import made
    import trained
    from training import about, environment, fresh
    from turns import Contender

    shape = "tiny" if tiny else "7b"
    made.prepare(work, [shape], tiny=tiny)
    home = fresh(work / f"kernels-{bits}")
    model = made.folder_of(work, shape)
    settings = {**trained.AUTO, **({**trained.CPU, "workers": 1} if tiny else {}), "steps": LAST}
    recipe = trained.recipe(model, "mixed", bits=bits, **settings)
    folder = trained.ready(trained.planned(model, work / "store", "mixed"), recipe, home / "auto")
    one = Contender("auto", folder, [sys.executable, __file__, str(folder)])
    one.start(environment(home))
    until = time.monotonic() + seconds
    while one.alive and time.monotonic() < until:
        time.sleep(0.1)
    one.kill("the time was over")
    found = folder / FOUND
    told = json.loads(found.read_text("utf-8")) if found.exists() else {}
    return {"part": "kernels", "bits": bits, **about(), "error": one.error(), **told}


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", choices=["16bit", "4bit"], default="16bit")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vlmrecipes-training")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("-o", type=Path, help="file of the result")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    found = json.dumps(measure(args.work.absolute(), args.bits, args.seconds, tiny=args.tiny), indent=1)
    if args.o:
        args.o.write_text(found + "\n", "utf-8")
    print(found)


if __name__ == "__main__":
    if len(sys.argv) == 2 and Path(sys.argv[1]).is_dir():  # noqa: PLR2004
        sys.exit(train(Path(sys.argv[1])))
    main()
