"""Parquet shards that `datasets.load_dataset` reads with nothing else: images as its `Image` feature."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.sample import Sample, Split
from vlmrecipes.data.snapshot import ImageReader, Snapshot
from vlmrecipes.extras import need
from vlmrecipes.fingerprint import file_sha256
from vlmrecipes.progress import track

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BYTES = 500_000_000
"""A shard is closed when so many bytes of images are in it."""
GROUP_BYTES, GROUP_ROWS = 32_000_000, 1000
"""A row group is closed when it holds so much; readers load one at a time."""
READ_AT_ONCE = 64
"""Samples whose images are read from the store at once."""
SPLITS: tuple[Split, ...] = ("train", "eval")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A file that was written."""

    path: str
    """Relative to the export's folder."""
    split: Split
    rows: int
    bytes: int
    sha256: str


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


def write(snapshot: Snapshot, folder: Path) -> list[Shard]:
    """Write `data/SPLIT-00000-of-0000N.parquet`, rows ordered by id; return what was written."""
    (folder / "data").mkdir()
    reader, formats = snapshot.reader(), image_formats(snapshot)
    shards: list[Shard] = []
    with track(f"export {snapshot.name}", snapshot.manifest["samples"]) as advance:
        for split in SPLITS:
            groups = _groups(snapshot.samples(split), reader, formats, advance)
            shards += _shards(folder, split, groups)
    return shards


def image_formats(snapshot: Snapshot) -> dict[str, str]:
    """Return the file ending of every image, by its key."""
    table = snapshot.columns("images", ("key", "format"))
    endings = {"JPEG": "jpg"}
    kinds = [endings.get(kind, kind.lower()) for kind in table["format"].to_pylist()]
    return dict(zip(table["key"].to_pylist(), kinds, strict=True))


def _groups(
    samples: Sequence[Sample], reader: ImageReader, formats: dict[str, str], advance: Any
) -> Iterator[pa.Table]:
    """Yield row groups."""
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


def _shards(folder: Path, split: Split, groups: Iterator[pa.Table]) -> list[Shard]:
    written: list[tuple[Path, int]] = []
    for number, table in enumerate(_batched(groups)):
        path = folder / "data" / f"{split}-{number}.part"
        written.append((path, _write_file(path, table)))
    names = [f"data/{split}-{number:05}-of-{len(written):05}.parquet" for number in range(len(written))]
    return [_named(folder, name, split, *file) for name, file in zip(names, written, strict=True)]


def _batched(groups: Iterator[pa.Table]) -> Iterator[Iterator[pa.Table]]:
    """Yield the row groups of each shard; each shard must be used up before the next one is asked for."""

    def shard(first: pa.Table) -> Iterator[pa.Table]:
        size = first.nbytes
        yield first
        while size < SHARD_BYTES and (table := next(groups, None)) is not None:
            size += table.nbytes
            yield table

    while (first := next(groups, None)) is not None:
        yield shard(first)


def _write_file(path: Path, groups: Iterator[pa.Table]) -> int:
    import pyarrow.parquet as pq

    rows = 0
    with pq.ParquetWriter(path, features().arrow_schema) as writer:
        for table in groups:
            writer.write_table(table, row_group_size=table.num_rows)
            rows += table.num_rows
    return rows


def _named(folder: Path, name: str, split: Split, path: Path, rows: int) -> Shard:
    target = path.rename(folder / name)
    return Shard(path=name, split=split, rows=rows, bytes=target.stat().st_size, sha256=file_sha256(target))
