"""A record batch of image references in, a record batch of prepared images out: a pure function that any engine can run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.crop import Crop
from vlmrecipes.data.declaration import Prepare
from vlmrecipes.data.images import ImageError, image_bytes
from vlmrecipes.data.prepare import Prepared, origin_of, prepare_image
from vlmrecipes.data.sample import Reason, image_schema
from vlmrecipes.fingerprint import sha256

if TYPE_CHECKING:
    import pyarrow as pa

HELD_BYTES = 32 << 20
"""Originals that are held while a batch is worked on, in case later rows want them too."""


@dataclass(frozen=True, slots=True)
class Task:
    """The images of one row."""

    references: tuple[Any, ...]
    root: Path
    crop: Crop | None
    """Cuts the first image."""


class Origins:
    """Which origins need no work: 16 bytes each, so that every worker can have them all."""

    def __init__(self, origins: Iterable[str]) -> None:
        """Take origins as 64 hex digits."""
        self._short = {bytes.fromhex(origin[:32]) for origin in origins}

    def __contains__(self, origin: str) -> bool:
        return bytes.fromhex(origin[:32]) in self._short

    def add(self, origin: str) -> None:
        """Let `origin` need no more work: its outcome has been given."""
        self._short.add(bytes.fromhex(origin[:32]))


def task_schema() -> pa.Schema:
    """Return the schema of what `prepare_batch` takes: one row an image, the images of one `row` together.

    `text` is a path or base64, `data` encoded bytes, `made` any other reference that `data.images` reads, pickled by
    this program for its own workers; one of the three is set. A `reason` refuses the row unread.
    """
    import pyarrow as pa

    text, data = pa.string(), pa.large_binary()
    fields = [("row", pa.int32()), ("text", text), ("data", data), ("made", data), ("root", text), ("crop", text)]
    return pa.schema([*fields, ("reason", text), ("message", text)])


def outcome_schema() -> pa.Schema:
    """Return the schema of what `prepare_batch` gives: `row`, and an image or the reason there is none.

    An image without `data` is one that `known` holds, or an earlier row of the batch has given: only `origin` names it.
    """
    import pyarrow as pa

    image = [field.remove_metadata().with_nullable(True) for field in image_schema()]
    return pa.schema(
        [("row", pa.int32()), ("origin", pa.string()), *image, ("reason", pa.string()), ("message", pa.string())]
    )


def empty_outcome() -> pa.RecordBatch:
    """Return what comes of a batch without images."""
    import pyarrow as pa

    return pa.RecordBatch.from_pylist([], schema=outcome_schema())


def task_batch(tasks: Sequence[Task]) -> pa.RecordBatch:
    """Return `tasks` with `task_schema()`; `row` counts them. A task without images takes no row."""
    import pyarrow as pa

    rows = [
        {"row": number, "root": str(task.root), "crop": json.dumps(task.crop) if place == 0 and task.crop else None}
        | _reference(reference)
        for number, task in enumerate(tasks)
        for place, reference in enumerate(task.references)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=task_schema())


def _reference(reference: Any) -> dict[str, Any]:
    if isinstance(reference, str) and reference.isprintable():
        return {"text": reference}
    if isinstance(reference, bytes):
        return {"data": reference}
    return {"made": pickle.dumps(reference)}


def refused(batch: pa.RecordBatch, place: int, reason: Reason, message: str) -> pa.RecordBatch:
    """Return the tasks with the original at `place` refused, wherever it stands."""
    import pyarrow as pa

    rows = batch.to_pylist()
    bad = _original(rows[place])
    rows = [row | {"reason": reason, "message": message} if _original(row) == bad else row for row in rows]
    return pa.RecordBatch.from_pylist(rows, schema=task_schema())


def _original(task: dict[str, Any]) -> tuple[Any, ...]:
    """Return what tells originals apart."""
    return task["root"], task["text"], task["data"], task["made"]


def prepare_batch(
    batch: pa.RecordBatch, policy: Prepare, known: Origins, begin: Callable[[int], None] = lambda _: None
) -> pa.RecordBatch:
    """Return the images of `batch` made ready, or why a row has none; `begin` hears the place of each image before it."""
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    work = _Work(policy, known)
    for row, tasks in groupby(enumerate(batch.to_pylist()), key=lambda item: item[1]["row"]):
        try:
            images = work.row(tasks, begin)
        except ImageError as error:
            images = [{"reason": error.reason, "message": error.message}]
        rows += [{"row": row, **image} for image in images]
    return pa.RecordBatch.from_pylist(rows, schema=outcome_schema())


class _Work:
    """What the rows of a batch share: the originals last read, and the origins of images that were given."""

    def __init__(self, policy: Prepare, known: Origins) -> None:
        self._policy, self._known = policy, known
        self._given: set[str] = set()
        self._originals: dict[tuple[Any, ...], tuple[bytes, str]] = {}

    def row(self, tasks: Iterable[tuple[int, dict[str, Any]]], begin: Callable[[int], None]) -> list[dict[str, Any]]:
        """Return the images of one row, known ones by their origin alone. Raises ImageError."""
        images: dict[str, dict[str, Any]] = {}
        origins = []
        for place, task in tasks:
            begin(place)
            try:
                origins.append(self._prepare(task, images))
            except MemoryError:
                raise ImageError("too_large", "preparing it takes more memory than a worker may have") from None
        self._given.update(images)  # not before: a row that is refused gives none
        return [images.pop(origin, {"origin": origin}) for origin in origins]

    def _prepare(self, task: dict[str, Any], images: dict[str, dict[str, Any]]) -> str:
        """Return the origin of an image, which is added to `images` unless it was given before."""
        if task["reason"]:
            raise ImageError(task["reason"], task["message"])
        crop = _crop(json.loads(task["crop"])) if task["crop"] else None
        raw, source = self._read(task)
        origin = origin_of(source, crop, self._policy)
        if origin not in images and origin not in self._given and origin not in self._known:
            image = prepare_image(raw, crop, self._policy, source)
            images[origin] = {name: getattr(image, name) for name in Prepared.__slots__}
        return origin

    def _read(self, task: dict[str, Any]) -> tuple[bytes, str]:
        """Return an original and its SHA-256: rows that follow each other often share one."""
        where = _original(task)
        if where not in self._originals:
            raw = image_bytes(_referred(task), Path(task["root"]))
            if sum(len(held) for held, _ in self._originals.values()) + len(raw) > HELD_BYTES:
                self._originals.clear()
            self._originals[where] = raw, sha256(raw)
        return self._originals[where]


def _referred(task: dict[str, Any]) -> Any:
    if task["made"] is not None:
        return pickle.loads(task["made"])  # noqa: S301 - `task_batch` of this program made it
    return task["text"] if task["text"] is not None else task["data"]


def _crop(value: Any) -> Any:
    return tuple(_crop(item) for item in value) if isinstance(value, list) else value
