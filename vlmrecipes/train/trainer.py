"""TRL's SFTTrainer without what costs time at every step and is not used here.

Left out: token accuracy, entropy and token counts (three waits for the GPU a step), counting of floating point operations,
and the model card that is rendered at every checkpoint. The loss and its gradients are TRL's own. Put right: resuming a
training of all weights, and random numbers that depended on the number of loader processes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from vlmrecipes.train.checkpoints import aside, forget


@cache
def trainer_class() -> Any:
    """Return the class; its constructor takes `order`, a sampler, besides what SFTTrainer takes."""
    from trl import SFTTrainer

    return type("LeanTrainer", (_Lean, SFTTrainer), {})


class _Lean:
    """Stands before SFTTrainer: shows rows in our order, computes the loss and nothing else."""

    args: Any
    model: Any
    state: Any
    aux_loss_enabled: bool

    def __init__(self, *args: Any, order: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order = order
        self.rows_seen = 0
        self._aside = ""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:  # noqa: ARG002
        return self.order

    def _get_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        loader = super()._get_dataloader(*args, **kwargs)  # type: ignore[misc] # known once trl is loaded
        _own_random_numbers(loader, self.args.seed)
        return loader

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        from transformers import Trainer

        self.rows_seen += len(inputs["input_ids"])
        inputs["use_cache"] = False
        if self.aux_loss_enabled:
            inputs["output_router_logits"] = True
        return Trainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch)

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ARG002
        return 0

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _get_output_dir(self, trial: Any) -> str:
        return self._aside or str(super()._get_output_dir(trial))  # type: ignore[misc] # known once trl is loaded

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir)
        with aside(folder / f"checkpoint-{self.state.global_step}") as temporary:
            self._aside = str(temporary.parent)
            try:
                super()._save_checkpoint(model, trial)  # type: ignore[misc] # known once trl is loaded
            finally:
                self._aside = ""
        forget(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if hasattr(self.model, "peft_config"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc] # known once trl is loaded
        else:
            _load_whole(model or self.model, resume_from_checkpoint)

    def load_weights(self, checkpoint: Path) -> None:
        """Take the weights of a checkpoint, where nothing is left to train."""
        self._load_from_checkpoint(str(checkpoint))


def _own_random_numbers(loader: Any, seed: int) -> None:
    """Keep the loader from drawing on the numbers that dropout uses: with processes it draws less often than without."""
    import torch

    for one in (loader, getattr(loader, "base_dataloader", loader)):
        one.generator = torch.Generator().manual_seed(seed)


def _load_whole(model: Any, checkpoint: str) -> None:
    """Load all weights of a checkpoint, each of which must be there.

    transformers saves some under other names than the modules have, and its trainer passes over names that it does not know.
    """
    saved = type(model).from_pretrained(checkpoint, dtype=model.dtype, use_safetensors=True)
    model.load_state_dict(saved.state_dict(), strict=True)
