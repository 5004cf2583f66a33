"""Train as a run's own process does, with a clock beside it: python benchmarks/clocked.py RUN_FOLDER [turns].

Of several processes that train together, each has a clock; those of the others write into RUN_FOLDER/device-1 and so on.
"""

from __future__ import annotations

import os
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
    RANK = os.environ.get("RANK", "0")
    PLACE = FOLDER if RANK == "0" else FOLDER / f"device-{RANK}"
    PLACE.mkdir(exist_ok=True)
    trl_backend.callbacks = clocked(trl_backend.callbacks, Clock(PLACE, turns="turns" in sys.argv))
    sys.exit(job.main(FOLDER, "trained"))
