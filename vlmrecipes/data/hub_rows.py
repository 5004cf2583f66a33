"""Samples with their images as `datasets` keeps them: written in groups of limited size, never all in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from vlmrecipes.data.reader import ImageReader
from vlmrecipes.data.sample import Sample
from vlmrecipes.extras import need
from vlmrecipes.fingerprint import PREFIX

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_BYTES, GROUP_ROWS = 32_000_000, 1000
"""A row group is closed when it holds so much; readers load one at a time."""
READ_AT_ONCE = 64
"""Samples whose images are read from the store at once."""


def features() -> Any:
    """Return the columns as `datasets.Features`. Metadata is JSON text: its columns are the user's."""
    datasets = need("datasets", "export Parquet")
    text, part = datasets.Value("string"), {"type": datasets.Value("string"), "text": datasets.Value("string")}
    return datasets.Features(
        {
            "id": text,
            "images": datasets.List(datasets.Image()),
            "messages": datasets.List({"role": text, "content": datasets.List(part)}),
            "answer": text,
            "references": datasets.List(text),
            "group": text,
            "source": text,
            "metadata": text,
        }
    )


def image_formats(table: pa.Table) -> dict[str, str]:
    """Return the file ending of every image by its key, from the columns `key` and `format`."""
    endings = {"JPEG": "jpg"}
    kinds = [endings.get(kind, kind.lower()) for kind in table["format"].to_pylist()]
    return dict(zip(table["key"].to_pylist(), kinds, strict=True))


def groups(
    samples: Sequence[Sample], reader: ImageReader, formats: dict[str, str], advance: Callable[[int], None]
) -> Iterator[pa.Table]:
    """Yield tables of a limited size with the columns of `features`; `advance` is told how many rows each has."""
    import pyarrow as pa

    schema = features().arrow_schema
    rows: list[dict[str, Any]] = []
    size = 0
    for row in _rows(samples, reader, formats):
        rows.append(row)
        size += sum(len(image["bytes"]) for image in row["images"])
        if size >= GROUP_BYTES or len(rows) >= GROUP_ROWS:
            yield pa.Table.from_pylist(rows, schema=schema)
            advance(len(rows))
            rows, size = [], 0
    if rows:
        yield pa.Table.from_pylist(rows, schema=schema)
        advance(len(rows))


def _rows(samples: Sequence[Sample], reader: ImageReader, formats: dict[str, str]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(samples), READ_AT_ONCE):
        some = samples[start : start + READ_AT_ONCE]
        keys = list(dict.fromkeys(key for sample in some for key in sample.images))
        images = dict(zip(keys, reader.read(keys), strict=True))
        yield from (_row(sample, images, formats) for sample in some)


def _row(sample: Sample, images: dict[str, bytes], formats: dict[str, str]) -> dict[str, Any]:
    return {
        "id": sample.id,
        "images": [{"bytes": images[key], "path": f"{key}.{formats[key]}"} for key in sample.images],
        "messages": [{"role": turn["role"], "content": parts(turn["content"])} for turn in sample.messages],
        "answer": sample.answer,
        "references": list(sample.references),
        "group": sample.group,
        "source": sample.source,
        "metadata": json.dumps(dict(sample.metadata), ensure_ascii=False, sort_keys=True),
    }


def parts(content: Any) -> list[dict[str, Any]]:
    """Return the parts of a turn, each with `type` and `text`."""
    every = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [{"type": part["type"], "text": part.get("text")} for part in every]


def dataset(
    samples: Sequence[Sample], reader: ImageReader, formats: pa.Table, name: str, folder: Path | None = None
) -> Any:
    """Return a `datasets.Dataset` mapped from `folder/NAME.arrow`, which is written first unless it is there."""
    import pyarrow as pa

    datasets = need("datasets", "give samples as a datasets.Dataset")
    home = folder or Path(datasets.config.HF_DATASETS_CACHE) / "vlmrecipes"
    path = home / f"{name.removeprefix(PREFIX)}.arrow"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{uuid4().hex}.part")
        try:
            schema = features().arrow_schema
            with pa.OSFile(str(part), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
                for table in groups(samples, reader, image_formats(formats), _unseen):
                    writer.write_table(table)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return datasets.Dataset.from_file(str(path))


def _unseen(rows: int) -> None:
    """Take the place of a progress bar."""
