"""What a training backend is given and gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from vlmrecipes.models.catalog import ModelRef
from vlmrecipes.models.turns import Row
from vlmrecipes.recipe import Lora, Recipe, Train
from vlmrecipes.rewarding import Grpo
from vlmrecipes.train.rows import Reader
from vlmrecipes.train.watch import Watch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a finished training says about itself."""

    steps: int
    """Optimizer steps, those before an interruption included."""
    seconds: float
    """Time in the training loop of this process, checkpoints included."""
    selected: dict[str, Any] | None
    """`step, metric, value` of the step whose weights these are; None for the last."""
    samples_seen: int
    """Rows shown in this process."""
    loss_first: float
    """Mean loss of the first logged steps of this process."""
    loss_last: float
    trainable: int
    """Weights that were trained."""
    total: int
    """Weights of the model, adapters included; of 4-bit weights two are stored, and counted, as one."""
    lora_modules: tuple[str, ...]
    """Names of the adapted modules, layer numbers written as `*`; empty when all weights were trained."""
    path: Path
    """The folder of the adapter or of the whole model."""
    peak_memory_bytes: dict[str, int] | None
    """Most memory of the GPU that this process has `allocated` for tensors, and `reserved`, weights included; None on a CPU."""
    rewards: dict[str, Any] | None = None
    """With grpo and gspo: `terms` (name, weight, spec), `first` and `last` mean reward, `curve` (a list for each figure)."""
    collapse: dict[str, Any] | None = None
    """`reason, since, reward, rose, message` of a training by rewards that had nothing more to learn from: it was stopped."""


class Backend(Protocol):
    """Loads a model and trains it on rows; a module with these functions is one."""

    @staticmethod
    def begin(run: Path) -> None:
        """Make a fresh process ready; what is compiled goes below the folder `run`. Raises MissingExtraError, RunError."""

    @staticmethod
    def load(ref: ModelRef, recipe: Recipe) -> Any:
        """Return the model that the recipe names, as `train` wants it."""

    @staticmethod
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
    ) -> TrainResult:
        """Train for `steps` optimizer steps and leave the result in the folder `run`; with `grpo`, by its rewards.

        `lengths` [N] holds the tokens of every row, `readers` a reader of images for every part that the rows name, `base`
        the id that the adapter names as its base model (default: where the model was loaded from). With `resume`, the
        newest complete checkpoint in `run` is gone on from. `watch` scores the model
        on the way. Raises InputError when no module gets an adapter, RunError
        when the training fails.
        """


OWN_PROCESS = frozenset({"unsloth"})
"""Backends that change libraries for a whole process: they train in one of their own."""


def backend(name: str) -> Backend:
    """Return the backend of this name, `trl` or `unsloth`."""
    return cast("Backend", import_module(f"vlmrecipes.train.{name}_backend"))
