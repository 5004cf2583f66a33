"""Is a snapshot still what was frozen? Every sample and every image byte is read and hashed again."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from vlmrecipes.data import split
from vlmrecipes.data.manifests import seal
from vlmrecipes.data.sample import Sample, from_table
from vlmrecipes.data.snapshot import Snapshot, samples_fingerprint
from vlmrecipes.errors import StoreError
from vlmrecipes.progress import track

if TYPE_CHECKING:
    import pyarrow as pa

FIRST_ROWS = 16
"""Images read at once to begin with; their size decides how many are later."""
BYTES_AT_ONCE = 8 << 20
"""Image bytes that a thread reads and hashes at once: more take longer a byte, fewer cost calls."""
MOST_ROWS = 128
"""Images read at once, however small the first ones were."""
BATCHES_AT_ONCE = 64
"""Batches handed out at once."""
THREADS = (os.cpu_count() or 1) + 1
_BROKEN = (OSError, RuntimeError, ValueError, KeyError, TypeError, StoreError)
"""What reading a damaged table may raise."""


def verify(snapshot: Snapshot) -> dict[str, Any]:
    """Return `{"ok", "problems", "samples", "images", "bytes"}`; `problems` are sentences, empty when all is well.

    Checked are the manifest's seal, that the tables and tags it names are there, the digest of every sample and the
    fingerprint over them, every count, that no image stands on both sides, and the SHA-256 of every image's bytes.
    """
    problems = [*_manifest(snapshot), *_tables(snapshot)]
    samples: list[Sample] = []
    hashed = {"images": 0, "bytes": 0}
    with ThreadPoolExecutor(1) as beside:
        images: Future[list[str]] | None = None
        try:
            table = snapshot.table("samples").search().to_arrow()
            images = beside.submit(_images, snapshot, _named(table), hashed)
            samples = from_table(table)
            problems += [*_samples(snapshot, samples, table), *_counts(snapshot, samples)]
        except _BROKEN as error:
            problems.append(f"samples: cannot be read: {error}")
        try:
            problems += images.result() if images else []
        except _BROKEN as error:
            problems.append(f"images: cannot be read: {error}")
    return {"snapshot": snapshot.name, "ok": not problems, "problems": problems, "samples": len(samples), **hashed}


def _manifest(snapshot: Snapshot) -> Iterator[str]:
    manifest = snapshot.manifest
    if manifest.get("seal") != seal(manifest):
        yield "manifest: was changed after it was written: its seal does not match"
    if manifest["snapshot"] != f"{manifest['name']}@{manifest['number']}":
        yield f"manifest: calls itself {manifest['snapshot']}, of {manifest['name']} number {manifest['number']}"


def _tables(snapshot: Snapshot) -> Iterator[str]:
    for role, at in snapshot.manifest["tables"].items():
        try:
            tags = snapshot.table(role).tags.list()
        except _BROKEN as error:
            yield f"{role}: {error}"
            continue
        version = tags.get(at["tag"], {}).get("version")
        if version != at["version"]:
            yield f"{role}: tag {at['tag']} names version {version}, the manifest {at['version']}"


def _samples(snapshot: Snapshot, samples: Sequence[Sample], table: pa.Table) -> Iterator[str]:
    digests = [sample.digest() for sample in samples]
    stored = table["digest"].to_pylist()
    for sample, digest, kept in zip(samples, digests, stored, strict=True):
        if digest != kept:
            yield f"sample {sample.id}: does not match its digest"
    found = samples_fingerprint([(sample.id, digest) for sample, digest in zip(samples, digests, strict=True)])
    if found != snapshot.fingerprint:
        yield f"samples: fingerprint {found}, the manifest says {snapshot.fingerprint}"


def _counts(snapshot: Snapshot, samples: Sequence[Sample]) -> Iterator[str]:
    """Compare what the manifest counts with what is there."""
    manifest = snapshot.manifest
    reasons = Counter(snapshot.columns("drops", ("reason",))["reason"].to_pylist())
    sides = Counter(sample.split for sample in samples)
    found = {
        "samples": len(samples),
        "rows": {"read": len(samples) + reasons.total(), "samples": len(samples), "dropped": reasons.total()},
        "drops": dict(sorted(reasons.items())),
        "images": len({key for sample in samples for key in sample.images}),
        "splits": {side: sides[side] for side in ("train", "eval")},
    }
    for name, value in found.items():
        if manifest[name] != value:
            yield f"{name}: {value} found, the manifest says {manifest[name]}"
    leaks = len(_leaks(snapshot, samples))
    if leaks != manifest["leaks"]["images"]:
        yield f"leaks: {leaks} images stand on both sides, the manifest says {manifest['leaks']['images']}"


def _leaks(snapshot: Snapshot, samples: Sequence[Sample]) -> set[str]:
    pixels = snapshot.pixels()
    found = [[pixels.get(key, key) for key in sample.images] for sample in samples]
    return split.on_both([sample.split for sample in samples], found)


def _named(samples: pa.Table) -> set[str]:
    import pyarrow.compute as pc

    return set(pc.unique(pc.list_flatten(samples["images"])).to_pylist())


def _images(snapshot: Snapshot, wanted: set[str], hashed: dict[str, int]) -> list[str]:
    """Hash every wanted image, in the order they lie in the table; count into `hashed`."""
    table = snapshot.table("images")
    kept = table.search().with_row_id(True).select(["key"]).to_arrow()
    keys = dict(zip(kept["_rowid"].to_pylist(), kept["key"].to_pylist(), strict=True))
    rows = sorted(row for row, key in keys.items() if key in wanted)
    there: set[str] = set()
    with track(f"verify {snapshot.name}", len(rows)) as advance:
        for found in _hashes(table, rows):
            there.update(key for key, _ in found)
            hashed["images"] += len(found)
            hashed["bytes"] += sum(size for _, size in found)
            advance(len(found))
    absent = wanted.difference(keys.values())
    wrong = [row for row in rows if keys[row] not in there]
    return [
        *(f"image {key}: is not in the store" for key in sorted(absent)),
        *(
            f"image {keys[row]}: its bytes have the SHA-256 {found}"
            for row in wrong
            for found, _ in _batch(table, [row])
        ),
    ]


def _hashes(table: Any, rows: Sequence[int]) -> Iterator[list[tuple[str, int]]]:
    """Yield SHA-256 and length of the bytes of some rows at a time. An image's key is its hash, so keys are not read."""
    first = _batch(table, rows[:FIRST_ROWS]) if rows else []
    yield first
    size = max(1, sum(size for _, size in first) // max(1, len(first)))
    step = min(MOST_ROWS, max(1, BYTES_AT_ONCE // size))
    batches = [rows[start : start + step] for start in range(len(first), len(rows), step)]
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(batches), BATCHES_AT_ONCE):
            yield from pool.map(partial(_batch, table), batches[start : start + BATCHES_AT_ONCE])


def _batch(table: Any, rows: Sequence[int]) -> list[tuple[str, int]]:
    """Read and hash some images. The interpreter's lock is free meanwhile (over 2 kB an image): threads are enough."""
    buffers = [value.as_buffer() for value in table.take_row_ids(rows).select(["data"]).to_arrow()["data"]]
    return [(hashlib.sha256(buffer).hexdigest(), buffer.size) for buffer in buffers]
