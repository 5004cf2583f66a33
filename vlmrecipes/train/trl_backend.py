"""Plain TRL and peft: the backend that runs everywhere, CPU included."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.errors import RunError
from vlmrecipes.models import memory
from vlmrecipes.models.catalog import ModelRef
from vlmrecipes.models.parts import Targets, compressed
from vlmrecipes.models.turns import Row
from vlmrecipes.recipe import Lora, Recipe, Train
from vlmrecipes.rewarding import Grpo
from vlmrecipes.train import board, fleet, sft
from vlmrecipes.train import grpo as rl
from vlmrecipes.train import lora as adapters
from vlmrecipes.train.backend import TrainResult
from vlmrecipes.train.callbacks import MetricsLog, callbacks
from vlmrecipes.train.checkpoints import aside, newest
from vlmrecipes.train.rows import Reader
from vlmrecipes.train.task import Task
from vlmrecipes.train.watch import Best, Watch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Attach = Callable[[Any, Lora, Targets], Any]


def begin(run: Path) -> None:  # noqa: ARG001 - nothing is compiled
    """Take the device of this process; see `Backend`."""
    fleet.begin()


def load(ref: ModelRef, recipe: Recipe) -> Any:
    """Return the model of the recipe as plain transformers loads it; see `Backend`. One to be sharded stays on the CPU."""
    from vlmrecipes.models.load import device, load_model

    return load_model(
        ref,
        init=recipe.model.init,
        load_in=recipe.model.load_in,
        device=device(),
        seed=recipe.train.seed,
        trust_remote_code=recipe.model.trust_remote_code,
        stay=recipe.train.sharded,
    )


def train(  # noqa: PLR0913
    *,
    model: Any,
    processor: Any,
    rows: Sequence[Row],
    lengths: NDArray[np.int32],
    readers: Sequence[Reader],
    settings: Train,
    lora: Lora | None,
    steps: int,
    run: Path,
    grpo: Grpo | None = None,
    resume: bool = False,
    base: str = "",
    watch: Watch | None = None,
    attach: Attach | None = None,
) -> TrainResult:
    """Train with TRL's trainer of the method; see `Backend`. Leaves `run/adapter`, or `run/model` when `lora` is None.

    `attach` puts the adapters on the model and brings its own loss; without it, peft does that and TRL's loss is taken.
    """
    from transformers import set_seed

    set_seed(settings.seed)
    memory.forget_peak()
    start = newest(run / "checkpoints") if resume else None
    mine = fleet.own(run)
    log = MetricsLog(mine / "metrics.jsonl", board.writer(settings, mine, start[1] if start else 0))
    log.rewind(start[1] if start else 0)
    best = Best(mine / "best")
    if start is None:
        best.forget()
    targets = None if lora is None else adapters.targets(model, lora)
    by_peft = adapters.config(lora, targets) if lora and targets and not attach else None
    if lora and targets and attach:
        model = attach(model, lora, targets)
    if by_peft:
        model.requires_grad_(False)  # as peft will, so that what is trained is known before
    task = Task(
        processor=processor,
        rows=rows,
        lengths=lengths,
        readers=readers,
        settings=settings,
        grpo=grpo,
        steps=steps,
        run=run,
        own_loss=attach is not None,
    )
    judge = rl.judge(task)
    with fleet.track_first("train", steps) as advance:
        advance(start[1] if start else 0)
        watched = callbacks(log, advance, watch if fleet.first() else None, best, judge)
        watched += board.callbacks(log.board)
        trainer = (rl if grpo else sft).trainer(task, model, peft_config=by_peft, callbacks=watched)
        seconds = _fit(trainer, start, settings, steps)
    if selected := best.note():
        trainer.load_weights(best.folder)
    return TrainResult(
        steps=max(trainer.state.global_step, start[1] if start else 0),
        selected=selected,
        seconds=seconds,
        lora_modules=() if targets is None else compressed((*targets.adapted, *targets.whole)),
        peak_memory_bytes=memory.peak(),
        path=_save(trainer, processor, mine, base, lora is not None),
        **_counts(trainer, log),
        **rl.told(task, log.entries()),
    )


def _fit(trainer: Any, start: tuple[Path, int] | None, settings: Train, steps: int) -> float:
    """Train on from `start` and return the seconds; where it already stands at the last step, its weights are loaded.

    Raises RunError when the memory of the GPU runs out.
    """
    import torch
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # standard output belongs to the verb's own answer
    began = time.monotonic()
    try:
        if start and start[1] >= steps:
            trainer.load_weights(start[0])
        else:
            trainer.train(resume_from_checkpoint=str(start[0]) if start else None)
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"out of GPU memory at step {trainer.state.global_step + 1}, {trainer.computing}: {_less_memory(settings)}, "
            "or set train.gradient_checkpointing = true"
        ) from error
    return time.monotonic() - began


def _less_memory(settings: Train) -> str:
    if settings.batch_size == "auto":
        return "lower train.batch_tokens"
    return f"lower train.batch_size = {settings.batch_size} and raise train.gradient_accumulation"


def _counts(trainer: Any, log: MetricsLog) -> dict[str, Any]:
    """Return the fields of TrainResult that trainer and log hold."""
    import torch

    losses = [entry["loss"] for entry in log.entries() if "loss" in entry]
    weights = [(weight.numel(), weight.requires_grad) for weight in trainer.model.parameters()]
    return {
        "samples_seen": int(trainer.accelerator.reduce(torch.tensor(trainer.rows_seen, device=trainer.args.device))),
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "trainable": sum(count for count, trained in weights if trained),
        "total": sum(count for count, _ in weights),
    }


def _save(trainer: Any, processor: Any, run: Path, base: str, adapter: bool) -> Path:
    """Write what was trained, with the processor, and return its folder; of several processes, the first writes."""
    path = run / ("adapter" if adapter else "model")
    state = trainer.weights()
    if not fleet.first():
        return path
    if adapter and base:
        trainer.model.peft_config["default"].base_model_name_or_path = base
    # peft would otherwise look the base model up, on the network too, to see whether words were added to it
    options = {"save_embedding_layers": False, "selected_adapters": ["default"]} if adapter else {}
    with aside(path) as temporary:
        trainer.model.save_pretrained(temporary, state_dict=state, **options)
        processor.save_pretrained(temporary)
        (temporary / "README.md").unlink(missing_ok=True)  # peft's empty form
    return path
