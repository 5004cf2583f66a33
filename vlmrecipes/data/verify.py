"""Is a snapshot still what was frozen? Every sample and every image byte is read and hashed again."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from vlmrecipes.data import split
from vlmrecipes.data.manifests import seal
from vlmrecipes.data.sample import from_table
from vlmrecipes.data.snapshot import Snapshot, samples_fingerprint
from vlmrecipes.data.store import data_files
from vlmrecipes.errors import StoreError
from vlmrecipes.progress import track

if TYPE_CHECKING:
    import pyarrow as pa

BYTES_AT_ONCE = 8 << 20
"""Bytes of images that a thread reads and hashes at once, on average: more take longer a byte, fewer cost calls."""
MOST_ROWS = 64
"""Images read at once, however small."""
BATCHES_AT_ONCE = 64
"""Batches handed out at once."""
SAMPLES_AT_ONCE = 1000
"""Samples taken apart at once: all of a large set would fill the memory, and keep the garbage collector busy."""
THREADS = (os.cpu_count() or 1) + 2
_BROKEN = (OSError, RuntimeError, ValueError, KeyError, TypeError, StoreError)
"""What reading a damaged table may raise."""


def verify(snapshot: Snapshot) -> dict[str, Any]:
    """Return `{"snapshot", "ok", "problems", "samples", "images"}`; `problems` are sentences, empty when all is well.

    Checked are the manifest's seal, that the tables and tags it names are there, the digest of every sample and the
    fingerprint over them, every count, that no image stands on both sides, and the SHA-256 of every image's bytes.
    """
    samples, images, found = 0, 0, list[str]()
    with ThreadPoolExecutor(2) as beside:
        around = beside.submit(lambda: [*_manifest(snapshot), *table_problems(snapshot)])
        hashing: Future[tuple[int, list[str]]] | None = None
        try:
            table = snapshot.table("samples").search().to_arrow()
            samples = len(table)
            hashing = beside.submit(_images, snapshot, _named(table))
            found += [*_samples(snapshot, table), *_counts(snapshot, table)]
        except _BROKEN as error:
            found.append(f"samples: cannot be read: {error}")
        try:
            images, wrong = hashing.result() if hashing else (0, [])
            found += wrong
        except _BROKEN as error:
            found.append(f"images: cannot be read: {error}")
        problems = [*around.result(), *found]
    counts = {"samples": samples, "images": images}
    return {"snapshot": snapshot.name, "ok": not problems, "problems": problems, **counts}


def _manifest(snapshot: Snapshot) -> Iterator[str]:
    manifest = snapshot.manifest
    if manifest.get("seal") != seal(manifest):
        yield "manifest: was changed after it was written: its seal does not match"
    if manifest["snapshot"] != f"{manifest['name']}@{manifest['number']}":
        yield f"manifest: calls itself {manifest['snapshot']}, of {manifest['name']} number {manifest['number']}"


def table_problems(snapshot: Snapshot) -> Iterator[str]:
    """Yield a sentence for each table of the manifest that is not there at its version, or whose tag does not hold that."""
    for role, at in snapshot.manifest["tables"].items():
        try:
            tags = snapshot.table(role).tags.list()
        except _BROKEN as error:
            yield f"{role}: {error}"
            continue
        version = tags.get(at["tag"], {}).get("version")
        if version != at["version"]:
            yield f"{role}: tag {at['tag']} names version {version}, the manifest {at['version']}"


def _samples(snapshot: Snapshot, table: pa.Table) -> Iterator[str]:
    digests = []
    for start in range(0, len(table), SAMPLES_AT_ONCE):
        digests += [(sample.id, sample.digest()) for sample in from_table(table.slice(start, SAMPLES_AT_ONCE))]
    for (name, digest), kept in zip(digests, table["digest"].to_pylist(), strict=True):
        if digest != kept:
            yield f"sample {name}: does not match its digest"
    found = samples_fingerprint(digests)
    if found != snapshot.fingerprint:
        yield f"samples: fingerprint {found}, the manifest says {snapshot.fingerprint}"


def _counts(snapshot: Snapshot, table: pa.Table) -> Iterator[str]:
    """Compare what the manifest counts with what is there."""
    manifest = snapshot.manifest
    reasons = Counter(snapshot.columns("drops", ("reason",))["reason"].to_pylist())
    sides = Counter(table["split"].to_pylist())
    found = {
        "samples": len(table),
        "rows": {"read": len(table) + reasons.total(), "samples": len(table), "dropped": reasons.total()},
        "drops": dict(sorted(reasons.items())),
        "images": len(_named(table)),
        "splits": {side: sides[side] for side in ("train", "eval")},
    }
    for name, value in found.items():
        if manifest[name] != value:
            yield f"{name}: {value} found, the manifest says {manifest[name]}"
    leaks = len(_leaks(snapshot, table))
    if leaks != manifest["leaks"]["images"]:
        yield f"leaks: {leaks} images stand on both sides, the manifest says {manifest['leaks']['images']}"


def _leaks(snapshot: Snapshot, table: pa.Table) -> set[str]:
    pixels = snapshot.pixels()
    found = [[pixels.get(key, key) for key in keys] for keys in table["images"].to_pylist()]
    return split.on_both(table["split"].to_pylist(), found)


def _named(samples: pa.Table) -> set[str]:
    import pyarrow.compute as pc

    return set(pc.unique(pc.list_flatten(samples["images"])).to_pylist())


def _images(snapshot: Snapshot, wanted: set[str]) -> tuple[int, list[str]]:
    """Hash every wanted image, in the order they lie in the table; return how many there are, and what is wrong."""
    table = snapshot.dataset("images")
    keys = table.to_table(columns=["key"])["key"].to_pylist()
    rows = [row for row, key in enumerate(keys) if key in wanted]
    problems = [f"image {key}: is not in the store" for key in sorted(wanted.difference(keys))]
    with track(f"verify {snapshot.name}", len(rows)) as advance:
        for sums in _hashes(table, rows):
            wrong = [(keys[row], found) for row, found in sums if found != keys[row]]
            problems += [f"image {key}: its bytes have the SHA-256 {found}" for key, found in wrong]
            advance(len(sums))
    return len(rows), problems


def _hashes(table: Any, rows: Sequence[int]) -> Iterator[list[tuple[int, str]]]:
    """Yield some rows at a time, each with the SHA-256 of its image's bytes."""
    size = sum(data_files(table).values()) // max(1, table.count_rows()) + 1
    step = min(MOST_ROWS, max(1, BYTES_AT_ONCE // size))
    batches = [rows[start : start + step] for start in range(0, len(rows), step)]
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(batches), BATCHES_AT_ONCE):
            yield from pool.map(partial(_batch, table), batches[start : start + BATCHES_AT_ONCE])


def _batch(table: Any, rows: Sequence[int]) -> list[tuple[int, str]]:
    """Hash some images where they are read: their bytes never reach Python, whose lock would let one core rest."""
    sums = table.take(rows, columns={"sum": "sha256(data)"})["sum"].to_pylist()
    return [(row, found.hex()) for row, found in zip(rows, sums, strict=True)]
