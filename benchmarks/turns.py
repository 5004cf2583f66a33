"""Trainings that take turns on one GPU: all are loaded and warm, and one at a time computes a few steps.

So every contender is measured in the same minutes, on the same card, with nothing beside it. A contender comes to a stop by
writing a file `waiting` into its folder and goes on when it finds `go` there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEPS = 12
"""Steps of a training, unless told otherwise."""
WARM = 4
"""Steps at the beginning that do not count."""
TURN = 4
"""Steps of a turn."""
EVENTS = "events.jsonl"
PAUSE = 0.01
"""Seconds between two looks for a file."""


class Clock:
    """What happens at the steps of a training; `callback` makes it one of transformers' callbacks."""

    def __init__(self, folder: Path, *, turns: bool) -> None:
        """Write what is seen into `folder`; with `turns`, stop before the first step, after the warm ones and every turn."""
        self.folder = folder
        self.turns = turns
        self.parent = os.getppid()
        self.since = self.began = 0.0

    def begin(self, model: Any) -> None:
        """Note what the loaded model takes, and how much of it is trained."""
        self._stop()
        trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        self._tell({"at": "begin", "trained": trained, **memory()})
        reset()
        self.since = time.perf_counter()

    def step_begin(self) -> None:
        """Note that the rows of a step are there."""
        self.began = time.perf_counter()

    def step_end(self, step: int) -> None:
        """Note how long a step took from the end of the one before, and how long of that it waited for its rows."""
        finish()
        now = time.perf_counter()
        self._tell({"step": step, "seconds": now - self.since, "data": self.began - self.since, **memory()})
        if step >= WARM and (step - WARM) % TURN == 0:
            self._stop()
        self.since = time.perf_counter()

    def log(self, step: int, logs: Mapping[str, float]) -> None:
        """Note the loss of a step."""
        if "loss" in logs:
            self._tell({"logged": step, "loss": logs["loss"], "grad_norm": logs.get("grad_norm")})

    def _stop(self) -> None:
        """Wait for the next turn; end when nobody is left to give it."""
        if not self.turns:
            return
        waiting, go = self.folder / "waiting", self.folder / "go"
        waiting.touch()
        while not go.exists():
            if os.getppid() != self.parent:
                os._exit(1)
            time.sleep(PAUSE)
        waiting.unlink()
        go.unlink()

    def _tell(self, event: Mapping[str, Any]) -> None:
        with (self.folder / EVENTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


def callback(clock: Clock) -> Any:
    """Return the clock as a callback of transformers' trainer."""
    from transformers import TrainerCallback

    class Told(TrainerCallback):
        """Passes on what the trainer tells."""

        def on_train_begin(self, *_: Any, model: Any, **__: Any) -> None:
            """Begin."""
            clock.begin(model)

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            """Begin a step."""
            clock.step_begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            """End a step."""
            clock.step_end(state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:  # noqa: ARG002
            """Note the loss."""
            clock.log(state.global_step, logs)

    return Told()


def memory() -> dict[str, int]:
    """Return bytes of the GPU that tensors take now, and the most since `reset`; nothing on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return {}
    peak = {"peak": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    return {"held": torch.cuda.memory_allocated(), **peak}


def reset() -> None:
    """Count peaks from here on."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def finish() -> None:
    """Wait for the GPU, where there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass
class Contender:
    """A training in a process of its own; its folder holds what it wrote."""

    name: str
    folder: Path
    command: Sequence[str]
    leads: bool = True
    """Whether it compiles what others will find compiled; those that do not lead may warm up beside it."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    why: str = ""
    """Why it was stopped."""
    enough: bool = False
    """Whether it was stopped because all is known."""

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the process; what it says goes to `log.txt`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.txt").open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def stopped(self) -> bool:
        """Whether it waits for its turn."""
        return self.alive and (self.folder / "waiting").exists() and not (self.folder / "go").exists()

    def go(self) -> None:
        """Let it compute until it stops again."""
        (self.folder / "go").touch()

    def kill(self, why: str = "") -> None:
        """End the process and all that it started; without `why`, nothing was wrong with it."""
        if self.process is None or not self.alive:
            return
        self.why, self.enough = why, not why
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def events(self) -> list[dict[str, Any]]:
        """Return what its clock has told."""
        path = self.folder / EVENTS
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def error(self) -> str:
        """Return why it did not end well, with the last it said; empty when it did, or runs."""
        if self.process is None:
            return "not started"
        code = self.process.poll()
        if (code in (None, 0) or self.enough) and not self.why:
            return ""
        told = (self.folder / "log.txt").read_text("utf-8", "replace").strip().splitlines()
        return "\n".join([*told[-12:], self.why or f"ended with code {code}"])


def race(  # noqa: PLR0913
    contenders: Sequence[Contender],
    environment: Mapping[str, str],
    deadline: float,
    warm: float,
    on_turn: Callable[[int], None],
    *,
    steps: int,
) -> None:
    """Start all, let the first compile, warm the others, and give turns until all are done; times are of `time.monotonic`.

    A contender that is not warm by `warm` is ended, so that it does not disturb; all are ended at `deadline`. `on_turn` is
    told when every contender has had a turn.
    """
    for one in contenders:
        one.start(environment)
    leader = next((one for one in contenders if one.leads), contenders[0])
    _warm(contenders, leader, warm)
    for one in contenders:
        if not one.stopped:
            one.kill("it was not warm in time")
    say("warm: " + ", ".join(one.name for one in contenders if one.alive))
    for turn in range((steps - WARM) // TURN):
        for one in contenders:
            if one.stopped and time.monotonic() < deadline:
                one.go()
                _until(deadline, lambda one=one: one.stopped or not one.alive)
        on_turn(turn + 1)
    _end(contenders, deadline, steps)


def _warm(contenders: Sequence[Contender], leader: Contender, until: float) -> None:
    """Let every contender do its warm steps: the leader as soon as it is loaded, who leads as well after it."""
    begun: set[str] = set()
    while time.monotonic() < until and any(one.alive and not _is_warm(one, begun) for one in contenders):
        for one in contenders:
            free = one is leader or not one.leads or _is_warm(leader, begun) or not leader.alive
            if one.name not in begun and one.stopped and free:
                say(f"{one.name} is loaded")
                begun.add(one.name)
                one.go()
        time.sleep(PAUSE)


def _is_warm(one: Contender, begun: Iterable[str]) -> bool:
    return one.name in begun and one.stopped


def _end(contenders: Sequence[Contender], deadline: float, steps: int) -> None:
    """Let those that have done all steps save what they trained and end, side by side; end the others.

    Nothing was wrong with one that has done all of them and is still busy at the deadline.
    """
    for one in contenders:
        if one.stopped:
            one.go()
    _until(deadline, lambda: not any(one.alive for one in contenders))
    for one in contenders:
        one.kill("" if any(event.get("step") == steps for event in one.events()) else "the time was over")


def _until(deadline: float, done: Callable[[], bool]) -> None:
    while time.monotonic() < deadline and not done():
        time.sleep(PAUSE)


def last_line(text: str) -> str:
    """Return the last line of a text, not too long."""
    return text.splitlines()[-1][:200] if text else ""


_START = time.monotonic()


def say(text: str) -> None:
    """Tell on standard error, with the seconds since the start."""
    print(f"{time.monotonic() - _START:6.1f} s  {text}", file=sys.stderr, flush=True)
