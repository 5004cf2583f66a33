"""One small training, as tests and the processes that they start run it.

python -m training FOLDER SETTINGS     settings as JSON; with "whole", all weights are trained
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tiny import MemoryReader, lines, model, processor

from vlmrecipes.models import tokens
from vlmrecipes.models.turns import Row, rows_of
from vlmrecipes.recipe import Lora, Train
from vlmrecipes.rewarding import Grpo
from vlmrecipes.train.backend import TrainResult
from vlmrecipes.train.trl_backend import begin, train
from vlmrecipes.train.watch import Watch

STEPS = 6
SETTINGS = {"batch_size": 2, "gradient_accumulation": 2, "learning_rate": 1e-3, "save_steps": 2, "logging_steps": 1}
LORA = Lora(r=4, dropout=0.1, projector="lora")
STEADY = Lora(r=4, projector="lora")
"""Without dropout, so that it does not matter which process sees a row."""


@dataclass
class KillingReader(MemoryReader):
    """Ends its process, as `kill -9` does, after so many reads."""

    reads: int = 0

    def read(self, keys: Sequence[str]) -> list[bytes]:
        self.reads -= 1
        if self.reads < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(keys)


def rows(reader: MemoryReader) -> list[Row]:
    return [row for one in lines(reader, 18) for row in rows_of(one)]


def run(  # noqa: PLR0913
    folder: Path,
    *,
    lora: Lora | None = LORA,
    reads: int | None = None,
    resume: bool = False,
    watch: Watch | None = None,
    grpo: Grpo | None = None,
    **more: Any,
) -> TrainResult:
    """Train in `folder`; with `reads`, until so many batches are read."""
    reader = MemoryReader() if reads is None else KillingReader(reads=reads)
    found, reading = rows(reader), processor()
    sizes = {key: (40 + 10 * (number % 5), 32) for number, key in enumerate(reader.images)}
    lengths = tokens.count(reading, found, sizes).total.astype(np.int32)
    return train(
        model=model(),
        processor=reading,
        rows=found,
        lengths=lengths,
        readers=[reader],
        settings=Train(**SETTINGS | {"steps": STEPS} | more),
        lora=lora,
        grpo=grpo,
        steps=more.get("steps", STEPS),
        run=folder,
        resume=resume,
        base="builtin:reader",
        watch=watch,
    )


if __name__ == "__main__":
    begin(Path(sys.argv[1]))
    settings = json.loads(sys.argv[2])
    run(Path(sys.argv[1]), lora=None if settings.pop("whole", False) else STEADY, **settings)
