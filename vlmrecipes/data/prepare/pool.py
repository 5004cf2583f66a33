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
WALL_SECONDS = 10.0
"""Time one image may take, reading included; more in proportion when more processes want to run than there are processors.
A worker that takes longer is ended. One that computes ends itself sooner, by its processor time."""
LOOK_SECONDS = 0.1
PATIENCE = 0.5
"""Seconds of work after which the first worker gets others beside it: less is done sooner than they have started."""
TRIES = 3
"""Workers that may end, for no image's sake, over one batch."""

_SURROUNDINGS = {"OMP_NUM_THREADS": "1", "PILLOW_BLOCKS_MAX": "4"}
"""Pillow keeps four blocks of 16 MB for its next pictures: asking the system again for each takes a tenth of the time."""


def prepare_batches(
    batches: Iterable[pa.RecordBatch], policy: Prepare, known: Iterable[str], workers: int
) -> Iterator[pa.RecordBatch]:
    """Yield what `prepare_batch` gives for each batch, in order, worked out by up to `workers` processes.

    `known` holds origins that need no work; they are read while the first worker starts. An image that takes too long, too
    much memory, or ends its worker twice becomes a drop of its row. An image that a worker has given once it does not give
    again, only its origin. Raises StoreError when no worker can be started.
    """
    jobs: deque[_Job] = deque()
    with _Pool(workers) as pool:
        pool.begin(pickle.dumps((policy, Origins(known))))
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

    def __init__(self) -> None:
        self.jobs: deque[_Job] = deque()
        self._started = 0.0
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
                env=os.environ | _SURROUNDINGS | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )
        theirs.close()

    def give(self, job: _Job) -> None:
        self.jobs.append(job)
        self.send(encoded(job.tasks))

    def send(self, data: bytes | pa.Buffer) -> None:
        try:
            self.pipe.send_bytes(data)
        except OSError:
            self.process.kill()  # it has ended: reading from it will tell

    def stuck(self) -> bool:
        place, since = PROGRESS.unpack(self._progress)
        return bool(place != IDLE and time.monotonic() - since > WALL_SECONDS * overload())

    def up(self, seconds: float = 0.0) -> bool:
        """Tell whether it has started, so long ago."""
        self._started = self._started or PROGRESS.unpack(self._progress)[1]
        return 0 < self._started < time.monotonic() - seconds

    def end(self) -> tuple[int, int]:
        """End the process; return its exit status and the place of the image at work, -1 for none."""
        self.process.kill()
        self.pipe.close()
        return self.process.wait(), int(PROGRESS.unpack(self._progress)[0])


def overload() -> float:
    """Return how many processes want to run on each processor, at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class _Pool:
    """Workers; the first starts with the pool, the others when it has been at work for a while."""

    def __init__(self, workers: int) -> None:
        self._most, self._settings = workers, b""
        self._workers = [_Worker()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()

    def begin(self, settings: bytes) -> None:
        """Tell all workers, those to come too, by what they are to work."""
        self._settings = settings
        for worker in self._workers:
            worker.send(settings)

    def give(self, job: _Job) -> None:
        """Hand a batch to the worker with least to do; wait while all have enough."""
        if not job.tasks.num_rows:
            job.outcome = empty_outcome()
            return
        while (worker := self._free()) is None:
            self._step()
        worker.give(job)

    def _free(self) -> _Worker | None:
        """Return a worker that can take a batch. One that starts gets none: the others may have done all by then."""
        ready = [worker for worker in self._workers if worker.up()]
        least = min(ready or self._workers[:1], key=lambda worker: len(worker.jobs))
        if least.jobs and len(self._workers) < min(self._most, 2 * len(ready)) and self._workers[0].up(PATIENCE):
            self._workers.append(self._fresh())
        return least if len(least.jobs) < AHEAD else None

    def _fresh(self) -> _Worker:
        worker = _Worker()
        worker.send(self._settings)
        return worker

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
                self._replace(worker, waited=True)

    def _receive(self, worker: _Worker) -> None:
        try:
            data = worker.pipe.recv_bytes()
        except (EOFError, OSError):
            self._replace(worker)
        else:
            worker.jobs.popleft().outcome = read_outcome(data)

    def _replace(self, worker: _Worker, *, waited: bool = False) -> None:
        """Put a new worker in the place of one that has ended or is to; it does the rest of the work again."""
        status, place = worker.end()
        _blame(worker.jobs[0], place, status, waited=waited)
        fresh = self._fresh()
        self._workers[self._workers.index(worker)] = fresh
        for job in worker.jobs:
            fresh.give(job)


def _blame(job: _Job, place: int, status: int, *, waited: bool) -> None:
    """Refuse the image that ended a worker: at once when its time was over, else when it happens again.

    A worker may also be ended by somebody else (the system, short of memory); the second time is proof enough.
    """
    if place < 0:
        job.lost += 1
        if job.lost == TRIES:
            raise StoreError(f"image workers end before they begin (exit status {status}); their last words are above")
    elif waited:
        job.tasks = refused(job.tasks, place, "timeout", f"not ready after {WALL_SECONDS:g} s")
    elif status == -signal.SIGPROF:
        job.tasks = refused(job.tasks, place, "timeout", f"not ready after {CPU_SECONDS:g} s of processor time")
    elif place == job.suspect:
        job.tasks = refused(job.tasks, place, *_verdict(status))
    job.suspect = place


def _verdict(status: int) -> tuple[Reason, str]:
    if status == -signal.SIGKILL:
        return "too_large", "the system killed the worker at this image, twice; it may be short of memory"
    return "undecodable", f"the decoder crashed at this image, twice (exit status {status})"
