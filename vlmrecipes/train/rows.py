"""The training rows as a `datasets.Dataset` whose images are read when a row is asked for, never before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vlmrecipes.models.turns import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK = 10_000
"""Rows written at once."""
PROMPT = {"prompt": "string", "images": "strings", "part": "int32"}
"""Fields of every row: messages as JSON text, keys of images, place in the mixture."""


class Reader(Protocol):
    """Reads encoded images by key; picklable, because loader processes have their own."""

    def read(self, keys: Sequence[str]) -> list[bytes]:
        """Return the bytes of the images in the order of `keys`."""


@dataclass(frozen=True, slots=True)
class LoadImages:
    """The transform of the dataset: stored columns to prompt, completion and encoded images."""

    readers: tuple[Reader, ...]
    """A reader for every part of the mixture."""

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return B rows: `prompt` and `completion` as messages, `images` as a list of encoded images each, `tokens`."""
        wanted = list(zip(batch["part"], batch["images"], strict=True))
        encoded = {part: iter(self._read(part, wanted)) for part in set(batch["part"])}
        return {
            "prompt": [json.loads(prompt) for prompt in batch["prompt"]],
            "completion": [[_reply(answer)] for answer in batch["answer"]],
            "images": [[next(encoded[part]) for _ in keys] for part, keys in wanted],
            "tokens": list(batch["tokens"]),
        }

    def _read(self, part: int, wanted: Sequence[tuple[int, Sequence[str]]]) -> list[bytes]:
        """Read the images of all rows of a part at once."""
        return self.readers[part].read([key for owner, keys in wanted if owner == part for key in keys])


def _reply(answer: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": answer}]}


def dataset(rows: Sequence[Row], lengths: NDArray[np.int32], readers: Sequence[Reader], path: Path) -> Any:
    """Write the rows without images to `path` (Arrow) and return them as a `datasets.Dataset` that reads images lazily.

    `lengths` [N] are the tokens of the rows; `readers` holds one for every part that they name.
    """
    return _mapped(rows, {**PROMPT, "answer": "string"}, path, lengths).with_transform(LoadImages(tuple(readers)))


def prompts(rows: Sequence[Row], lengths: NDArray[np.int32], path: Path) -> Any:
    """Write what a prompt is, its `references` and its length in `tokens` to `path` (Arrow), and return it as a dataset."""
    return _mapped(rows, {**PROMPT, "references": "strings"}, path, lengths)


def _mapped(rows: Sequence[Row], types: Mapping[str, str], path: Path, lengths: NDArray[np.int32]) -> Any:
    """Write fields of rows to an Arrow file, which is mapped into memory, so that loader processes share it."""
    import pyarrow as pa

    from datasets import Dataset

    known = {"string": pa.string(), "strings": pa.list_(pa.string()), "int32": pa.int32()}
    schema = pa.schema({name: known[kind] for name, kind in types.items()} | {"tokens": pa.int32()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            columns = [[getattr(row, name) for row in chunk] for name in types]
            writer.write_batch(pa.record_batch([*columns, lengths[start : start + CHUNK]], schema=schema))
    return Dataset.from_file(str(path))
