"""Parquet shards that `datasets.load_dataset` reads with nothing else: images as its `Image` feature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlmrecipes.data.hub_rows import features, groups, image_formats
from vlmrecipes.data.sample import Split
from vlmrecipes.data.snapshot import Snapshot
from vlmrecipes.fingerprint import file_sha256
from vlmrecipes.progress import track

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BYTES = 500_000_000
"""A shard is closed when so many bytes of images are in it."""
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


def write(snapshot: Snapshot, folder: Path) -> list[Shard]:
    """Write `data/SPLIT-00000-of-0000N.parquet`, rows ordered by id; return what was written."""
    (folder / "data").mkdir()
    reader, formats = snapshot.reader(), image_formats(snapshot.columns("images", ("key", "format")))
    shards: list[Shard] = []
    with track(f"export {snapshot.name}", snapshot.manifest["samples"]) as advance:
        for split in SPLITS:
            found = groups(snapshot.samples(split), reader, formats, advance)
            shards += _shards(folder, split, found)
    return shards


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
