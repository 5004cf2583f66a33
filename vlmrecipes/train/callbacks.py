"""What a training says while it runs: progress on standard error and `metrics.jsonl`."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmrecipes.errors import RunError
from vlmrecipes.progress import Advance
from vlmrecipes.train.curve import Judge, figures
from vlmrecipes.train.watch import Best, Values, Watch


@dataclass(slots=True)
class MetricsLog:
    """`metrics.jsonl`: a JSON object for every logged step, in order of steps also after an interruption."""

    path: Path
    board: Any = None
    """A TensorBoard writer (see `vlmrecipes.train.board`) that scores go to as well."""
    _start: float = field(default_factory=time.monotonic)

    def rewind(self, step: int) -> None:
        """Drop what was logged after `step`, and a line cut by an interruption; 0 drops everything."""
        kept = [entry for entry in self.entries() if entry["step"] <= step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_suffix(".part")
        aside.write_text("".join(json.dumps(entry) + "\n" for entry in kept), "utf-8")
        aside.replace(self.path)
        self._start = time.monotonic() - (kept[-1]["seconds"] if kept else 0.0)

    def add(self, step: int, logs: dict[str, float]) -> None:
        """Append the figures of a step."""
        names = ("epoch", "loss", "learning_rate", "grad_norm")
        self._append({"step": step} | {name: logs[name] for name in names if name in logs} | figures(logs))

    def score(self, step: int, values: Values) -> None:
        """Append the scores of a step."""
        self._append({"step": step, "eval": dict(values)})
        for name, value in values.items() if self.board else ():
            if value is not None:
                self.board.add_scalar(f"eval/{name}", value, step)

    def _append(self, entry: dict[str, Any]) -> None:
        """Write a line; `seconds` counts training time, that of interrupted processes included."""
        seconds = round(time.monotonic() - self._start, 3)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry | {"seconds": seconds}) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        """Return the logged steps that can be read."""
        lines = self.path.read_text("utf-8").splitlines() if self.path.exists() else []
        return [entry for line in lines if (entry := _entry(line)) is not None]


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "step" in entry else None


def callbacks(
    log: MetricsLog, advance: Advance, watch: Watch | None, best: Best, judge: Judge | None = None
) -> list[Any]:
    """Return transformers' callbacks that keep `log`, report steps to `advance`, score what is due and keep the `best`.

    A training of which `judge` says that it has collapsed is stopped.
    """
    from transformers import TrainerCallback

    class Report(TrainerCallback):  # type: ignore[misc] # transformers is untyped here
        """Passes on what the trainer tells."""

        def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:  # noqa: ARG002
            advance(1)
            if state.global_step >= state.max_steps:
                control.should_log = True  # steps since the last log count, too
            if watch and watch.due(state.global_step, state.max_steps):
                values = watch.values(model)
                log.score(state.global_step, values)
                advance(0, ", ".join(f"{name} {value:.3f}" for name, value in values.items() if value is not None))
                if watch.select:
                    best.offer(state.global_step, values[watch.select], watch, model.save_pretrained)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:  # noqa: ARG002
            if "loss" in logs:
                log.add(state.global_step, logs)
                advance(0, f"reward {logs['reward']:.3f}" if "reward" in logs else f"loss {logs['loss']:.3f}")
                _check(state.global_step, logs["loss"])
                if judge and judge.collapse(log.entries(), ended=False):
                    control.should_training_stop = True

    return [Report()]


def _check(step: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise RunError(f"the loss is {loss} at step {step}: lower train.learning_rate, or raise train.warmup_steps")
