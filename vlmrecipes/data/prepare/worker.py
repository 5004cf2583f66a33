"""A process that prepares batches, under limits that the system enforces: its parent may lose it, never wait for it."""

from __future__ import annotations

import mmap
import os
import pickle
import queue
import re
import resource
import signal
import struct
import sys
import threading
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from vlmrecipes.data.prepare.batch import outcome_schema, prepare_batch, task_schema

if TYPE_CHECKING:
    import pyarrow as pa

CPU_SECONDS = 5.0
"""Processor time one image may take; the system ends the worker with SIGPROF when it is over."""
MEMORY = 1 << 30
"""Bytes one image may take above what the worker has at its start; an allocation beyond them fails."""
PROGRESS = struct.Struct("dd")
"""What a worker tells while it works: the place of the image in its batch, and since when (monotonic clock)."""
IDLE = -1.0
"""In place of an image's number while none is at work."""


def main() -> None:
    """Prepare what comes through the pipe; arguments: file descriptors of the pipe and of the progress."""
    from PIL import Image

    pipe, progress = Connection(int(sys.argv[1])), mmap.mmap(int(sys.argv[2]), PROGRESS.size)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _silence_libraries()
    policy, known = pickle.loads(pipe.recv_bytes())  # noqa: S301 - our own parent sent it
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(pipe, waiting), daemon=True).start()
    Image.preinit()
    _limit_memory()
    begin = partial(_begin, progress)
    begin(IDLE)
    while True:
        outcome = prepare_batch(decoded(waiting.get(), task_schema()), policy, known, begin)
        begin(IDLE)
        pipe.send_bytes(encoded(outcome))
        for origin in outcome.filter(outcome["data"].is_valid())["origin"].to_pylist():
            known.add(origin)


def _begin(progress: mmap.mmap, place: float) -> None:
    """Tell the parent which image is at work and since when, and give it its processor time."""
    progress[:] = PROGRESS.pack(place, time.monotonic())
    signal.setitimer(signal.ITIMER_PROF, 0 if place == IDLE else CPU_SECONDS)


def _read(pipe: Connection, waiting: queue.SimpleQueue[bytes]) -> None:
    """Take batches out of the pipe at once, so that the parent never waits with one; end when the parent has ended."""
    try:
        while True:
            waiting.put(pipe.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _silence_libraries() -> None:
    """Keep what C libraries say about damaged files off the terminal; Python's own errors still come through."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _limit_memory() -> None:
    """Limit what is allocated (RLIMIT_DATA, since Linux 4.7: private writable memory), not what libraries map."""
    status = Path("/proc/self/status")
    if status.exists():
        taken = int(re.search(r"VmData:\s+(\d+) kB", status.read_text("ascii")).group(1)) << 10  # type: ignore[union-attr]
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = taken + MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def encoded(batch: pa.RecordBatch) -> pa.Buffer:
    """Return a batch as an Arrow IPC message."""
    return batch.serialize()


def decoded(data: bytes, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch of an Arrow IPC message."""
    import pyarrow as pa

    return pa.ipc.read_record_batch(pa.py_buffer(data), schema)


def read_outcome(data: bytes) -> pa.RecordBatch:
    """Return the batch that a worker sent."""
    return decoded(data, outcome_schema())


if __name__ == "__main__":
    main()
