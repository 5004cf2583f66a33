"""Scores while training: which steps are scored, and the weights of the best of them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmrecipes.train.checkpoints import aside

Values = Mapping[str, float | None]
"""Metrics by name; None where one is not defined."""
NOTE = "best.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is scored while training."""

    every: int
    """Steps between two scores; the last step is scored, too."""
    score: Callable[[Any], Values]
    """Generates with the model as it stands, and scores that."""
    select: str = ""
    """The metric by which the best step is kept; empty keeps the last."""
    better: str = "lower"

    def due(self, step: int, last: int) -> bool:
        """Tell whether this step is scored."""
        return step % self.every == 0 or step == last

    def values(self, model: Any) -> Values:
        """Score the model and leave it, and the random numbers that training draws, as they were."""
        import torch

        training = model.training
        with torch.random.fork_rng():
            found = self.score(model)
        model.train(training)
        return found


@dataclass(frozen=True, slots=True)
class Best:
    """The weights of the best step so far, in a folder that is there whole or not at all.

    After an interruption it may be of a later step than the one gone on from: that step will come again, with the same
    weights and the same score, so it stays the best.
    """

    folder: Path

    def offer(self, step: int, value: float | None, watch: Watch, save: Callable[[Path], object]) -> None:
        """Keep the weights that `save` writes if `value` is better than that of every step before."""
        if value is None or math.isnan(value):
            return
        if (known := self.note()) and not (
            value < known["value"] if watch.better == "lower" else value > known["value"]
        ):
            return
        with aside(self.folder) as temporary:
            save(temporary)
            note = {"step": step, "metric": watch.select, "value": value}
            (temporary / NOTE).write_text(json.dumps(note), "utf-8")

    def note(self) -> dict[str, Any] | None:
        """Return `step, metric, value` of the best step, or None."""
        path = self.folder / NOTE
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else None

    def forget(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)
