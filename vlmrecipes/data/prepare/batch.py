"""A record batch of image references in, a record batch of prepared images out: a pure function that any engine can run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.crop import Crop
from vlmrecipes.data.declaration import Prepare
from vlmrecipes.data.images import ImageError, image_bytes
from vlmrecipes.data.prepare import Prepared, origin_of, prepare_image
from vlmrecipes.data.sample import Reason, image_schema

if TYPE_CHECKING:
    import pyarrow as pa


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

    An image without `data` is one that `known` holds: only its `origin` is given.
    """
    import pyarrow as pa

    image = [field.remove_metadata().with_nullable(True) for field in image_schema()]
    return pa.schema([pa.field("row", pa.int32()), *image, ("reason", pa.string()), ("message", pa.string())])


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
    """Return the tasks with the one at `place` refused."""
    import pyarrow as pa

    rows = batch.to_pylist()
    rows[place] |= {"reason": reason, "message": message}
    return pa.RecordBatch.from_pylist(rows, schema=task_schema())


def prepare_batch(
    batch: pa.RecordBatch, policy: Prepare, known: Origins, begin: Callable[[int], None] = lambda _: None
) -> pa.RecordBatch:
    """Return the images of `batch` made ready, or why a row has none; `begin` hears the place of each image before it."""
    import pyarrow as pa

    found: dict[int, list[dict[str, Any]]] = {}
    for place, task in enumerate(batch.to_pylist()):
        images = found.setdefault(task["row"], [])
        if images and images[-1].get("reason"):
            continue
        begin(place)
        try:
            images.append(_prepared(task, policy, known))
        except ImageError as error:
            found[task["row"]] = [{"reason": error.reason, "message": error.message}]
    rows = [{"row": row, **image} for row, images in found.items() for image in images]
    return pa.RecordBatch.from_pylist(rows, schema=outcome_schema())


def _prepared(task: dict[str, Any], policy: Prepare, known: Origins) -> dict[str, Any]:
    if task["reason"]:
        raise ImageError(task["reason"], task["message"])
    crop = _crop(json.loads(task["crop"])) if task["crop"] else None
    try:
        raw = image_bytes(_referred(task), Path(task["root"]))
        origin = origin_of(raw, crop, policy)
        if origin in known:
            return {"origin": origin}
        image = prepare_image(raw, crop, policy)
    except MemoryError:
        raise ImageError("too_large", "preparing it takes more memory than a worker may have") from None
    return {name: getattr(image, name) for name in Prepared.__slots__}


def _referred(task: dict[str, Any]) -> Any:
    if task["made"] is not None:
        return pickle.loads(task["made"])  # noqa: S301 - `task_batch` of this program made it
    return task["text"] if task["text"] is not None else task["data"]


def _crop(value: Any) -> Any:
    return tuple(_crop(item) for item in value) if isinstance(value, list) else value
