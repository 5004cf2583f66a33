"""Plain TRL and peft: the backend that runs everywhere, CPU included."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.order import Order
from vlmrecipes.errors import RunError
from vlmrecipes.models.catalog import ModelRef
from vlmrecipes.models.parts import Targets, compressed
from vlmrecipes.models.turns import Row
from vlmrecipes.progress import track
from vlmrecipes.recipe import Lora, Recipe, Train
from vlmrecipes.train import lora as adapters
from vlmrecipes.train.backend import TrainResult
from vlmrecipes.train.callbacks import MetricsLog, callbacks
from vlmrecipes.train.checkpoints import aside, newest
from vlmrecipes.train.collate import Collator, share_by_name
from vlmrecipes.train.rows import Reader, dataset
from vlmrecipes.train.trainer import trainer_class
from vlmrecipes.train.watch import Best, Watch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Attach = Callable[[Any, Lora, Targets], Any]
PREFETCH = 4
"""Batches that every loader process prepares ahead."""
LARGE_VOCABULARY = 16_384
"""From here on logits are made for the learned tokens only, in pieces; below, all at once is faster."""
AMPERE = 8
"""First major version of CUDA's compute capability that has bfloat16 and TF32."""


def begin(run: Path) -> None:
    """Nothing to make ready; see `Backend`."""


def load(ref: ModelRef, recipe: Recipe) -> Any:
    """Return the model of the recipe as plain transformers loads it; see `Backend`."""
    from vlmrecipes.models.load import device, load_model

    return load_model(
        ref,
        init=recipe.model.init,
        load_in=recipe.model.load_in,
        device=device(),
        seed=recipe.train.seed,
        trust_remote_code=recipe.model.trust_remote_code,
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
    resume: bool = False,
    base: str = "",
    watch: Watch | None = None,
    attach: Attach | None = None,
) -> TrainResult:
    """Train with TRL's SFTTrainer; see `Backend`. Leaves `run/adapter`, or `run/model` when `lora` is None.

    `attach` puts the adapters on the model and brings its own loss; without it, peft does that and TRL's loss is taken.
    """
    from transformers import set_seed

    set_seed(settings.seed)
    start = newest(run / "checkpoints") if resume else None
    log = MetricsLog(run / "metrics.jsonl")
    log.rewind(start[1] if start else 0)
    best = Best(run / "best")
    if start is None:
        best.forget()
    targets = None if lora is None else adapters.targets(model, lora)
    by_peft = adapters.config(lora, targets) if lora and targets and not attach else None
    if lora and targets and attach:
        model = attach(model, lora, targets)
    with track("train", steps) as advance:
        advance(start[1] if start else 0)
        trainer = trainer_class()(
            model=model,
            args=arguments(model, settings, steps, run / "checkpoints", own_loss=attach is not None),
            data_collator=Collator(processor, settings.responses_only, _pixels(model)),
            train_dataset=dataset(rows, readers, run / "rows.arrow"),
            processing_class=processor,
            peft_config=by_peft,
            callbacks=callbacks(log, advance, watch, best),
            order=Order(lengths, settings.batch_size, settings.seed, by_length=settings.group_by_length),
        )
        seconds = _fit(trainer, start, settings, steps)
    if selected := best.note():
        trainer.load_weights(best.folder)
    return TrainResult(
        steps=steps,
        selected=selected,
        seconds=seconds,
        lora_modules=() if targets is None else compressed((*targets.adapted, *targets.whole)),
        path=_save(trainer, processor, run, base, lora is not None),
        **_counts(trainer, log),
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
            f"out of GPU memory with train.batch_size = {settings.batch_size}: lower it and raise "
            "train.gradient_accumulation, or set train.gradient_checkpointing = true"
        ) from error
    return time.monotonic() - began


def _counts(trainer: Any, log: MetricsLog) -> dict[str, Any]:
    """Return the fields of TrainResult that trainer and log hold."""
    losses = [entry["loss"] for entry in log.entries() if "loss" in entry]
    weights = [(weight.numel(), weight.requires_grad) for weight in trainer.model.parameters()]
    return {
        "samples_seen": trainer.rows_seen,
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "trainable": sum(count for count, trained in weights if trained),
        "total": sum(count for count, _ in weights),
    }


def arguments(model: Any, settings: Train, steps: int, checkpoints: Path, *, own_loss: bool = False) -> Any:
    """Return TRL's SFTConfig for these settings on the device where the model is."""
    from trl import SFTConfig

    vocabulary = model.config.get_text_config().vocab_size
    return SFTConfig(
        output_dir=str(checkpoints),
        max_steps=steps,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        loss_type="chunked_nll" if vocabulary >= LARGE_VOCABULARY and not own_loss else "nll",
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        data_seed=settings.seed,
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=settings.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=None,
        report_to="none",
        disable_tqdm=True,
        **_optimizer(settings, _on_gpu(model)),
        **_precision(model),
        **_loader(settings.workers, on_gpu=_on_gpu(model)),
    )


def _optimizer(settings: Train, on_gpu: bool) -> dict[str, Any]:
    fused = on_gpu and settings.optimizer == "adamw_torch"
    least = {"min_lr_rate": 0.1} if settings.scheduler == "cosine_with_min_lr" else {}
    return {
        "optim": "adamw_torch_fused" if fused else settings.optimizer,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "lr_scheduler_type": settings.scheduler,
        "lr_scheduler_kwargs": least,
        "warmup_steps": settings.warmup_steps,
    }


def _precision(model: Any) -> dict[str, Any]:
    """Return how numbers are computed: mixed with 16 bits on a GPU, 32 bits elsewhere."""
    import torch

    if not _on_gpu(model):
        return {"use_cpu": True, "bf16": False, "fp16": False}
    modern = torch.cuda.get_device_capability(model.device)[0] >= AMPERE
    return {"bf16": modern, "fp16": not modern, "tf32": modern}


def _loader(workers: int, *, on_gpu: bool) -> dict[str, Any]:
    """Return the settings of the data loader. Processes are spawned: the store must not be used across a fork."""
    pinned = {"dataloader_pin_memory": on_gpu, "accelerator_config": {"non_blocking": on_gpu}}
    if workers == 0:
        return {"dataloader_num_workers": 0, **pinned}
    share_by_name()
    return {
        "dataloader_num_workers": workers,
        "dataloader_multiprocessing_context": "spawn",
        "dataloader_persistent_workers": True,
        "dataloader_prefetch_factor": PREFETCH,
        **pinned,
    }


def _on_gpu(model: Any) -> bool:
    return bool(model.device.type == "cuda")


def _pixels(model: Any) -> str:
    """Return the type that pixels travel in: half the bytes where the model computes in 16 bits anyway."""
    return "bfloat16" if _precision(model)["bf16"] else ""


def _save(trainer: Any, processor: Any, run: Path, base: str, adapter: bool) -> Path:
    """Write what was trained, with the processor, and return its folder."""
    path = run / ("adapter" if adapter else "model")
    if adapter and base:
        trainer.model.peft_config["default"].base_model_name_or_path = base
    # peft would otherwise look the base model up, on the network too, to see whether words were added to it
    options = {"save_embedding_layers": False} if adapter else {}
    with aside(path) as temporary:
        trainer.model.save_pretrained(temporary, **options)
        processor.save_pretrained(temporary)
        (temporary / "README.md").unlink(missing_ok=True)  # peft's empty form
    return path
