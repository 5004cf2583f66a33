"""Supervised training by TRL's SFTTrainer, without what costs time at every step and is not used here.

Left out are token accuracy, entropy and token counts: three waits for the GPU a step. The loss and its gradients are
TRL's own.
"""

from __future__ import annotations

import sys
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.order import Order
from vlmrecipes.errors import RunError
from vlmrecipes.models import memory
from vlmrecipes.models.chat import ALL_OR_NONE
from vlmrecipes.recipe import Train
from vlmrecipes.train.arguments import one_device, pixel_dtype, rows_at_once, shared
from vlmrecipes.train.collate import IGNORE, Collator
from vlmrecipes.train.fleet import own
from vlmrecipes.train.micro import MicroCollator
from vlmrecipes.train.pixels import BYTES, VALUES, numbers
from vlmrecipes.train.rows import dataset
from vlmrecipes.train.sharding import Sharded
from vlmrecipes.train.trainer import Steady

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vlmrecipes.models.turns import Row
    from vlmrecipes.train.task import Task

ALL_USED = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl"})
"""Families in which a row with a picture uses every weight; others skip the last layers of their vision tower, or experts."""


def trainer(task: Task, model: Any, **more: Any) -> Any:
    """Return the trainer of `task`; `more` goes to SFTTrainer."""
    settings = task.settings
    args = arguments(model, settings, task.steps, task.run / "checkpoints", own_loss=task.own_loss)
    if settings.devices > 1:
        args.ddp_find_unused_parameters = _some_idle(model, task.rows)
    return trainer_class(sharded=settings.sharded)(
        model=model,
        args=args,
        data_collator=_collator(task, model),
        train_dataset=dataset(task.rows, task.lengths, task.readers, own(task.run) / "rows.arrow"),
        processing_class=task.processor,
        order=Order(
            task.lengths,
            rows_at_once(settings) * settings.devices,
            settings.seed,
            by_length=settings.group_by_length,
            devices=settings.devices,
        ),
        **more,
    )


def _some_idle(model: Any, rows: Sequence[Row]) -> bool:
    """Tell whether a batch may leave a weight without gradient, which several devices then look for at every step."""
    return model.config.model_type not in ALL_USED or any(not row.images for row in rows)


def _collator(task: Task, model: Any) -> Collator | MicroCollator:
    """Return what makes a loader's batch: one batch of tensors, or several where rows cannot be computed together."""
    settings = task.settings
    collator = Collator(task.processor, settings.responses_only, pixel_dtype(model, settings), as_bytes=True)
    apart = ALL_OR_NONE in task.processor.model_input_names
    if settings.batch_size == "auto":
        budget = settings.batch_tokens or memory.training_tokens(model, settings)
        return MicroCollator(collator, budget, apart)
    return MicroCollator(collator, sys.maxsize, apart) if apart else collator


def arguments(model: Any, settings: Train, steps: int, checkpoints: Path, *, own_loss: bool = False) -> Any:
    """Return TRL's SFTConfig on the device where the model is."""
    from trl import SFTConfig

    vocabulary = model.config.get_text_config().vocab_size
    return one_device(
        SFTConfig(
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            loss_type="chunked_nll" if vocabulary >= memory.LARGE_VOCABULARY and not own_loss else "nll",
            **shared(model, settings, steps, checkpoints),
        )
    )


@cache
def trainer_class(*, sharded: bool = False) -> Any:
    """Return the class; its constructor takes `order`, a sampler, besides what SFTTrainer takes."""
    from trl import SFTTrainer

    bases = (Sharded, _Lean) if sharded else (_Lean,)
    return type("LeanTrainer", (*bases, SFTTrainer), {})


class _Lean(Steady):
    """Computes the loss and nothing else: of a step's learned tokens the mean, however the step is cut into batches."""

    aux_loss_enabled: bool
    accelerator: Any
    processing_class: Any
    model_accepts_loss_kwargs: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._weighs = not self.model_accepts_loss_kwargs
        self.model_accepts_loss_kwargs = True  # so that learned tokens are counted for every model
        self.computing = "before the first batch"

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """Return the step's batches and how many tokens are learned in all of them.

        Unsloth puts its own count in the place of transformers', and marks there which sizes vary, for its compiler. It looks
        for labels in a batch, not in its micro-batches, and leaves some families uncounted.
        """
        batches = list(islice(epoch_iterator, num_batches))
        micros = [micro for batch in batches for micro in batch.get("micros", [batch])]
        _, learned = super().get_batch_samples(  # type: ignore[misc] # known once trl is loaded
            iter(micros), len(micros), device
        )
        if learned is None:
            learned = self._get_num_items_in_batch(micros, device)  # type: ignore[attr-defined] # as above
        return batches, learned

    def _prepare_inputs(self, inputs: Any) -> Any:
        there = super()._prepare_inputs(inputs)  # type: ignore[misc] # as above
        if (encoded := there.pop(BYTES, None)) is not None:
            import torch

            dtype = torch.bfloat16 if self.args.bf16 else torch.float32
            there[VALUES] = numbers(self.processing_class, encoded, dtype)
        return there

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Compute gradients of a batch, or of its micro-batches one after the other, and return the loss."""
        step = super().training_step  # type: ignore[misc] # as above
        if "micros" not in inputs:
            return step(model, inputs, num_items_in_batch)
        if num_items_in_batch is None:
            raise RunError("the learned tokens of a step were not counted, so its micro-batches cannot be weighed")
        *first, last = inputs["micros"]
        with self.accelerator.no_sync(model):
            losses = [step(model, micro, num_items_in_batch) for micro in first]
        return sum([*losses, step(model, last, num_items_in_batch)])

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        from transformers import Trainer

        rows, width = inputs["input_ids"].shape
        self.rows_seen += rows
        self.computing = f"at a batch of {rows} rows of up to {width} tokens"
        inputs["use_cache"] = False
        if self.aux_loss_enabled:
            inputs["output_router_logits"] = True
        if num_items_in_batch is None or not self._weighs:
            return Trainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch)
        share = inputs["labels"][:, 1:].ne(IGNORE).sum() * self.accelerator.num_processes / num_items_in_batch
        return Trainer.compute_loss(self, model, inputs) * share
