"""Batches prepared by several processes, results in order; a worker that is lost costs at most the image it was at.

Workers are programs of their own, not forks (LanceDB does not survive one) and not `multiprocessing` children (which
import the caller's script again).
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Pipe, wait
from typing import TYPE_CHECKING, Self

from vlmrecipes.data.declaration import Prepare
from vlmrecipes.data.prepare.batch import Origins, empty_outcome, refused
from vlmrecipes.data.prepare.worker import CPU_SECONDS, IDLE, PROGRESS, encoded, read_outcome
from vlmrecipes.data.sample import Reason
from vlmrecipes.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

AHEAD = 2
"""Batches a worker has: one at work, one in wait."""
UNORDERED = 8
"""Batches a worker that may be done before one that is not."""
WALL_SECONDS = 60.0
"""Time one image may take, reading included; a worker that takes longer is ended. Processor time ends it far sooner."""
LOOK_SECONDS = 1.0
TRIES = 3
"""Workers that may end, for no image's sake, over one batch."""


def prepare_batches(
    batches: Iterable[pa.RecordBatch], policy: Prepare, known: Origins, workers: int
) -> Iterator[pa.RecordBatch]:
    """Yield what `prepare_batch` gives for each batch, in order, worked out by `workers` processes.

    An image that takes too long, too much memory, or ends its worker twice becomes a drop of its row. An image that a
    worker has given once it does not give again, only its origin. Raises StoreError when no worker can be started.
    """
    jobs: deque[_Job] = deque()
    with _Pool(policy, known, workers) as pool:
        for batch in batches:
            jobs.append(_Job(batch))
            pool.give(jobs[-1])
            while jobs and (jobs[0].outcome is not None or len(jobs) > UNORDERED * workers):
                yield pool.outcome(jobs.popleft())
        while jobs:
            yield pool.outcome(jobs.popleft())


@dataclass(eq=False, slots=True)
class _Job:
    """A batch, what came of it, and what has gone wrong with it."""

    tasks: pa.RecordBatch
    outcome: pa.RecordBatch | None = None
    suspect: int = -1
    """Place of the image that was at work when a worker ended."""
    lost: int = 0
    """Workers that ended over this batch with no image to blame."""


class _Worker:
    """A process, the pipe to it, and the batches it has."""

    def __init__(self, settings: bytes) -> None:
        self.jobs: deque[_Job] = deque()
        self.pipe, theirs = Pipe()
        with tempfile.TemporaryFile() as file:
            file.write(PROGRESS.pack(IDLE, 0))
            file.flush()
            self._progress = mmap.mmap(file.fileno(), PROGRESS.size)
            descriptors = (theirs.fileno(), file.fileno())
            self.process = subprocess.Popen(  # noqa: S603 - this program itself
                [sys.executable, "-m", "vlmrecipes.data.prepare.worker", *map(str, descriptors)],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
            )
        theirs.close()
        self._send(settings)

    def give(self, job: _Job) -> None:
        self.jobs.append(job)
        self._send(encoded(job.tasks))

    def _send(self, data: bytes | pa.Buffer) -> None:
        try:
            self.pipe.send_bytes(data)
        except OSError:
            self.process.kill()  # it has ended: reading from it will tell

    def stuck(self) -> bool:
        place, since = PROGRESS.unpack(self._progress)
        return bool(place != IDLE and time.monotonic() - since > WALL_SECONDS)

    def end(self) -> tuple[int, int]:
        """End the process; return its exit status and the place of the image at work, -1 for none."""
        self.process.kill()
        self.pipe.close()
        return self.process.wait(), int(PROGRESS.unpack(self._progress)[0])


class _Pool:
    def __init__(self, policy: Prepare, known: Origins, workers: int) -> None:
        self._settings, self._most = pickle.dumps((policy, known)), workers
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()

    def give(self, job: _Job) -> None:
        """Hand a batch to the worker with least to do; wait while all have enough."""
        if not job.tasks.num_rows:
            job.outcome = empty_outcome()
            return
        while (worker := self._free()) is None:
            self._step()
        worker.give(job)

    def _free(self) -> _Worker | None:
        least = min(self._workers, key=lambda worker: len(worker.jobs), default=None)
        if len(self._workers) < self._most and (least is None or least.jobs):
            least = _Worker(self._settings)
            self._workers.append(least)
        return least if least is not None and len(least.jobs) < AHEAD else None

    def outcome(self, job: _Job) -> pa.RecordBatch:
        """Return what comes of a batch; wait for it."""
        while job.outcome is None:
            self._step()
        return job.outcome

    def _step(self) -> None:
        """Wait until something happens or might have."""
        busy = [worker for worker in self._workers if worker.jobs]
        ready = wait([worker.pipe for worker in busy], timeout=LOOK_SECONDS)
        for worker in busy:
            if worker.pipe in ready:
                self._receive(worker)
            elif worker.stuck():
                self._replace(worker, timeout=True)

    def _receive(self, worker: _Worker) -> None:
        try:
            data = worker.pipe.recv_bytes()
        except (EOFError, OSError):
            self._replace(worker)
        else:
            worker.jobs.popleft().outcome = read_outcome(data)

    def _replace(self, worker: _Worker, *, timeout: bool = False) -> None:
        """Put a new worker in the place of one that has ended or is to; it does the rest of the work again."""
        status, place = worker.end()
        _blame(worker.jobs[0], place, -signal.SIGPROF if timeout else status)
        fresh = _Worker(self._settings)
        self._workers[self._workers.index(worker)] = fresh
        for job in worker.jobs:
            fresh.give(job)


def _blame(job: _Job, place: int, status: int) -> None:
    """Refuse the image that ended a worker: at once when its time was over, else when it happens again.

    A worker may also be ended by somebody else (the system, short of memory); the second time is proof enough.
    """
    if place < 0:
        job.lost += 1
        if job.lost == TRIES:
            raise StoreError(f"image workers end before they begin (exit status {status}); their last words are above")
    elif status == -signal.SIGPROF:
        job.tasks = refused(job.tasks, place, "timeout", f"not ready after {CPU_SECONDS:g} s of processor time")
    elif place == job.suspect:
        job.tasks = refused(job.tasks, place, *_verdict(status))
    job.suspect = place


def _verdict(status: int) -> tuple[Reason, str]:
    if status == -signal.SIGKILL:
        return "too_large", "the system killed the worker at this image, twice; it may be short of memory"
    return "undecodable", f"the decoder crashed at this image, twice (exit status {status})"
