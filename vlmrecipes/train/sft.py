"""Supervised training by TRL's SFTTrainer, without what costs time at every step and is not used here.

Left out are token accuracy, entropy and token counts: three waits for the GPU a step. The loss and its gradients are
TRL's own.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.order import Order
from vlmrecipes.recipe import Train
from vlmrecipes.train.arguments import pixels, shared
from vlmrecipes.train.collate import Collator
from vlmrecipes.train.rows import dataset
from vlmrecipes.train.trainer import Steady

if TYPE_CHECKING:
    from vlmrecipes.train.task import Task

LARGE_VOCABULARY = 16_384
"""From here on logits are made for the learned tokens only, in pieces; below, all at once is faster."""


def trainer(task: Task, model: Any, **more: Any) -> Any:
    """Return the trainer of `task`; `more` goes to SFTTrainer."""
    settings = task.settings
    return trainer_class()(
        model=model,
        args=arguments(model, settings, task.steps, task.run / "checkpoints", own_loss=task.own_loss),
        data_collator=Collator(task.processor, settings.responses_only, pixels(model)),
        train_dataset=dataset(task.rows, task.readers, task.run / "rows.arrow"),
        processing_class=task.processor,
        order=Order(task.lengths, settings.batch_size, settings.seed, by_length=settings.group_by_length),
        **more,
    )


def arguments(model: Any, settings: Train, steps: int, checkpoints: Path, *, own_loss: bool = False) -> Any:
    """Return TRL's SFTConfig on the device where the model is."""
    from trl import SFTConfig

    vocabulary = model.config.get_text_config().vocab_size
    return SFTConfig(
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        loss_type="chunked_nll" if vocabulary >= LARGE_VOCABULARY and not own_loss else "nll",
        **shared(model, settings, steps, checkpoints),
    )


@cache
def trainer_class() -> Any:
    """Return the class; its constructor takes `order`, a sampler, besides what SFTTrainer takes."""
    from trl import SFTTrainer

    return type("LeanTrainer", (_Lean, SFTTrainer), {})


class _Lean(Steady):
    """Computes the loss and nothing else."""

    aux_loss_enabled: bool

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        from transformers import Trainer

        self.rows_seen += len(inputs["input_ids"])
        inputs["use_cache"] = False
        if self.aux_loss_enabled:
            inputs["output_router_logits"] = True
        return Trainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch)
