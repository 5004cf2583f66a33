"""TensorBoard beside `metrics.jsonl`, through transformers' own callback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmrecipes import extras
from vlmrecipes.recipe import Train

NAME = "tensorboard"


def writer(settings: Train, run: Path, step: int) -> Any:
    """Return what writes into `run/tensorboard`, taking back what was logged after `step`; None when it is not asked for."""
    if NAME not in settings.log_to:
        return None
    extras.need(NAME, "log to TensorBoard")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run / NAME), purge_step=step + 1 if step else None)


def callbacks(board: Any) -> list[Any]:
    """Return the callback that passes on what a trainer logs; nothing without a writer."""
    if board is None:
        return []
    from transformers.integrations import TensorBoardCallback

    return [TensorBoardCallback(board)]
