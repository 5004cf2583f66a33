"""Random rows and whole epochs from a snapshot, against a Parquet file, a Hugging Face dataset and loose files.

    python benchmarks/loader.py [--images 20000] [--workers 2] [--rounds 3]

Makes noise JPEGs of 416 x 312 pixels, ingests them, and writes the same bytes to Parquet (row groups of 100, as `datasets`
writes images), to a Hugging Face Arrow dataset and to loose files. Three measurements:

- `encoded`: batches of 64 rows in a random order, encoded. The rivals take turns; the best round counts. Parquet is read as
  a reader must: every row group that holds a wanted row.
- `decoded`: samples a second of one shuffled pass over 2,000 images with the same decoder, in spawned processes, against
  loose files behind the same `DataLoader`. Processes have started, and shown one epoch, before the clock does.
- `memory`: growth of this process's resident memory in MB, from the first 1,000 images to the end of an epoch.

Prints one JSON object and writes it to `benchmarks/results/loader.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vlmrecipes.data.loader import decode
from vlmrecipes.data.snapshot import Snapshot, open_snapshot
from vlmrecipes.ingestion import ingest

SIZE, BATCH, GROUP, PASS = (416, 312), 64, 100, 2000
RESULTS = Path(__file__).parent / "results" / "loader.json"


def make(folder: Path, count: int) -> Snapshot:
    """Draw the images and ingest them."""
    draw = np.random.default_rng(7)
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        small = Image.fromarray(draw.integers(0, 255, (39, 52, 3), np.uint8))
        small.resize(SIZE).save(folder / "images" / f"{number}.jpg", quality=90)
    file = folder / "noise.toml"
    file.write_text(
        'name = "noise"\n[[source]]\ntype = "folder"\npath = "images"\nimage = "{path}"\nprompt = "?"\nanswer = "{name}"\n'
        "[dedup]\nexact = false\n[split]\neval = 0.0\n"
    )
    ingest(file, store=str(folder / "store"))
    return open_snapshot(str(folder / "store"), "noise")


class ParquetRows:
    """Random rows of a Parquet file."""

    def __init__(self, path: Path) -> None:
        """Open it."""
        self._file = pq.ParquetFile(path, memory_map=True)

    def __getitems__(self, places: list[int]) -> list[bytes]:
        """Return the bytes of rows."""
        groups = sorted({place // GROUP for place in places})
        where = {group: position * GROUP for position, group in enumerate(groups)}
        table = self._file.read_row_groups(groups, columns=["data"])
        wanted = [where[place // GROUP] + place % GROUP for place in places]
        return table["data"].take(pa.array(wanted)).to_pylist()


class LooseRows:
    """Files, read one by one."""

    def __init__(self, paths: list[Path], *, decoded: bool = False) -> None:
        """Take their paths."""
        self._paths, self._decoded = paths, decoded

    def __len__(self) -> int:
        """Return how many."""
        return len(self._paths)

    def __getitems__(self, places: list[int]) -> list[Any]:
        """Return the bytes, or the pictures, of files."""
        found = [self._paths[place].read_bytes() for place in places]
        return [decode(data) for data in found] if self._decoded else found


class HubRows:
    """A Hugging Face dataset mapped from Arrow, images not decoded."""

    def __init__(self, snapshot: Snapshot, folder: Path) -> None:
        """Write it."""
        import datasets

        self._rows = snapshot.to_hf(folder=folder).cast_column("images", datasets.List(datasets.Image(decode=False)))

    def __getitems__(self, places: list[int]) -> list[Any]:
        """Return rows."""
        return self._rows[places]["images"]


def batches(count: int, seed: int, many: int) -> Iterator[list[int]]:
    """Yield random places."""
    order = random.Random(seed).sample(range(count), min(count, many * BATCH))  # noqa: S311
    yield from (order[start : start + BATCH] for start in range(0, len(order), BATCH))


def rate(rows: Any, count: int, seed: int, many: int) -> float:
    """Return rows a second."""
    shown, started = 0, time.perf_counter()
    for places in batches(count, seed, many):
        shown += len(rows.__getitems__(places))
    return shown / (time.perf_counter() - started)


def encoded(snapshot: Snapshot, paths: list[Path], folder: Path, rounds: int) -> dict[str, Any]:
    """Return rows a second of every rival, and the ratio to Parquet."""
    data = [path.read_bytes() for path in paths]
    pq.write_table(pa.table({"data": pa.array(data, pa.large_binary())}), folder / "rows.parquet", row_group_size=GROUP)
    del data
    contenders: dict[str, tuple[Any, int]] = {
        "vlmrecipes": (snapshot.torch(images="bytes"), 60),
        "parquet": (ParquetRows(folder / "rows.parquet"), 4),
        "hf_arrow": (HubRows(snapshot, folder), 60),
        "loose_files": (LooseRows(paths), 60),
    }
    best = dict.fromkeys(contenders, 0.0)
    for turn in range(rounds):
        for name, (rows, many) in contenders.items():
            best[name] = max(best[name], rate(rows, len(paths), turn, many))
    return {"rows_per_second": best, "times_parquet": best["vlmrecipes"] / best["parquet"]}


def same(rows: list[Any]) -> list[Any]:
    """Return a batch as it is."""
    return rows


def decoded(snapshot: Snapshot, paths: list[Path], workers: int, rounds: int) -> dict[str, Any]:
    """Return samples a second of both, and their ratio."""
    from torch.utils.data import DataLoader, Subset

    def passes(rows: Any) -> Callable[[], float]:
        some = Subset(rows, list(range(min(PASS, len(paths)))))
        loader = DataLoader(
            some,
            BATCH,
            shuffle=True,
            num_workers=workers,
            collate_fn=sizes,
            multiprocessing_context="spawn",
            persistent_workers=True,
        )

        def one() -> float:
            started = time.perf_counter()
            shown = sum(len(batch) for batch in loader)
            return shown / (time.perf_counter() - started)

        one()
        return one

    contenders = {
        "vlmrecipes": passes(snapshot.torch(transform=picture)),
        "loose_files": passes(LooseRows(paths, decoded=True)),
    }
    best = dict.fromkeys(contenders, 0.0)
    for _ in range(rounds):
        for name, one in contenders.items():
            best[name] = max(best[name], one())
    return {"samples_per_second": best, "of_loose_files": best["vlmrecipes"] / best["loose_files"]}


def picture(row: dict[str, Any]) -> Any:
    """Return a row's picture."""
    return row["images"][0]


def sizes(pictures: list[Any]) -> list[tuple[int, int]]:
    """Return little, so that what is timed is reading and decoding and not the way between processes."""
    return [one.size for one in pictures]


def memory(snapshot: Snapshot) -> dict[str, float]:
    """Return the growth over an epoch in MB."""
    shown, first, peak = 0, 0.0, 0.0
    for batch in snapshot.torch().loader(BATCH):
        shown += len(batch)
        if shown >= 1000:  # noqa: PLR2004 - caches are warm
            first = first or resident()
            peak = max(peak, resident())
    return {"images": shown, "growth_mb": resident() - first, "peak_growth_mb": peak - first}


def resident() -> float:
    """Return this process's resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        snapshot = make(folder, args.images)
        paths = [folder / "images" / f"{number}.jpg" for number in range(args.images)]
        result = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
            "versions": {
                name: version(name) for name in ("lancedb", "pylance", "pyarrow", "datasets", "pillow", "torch")
            },
            "images": args.images,
            "bytes_per_image": sum(path.stat().st_size for path in paths) // len(paths),
            "workers": args.workers,
            "memory": memory(snapshot),
            "encoded": encoded(snapshot, paths, folder, args.rounds),
            "decoded": decoded(snapshot, paths, args.workers, args.rounds),
        }
    text = json.dumps(result, indent=1)
    RESULTS.write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
