"""Train as a run's own process does, with a clock beside it: python benchmarks/clocked.py RUN_FOLDER [turns]."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from turns import Clock, callback

from vlmrecipes import job
from vlmrecipes.train import trl_backend


def clocked(own: Callable[..., list[Any]], clock: Clock) -> Callable[..., list[Any]]:
    """Return `own`, a function that makes callbacks, with the clock's behind them."""
    return lambda *given: [*own(*given), callback(clock)]


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    trl_backend.callbacks = clocked(trl_backend.callbacks, Clock(FOLDER, turns="turns" in sys.argv))
    sys.exit(job.main(FOLDER, "trained"))
