"""What every trainer of TRL's gets here: our order of rows, checkpoints that are whole or not there, nothing for show.

Left out: counting of floating point operations, and the model card that is rendered at every checkpoint. Put right:
resuming a training of all weights, and random numbers that depended on the number of loader processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmrecipes.train.checkpoints import forget
from vlmrecipes.train.fleet import aside_together, first


class Steady:
    """Stands before a trainer of TRL's; its constructor takes `order`, a sampler, besides what that one takes."""

    args: Any
    model: Any
    state: Any

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

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ARG002, D102
        return 0

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:  # noqa: D102
        pass

    def _get_output_dir(self, trial: Any) -> str:
        return self._aside or str(super()._get_output_dir(trial))  # type: ignore[misc] # known once trl is loaded

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir)
        with aside_together(folder / f"checkpoint-{self.state.global_step}") as temporary:
            self._aside = str(temporary.parent)
            try:
                super()._save_checkpoint(model, trial)  # type: ignore[misc] # known once trl is loaded
            finally:
                self._aside = ""
        if first():
            forget(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if hasattr(self.model, "peft_config"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc] # known once trl is loaded
        else:
            _load_whole(model or self.model, resume_from_checkpoint)

    def weights(self) -> dict[str, Any] | None:
        """Return the weights to save, or None: those of the model as it is."""
        return None

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
