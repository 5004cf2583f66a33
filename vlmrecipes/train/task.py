"""What is to be trained: rows and settings, as a backend was given them, for the trainer of a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.models.turns import Row
from vlmrecipes.recipe import Train
from vlmrecipes.rewarding import Grpo
from vlmrecipes.train.rows import Reader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """See `Backend.train`."""

    processor: Any
    rows: Sequence[Row]
    lengths: NDArray[np.int32]
    readers: Sequence[Reader]
    settings: Train
    grpo: Grpo | None
    steps: int
    run: Path
    own_loss: bool
    """Whether the model brings its own loss."""
