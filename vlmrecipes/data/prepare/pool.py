"""Images of many rows prepared by several processes, results in the order of the rows."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmrecipes.data.crop import Crop
from vlmrecipes.data.declaration import Prepare
from vlmrecipes.data.images import ImageError, image_bytes
from vlmrecipes.data.prepare import Prepared, origin_of, prepare_image

AHEAD = 2
"""Batches under way for each worker."""


@dataclass(frozen=True, slots=True)
class Task:
    """The images of one row."""

    references: tuple[Any, ...]
    root: Path
    crop: Crop | None
    """Cuts the first image."""


@dataclass(frozen=True, slots=True)
class Known:
    """An image that the store already holds, by its origin."""

    origin: str


Outcome = list[Prepared | Known] | ImageError


class Origins:
    """Which origins the store holds: 16 bytes each, so that every worker can have them all."""

    def __init__(self, origins: Iterable[str]) -> None:
        """Take origins as 64 hex digits."""
        self._short = frozenset(bytes.fromhex(origin[:32]) for origin in origins)

    def __contains__(self, origin: str) -> bool:
        return bytes.fromhex(origin[:32]) in self._short


def prepare_batches(
    batches: Iterable[Sequence[Task]], policy: Prepare, known: Origins, workers: int
) -> Iterator[list[Outcome]]:
    """Yield the outcomes of each batch, in order. One worker works in this process; more are spawned."""
    if workers <= 1:
        _start(policy, known)
        yield from map(_work, batches)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start, initargs=(policy, known)) as pool:
        yield from _in_order(pool, batches, workers * AHEAD)


def _in_order(pool: ProcessPoolExecutor, batches: Iterable[Sequence[Task]], ahead: int) -> Iterator[list[Outcome]]:
    waiting: deque[Future[list[Outcome]]] = deque()
    for batch in batches:
        waiting.append(pool.submit(_work, batch))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_job: tuple[Prepare, Origins]


def _start(policy: Prepare, known: Origins) -> None:
    global _job  # noqa: PLW0603 - a worker's settings, set once when it starts
    _job = (policy, known)


def _work(batch: Sequence[Task]) -> list[Outcome]:
    policy, known = _job
    return [_prepared(task, policy, known) for task in batch]


def _prepared(task: Task, policy: Prepare, known: Origins) -> Outcome:
    try:
        return [
            _one(image_bytes(reference, task.root), task.crop if place == 0 else None, policy, known)
            for place, reference in enumerate(task.references)
        ]
    except ImageError as error:
        return error


def _one(raw: bytes, crop: Crop | None, policy: Prepare, known: Origins) -> Prepared | Known:
    origin = origin_of(raw, crop, policy)
    return Known(origin) if origin in known else prepare_image(raw, crop, policy)
