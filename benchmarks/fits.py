"""What a plan says that a training takes of the GPU's memory, beside what it takes: part `memory` of `training.py`."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import made
import trained
from turns import Contender, last_line, say

from vlmrecipes.models import memory

if TYPE_CHECKING:
    from training import Results

    from vlmrecipes.plan import Plan
    from vlmrecipes.recipe import Recipe

IMAGES = ("small", "large")
STEPS = 3
BASE = 2 * 2**30
"""Bytes of a process beside what it holds in tensors, with room for what is estimated too low."""
CARD = 0.92
"""Share of the card that trainings side by side may take."""


@dataclass(frozen=True, slots=True)
class Case:
    """A training whose memory is measured; without `lora`, all weights are trained."""

    shape: str
    bits: str
    images: str
    lora: bool = True
    backend: str = "trl"
    checkpointing: bool = True

    @property
    def name(self) -> str:
        """Its name in results."""
        words = [self.shape, self.bits if self.lora else f"{self.bits}-whole", self.images, self.backend]
        return " ".join([*words, *([] if self.checkpointing else ["keep"])])


def cases(shapes: Sequence[str], only: Sequence[str], *, tiny: bool) -> list[Case]:
    """Return the cases, the most wanted first; with `only`, those whose names hold one of these texts."""
    every = list(_tiny() if tiny else _cases(shapes))
    return [case for case in every if not only or any(text in case.name for text in only)]


def _tiny() -> Iterator[Case]:
    yield from (Case("tiny", bits, images) for bits in ("16bit", "full") for images in IMAGES)
    yield Case("tiny", "full", "small", lora=False, checkpointing=False)


def _cases(shapes: Sequence[str]) -> Iterator[Case]:
    yield from (
        Case(shape, bits, images) for shape in shapes for bits in ("full", "16bit", "4bit") for images in IMAGES
    )
    yield from (Case(shape, "full", "large", lora=False) for shape in ("2b", "12m"))
    yield from (Case(shape, "16bit", images, checkpointing=False) for shape in ("2b", "12m") for images in IMAGES)
    yield from (Case(shape, "16bit", "large", lora=False) for shape in ("2b", "12m"))
    yield from (Case("2b", bits, "large", backend="unsloth") for bits in ("16bit", "4bit"))
    yield Case("7b", "16bit", "large", checkpointing=False)


def measure(  # noqa: PLR0913
    wanted: Sequence[Case],
    work: Path,
    environment: Callable[[Path], Mapping[str, str]],
    deadline: float,
    *,
    processes: int,
    results: Results,
) -> list[dict[str, Any]]:
    """Train every case in a process of its own, several side by side where the card has room, and return the figures."""
    home = _home(work)
    plans = {
        key: trained.planned(made.folder_of(work, key[0]), work / "store", key[1])
        for key in dict.fromkeys((case.shape, case.images) for case in wanted)
    }
    say("planned")
    there = memory.available() * CARD
    queue = [_Running(case, plans[case.shape, case.images], home) for case in wanted]
    running: list[_Running] = []
    told = []
    while (queue or running) and time.monotonic() < deadline:
        for one in list(queue):
            if len(running) < processes and sum(other.room for other in running) + one.room <= max(there, one.room):
                queue.remove(one)
                running.append(one)
                one.contender.start(environment(one.contender.folder))
        for one in running:
            if not one.case.lora and one.measured():
                one.contender.kill()  # saving all weights takes longer than all else
        for one in [one for one in running if not one.contender.alive]:
            running.remove(one)
            told.append(_tell(one, results))
        time.sleep(0.05)
    for one in [*running, *queue]:
        one.contender.kill("the time was over")
        told.append(_tell(one, results))
    return told


def _home(work: Path) -> Path:
    """Return an empty folder for the runs."""
    home = work / "memory"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    return home


class _Running:
    """A case with its plan and its process."""

    def __init__(self, case: Case, plan: Plan, home: Path) -> None:
        self.case = case
        self.plan = plan
        self.recipe = self._recipe()
        self.parts = memory.parts(
            plan.model, self.recipe.model, self.recipe.lora, self.recipe.train, plan.tokens["max"]
        )
        folder = trained.ready(plan, self.recipe, home / case.name.replace(" ", "-"))
        command = [sys.executable, str(trained.HERE / "clocked.py"), str(folder)]
        self.contender = Contender(case.name, folder, command)
        self.room = 1.5 * sum(self.parts.values()) + BASE

    def measured(self) -> bool:
        """Tell whether all steps are done."""
        return any(event.get("step") == STEPS for event in self.contender.events())

    def _recipe(self) -> Recipe:
        case = self.case
        cpu = {"optimizer": "adamw_torch"} if case.shape == "tiny" or not case.lora else {}
        settings = {"backend": case.backend, "steps": STEPS, "gradient_accumulation": 1}
        settings |= {"gradient_checkpointing": case.checkpointing, **cpu}
        return trained.recipe(Path(self.plan.model.path), case.images, bits=case.bits, lora=case.lora, **settings)


def _tell(one: _Running, results: Results) -> dict[str, Any]:
    """Return the figures of a case that has ended, written down."""
    figures = figures_of(one)
    results.add(figures)
    results.keep_log(one.contender)
    say(f"{one.case.name}: estimate / measured {figures.get('ratio')} {last_line(figures['error'])}")
    return figures


def figures_of(one: _Running) -> dict[str, Any]:
    """Return bytes as estimated and measured, with their parts.

    Of what was measured, `weights` are held when the first step begins, adapters included (without adapters: all that is
    trained); `trained` is what is held more between steps (moments; gradients are let go of), and `batch` what the peak adds
    to that. `ratio` is the estimate over the peak of what was allocated.
    """
    case, events = one.case, one.contender.events()
    estimate = sum(one.parts.values())
    told = {
        "case": case.name,
        "error": one.contender.error(),
        "longest": one.plan.tokens["max"],
        "rows": one.recipe.train.batch_size,
        "estimate": estimate,
        "estimate_parts": one.parts,
    }
    steps = [event for event in events if "peak" in event and "step" in event]
    if not steps:
        return told | {"steps": sum("step" in event for event in events)}
    begin = next(event for event in events if event.get("at") == "begin")
    last = steps[-1]
    return told | {
        "steps": len(steps),
        "measured": last["peak"],
        "reserved": last["reserved"],
        "trained_weights": begin["trained"],
        "ratio": round(estimate / last["peak"], 3),
        "measured_parts": {
            "weights": begin["held"],
            "trained": last["held"] - begin["held"],
            "batch": last["peak"] - last["held"],
        },
        "seconds": [round(step["seconds"], 2) for step in steps],
    }


def sizes(plan: Plan) -> dict[str, int]:
    """Return the numbers of weights of the plan's model: `total`, of the `vision` tower, and of the `table` of tokens."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(plan.model.path))
    weights = {name: weight.numel() for name, weight in model.named_parameters()}
    return {
        "total": sum(weights.values()),
        "vision": sum(count for name, count in weights.items() if "visual" in name),
        "table": sum(count for name, count in weights.items() if "embed_tokens" in name),
    }
