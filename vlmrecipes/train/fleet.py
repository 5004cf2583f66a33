"""Several processes that train together, each on a device of its own: which one this is, and who writes what.

PyTorch's launcher starts them (`torch.distributed.run`) and says in the environment which is which. The first writes what a
training leaves; the others write theirs into a folder that is thrown away, but for their random numbers in checkpoints.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from vlmrecipes.progress import Advance, track
from vlmrecipes.train.checkpoints import ASIDE, aside


def command(processes: int) -> list[str]:
    """Return the words that start so many processes of a module; its name follows."""
    alone = [sys.executable, "-m"]
    # the machine's own name may not be known to it, as on one without a network
    here = ["--standalone", "--local-addr", "127.0.0.1"]
    together = ["torch.distributed.run", *here, "--nproc-per-node", str(processes), "-m"]
    return alone if processes == 1 else alone + together


def environment(processes: int) -> dict[str, str]:
    """Return the environment of so many processes: each has its share of the cores, where the launcher would give it one."""
    cores = os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, cores // processes))} | os.environ if processes > 1 else dict(os.environ)


def first() -> bool:
    """Tell whether this is the process that writes, as it is when there is only one."""
    return os.environ.get("RANK", "0") == "0"


def begin() -> None:
    """Take the device that is this process's own."""
    import torch

    if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def wait() -> None:
    """Go on when all processes have come here."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


def part() -> None:
    """Wait for the others a last time, and let go of them."""
    from torch import distributed

    wait()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


@cache
def own(run: Path) -> Path:
    """Return the folder for what this process writes: `run` itself, or one that goes when the process ends."""
    if first():
        return run
    folder = run / f".device-{os.environ['RANK']}"
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir(parents=True)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _silent(count: int = 1, note: str = "") -> None: ...


@contextmanager
def track_first(label: str, total: int) -> Iterator[Advance]:
    """As `progress.track`; only the first process tells."""
    if first():
        with track(label, total) as advance:
            yield advance
    else:
        yield _silent


@contextmanager
def aside_together(target: Path) -> Iterator[Path]:
    """As `checkpoints.aside`, for one folder that all processes write into."""
    if not first():
        wait()
        yield target.parent / ASIDE / target.name
        wait()
        return
    with aside(target) as temporary:
        wait()
        yield temporary
        wait()
