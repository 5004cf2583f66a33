"""Wiring: declaration → sources → prepare → dedup → split → store → snapshot."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from vlmrecipes.data import dedup, split
from vlmrecipes.data.declaration import Declaration, read_declaration
from vlmrecipes.data.images import ImageError
from vlmrecipes.data.prepare import Prepared
from vlmrecipes.data.prepare.pool import Known, Origins, Outcome, Task, prepare_batches
from vlmrecipes.data.sample import Drop, Sample, Split, drop_schema, to_table
from vlmrecipes.data.snapshot import (
    MANIFEST_VERSION,
    numbers,
    open_snapshot,
    samples_fingerprint,
    write_manifest,
)
from vlmrecipes.data.sources import Opened, open_sources
from vlmrecipes.data.sources.candidate import Candidate, read_row
from vlmrecipes.data.store import Store, columns, local, locked, replace_samples
from vlmrecipes.errors import TooManyDropsError
from vlmrecipes.fingerprint import canonical, sha256
from vlmrecipes.progress import Advance, track
from vlmrecipes.version import VERSION

BATCH = 64
"""Rows handed to a worker at once."""
FLUSH_BYTES = 64 << 20
"""New images are written when so many bytes are waiting."""
SHOWN_DROPS = 5


@dataclass(slots=True)
class _Gathered:
    """What reading and preparing gave, in the order of the rows."""

    candidates: list[Candidate] = field(default_factory=list)
    images: list[list[tuple[str, str]]] = field(default_factory=list)
    """Per candidate: (key, pixel hash) of each image."""
    drops: list[Drop] = field(default_factory=list)
    read: int = 0


def ingest(file: Path, *, store: str, workers: int | None = None) -> dict[str, Any]:
    """Bring the dataset declared in `file` into the store, and freeze a snapshot if anything changed.

    Returns the JSON object of `vlmrecipes ingest`. Raises InputError, TooManyDropsError, StoreError.
    """
    started = time.monotonic()
    declaration = read_declaration(file)
    sources = open_sources(declaration, file)
    with locked(local(store) / "locks" / declaration.name):
        gathered = _gather(declaration, sources, Store(store), workers or os.cpu_count() or 1)
        samples, duplicates = _settle(declaration, gathered)
        _check_drops(declaration, gathered)
        manifest, unchanged = _freeze(declaration, gathered, samples, duplicates, store)
    return _summary(manifest, unchanged=unchanged, seconds=time.monotonic() - started)


def _gather(declaration: Declaration, sources: list[Opened], store: Store, workers: int) -> _Gathered:
    gathered = _Gathered()
    there = columns(store.images(), ("origin", "key", "pixels")).to_pydict()
    known = {
        origin: (key, pixels)
        for origin, key, pixels in zip(there["origin"], there["key"], there["pixels"], strict=True)
    }
    with track(f"ingest {declaration.name}", _expected(declaration)) as advance:
        batches = _batches(sources, gathered, advance)
        waiting: list[tuple[Candidate, ...]] = []
        writer = _ImageWriter(store, known)
        tasks = _remembered(batches, waiting)
        for outcomes in prepare_batches(tasks, declaration.prepare, Origins(known), workers):
            for candidate, outcome in zip(waiting.pop(0), outcomes, strict=True):
                _take(gathered, candidate, outcome, writer)
        writer.flush()
    return gathered


def _expected(declaration: Declaration) -> int | None:
    counts = [source.limit or getattr(source, "count", None) for source in declaration.source]
    return None if None in counts else sum(count or 0 for count in counts)


def _batches(sources: list[Opened], gathered: _Gathered, advance: Advance) -> Iterator[list[tuple[Candidate, Task]]]:
    """Yield readable rows in batches; count every row, and keep the unreadable ones as drops."""
    for opened in sources:
        rows = opened.rows()
        while head := list(islice(rows, BATCH)):
            gathered.read += len(head)
            found = [read_row(opened, row) for row in head]
            gathered.drops += [item for item in found if isinstance(item, Drop)]
            ready = [item for item in found if isinstance(item, Candidate)]
            yield [(item, Task(item.images, opened.root, item.crop)) for item in ready]
            advance(len(head))


def _remembered(
    batches: Iterator[list[tuple[Candidate, Task]]], waiting: list[tuple[Candidate, ...]]
) -> Iterator[list[Task]]:
    """Yield the tasks of each batch, and keep its candidates (without their image references) until the tasks are done."""
    for batch in batches:
        waiting.append(tuple(candidate for candidate, _ in batch))
        yield [task for _, task in batch]


class _ImageWriter:
    """New images on their way into the store, and the keys of all that are there."""

    def __init__(self, store: Store, known: dict[str, tuple[str, str]]) -> None:
        self._store, self._known = store, known
        self._keys = {key for key, _ in known.values()}
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, image: Prepared | Known) -> tuple[str, str]:
        """Return the image's key and pixel hash; a new one waits to be written."""
        if isinstance(image, Known):
            return self._known[image.origin]
        self._known[image.origin] = (image.key, image.pixels)
        if image.key not in self._keys:
            self._keys.add(image.key)
            self._rows.append({name: getattr(image, name) for name in Prepared.__slots__})
            self._bytes += len(image.data)
            if self._bytes >= FLUSH_BYTES:
                self.flush()
        return image.key, image.pixels

    def flush(self) -> None:
        """Write what waits."""
        self._store.add_images(self._rows)
        self._rows, self._bytes = [], 0


def _take(gathered: _Gathered, candidate: Candidate, outcome: Outcome, writer: _ImageWriter) -> None:
    if isinstance(outcome, ImageError):
        drop = Drop(source=candidate.source, key=candidate.key, reason=outcome.reason, message=outcome.message)
        gathered.drops.append(drop)
    else:
        gathered.candidates.append(candidate)
        gathered.images.append([writer.add(image) for image in outcome])


def _settle(declaration: Declaration, gathered: _Gathered) -> tuple[list[Sample], int]:
    """Return the samples, ordered by id, and how many rows were exact duplicates (now drops)."""
    pixels = [tuple(pixel for _, pixel in images) for images in gathered.images]
    declared = [candidate.split for candidate in gathered.candidates]
    contents = [_content(c, p) for c, p in zip(gathered.candidates, pixels, strict=True)]
    doubles = _duplicates(gathered, contents, declared) if declaration.dedup.exact else {}
    groups = [
        c.group or _own_group(p, content) for c, p, content in zip(gathered.candidates, pixels, contents, strict=True)
    ]
    # Duplicates take part, and join their groups: a row that comes later must not pull its elder twin out of eval.
    sides = split.sides(
        groups,
        [(*p, content) for p, content in zip(pixels, contents, strict=True)],
        declared,
        share=declaration.split.eval,
        salt=declaration.split.salt or declaration.name,
    )
    kept = sorted((row for row in range(len(contents)) if row not in doubles), key=lambda row: sides[row])
    seen: Counter[str] = Counter()
    keys = [tuple(key for key, _ in images) for images in gathered.images]
    samples = [_sample(gathered.candidates[row], keys[row], groups[row], sides[row], seen) for row in kept]
    return sorted(samples, key=lambda sample: sample.id), len(doubles)


def _content(candidate: Candidate, pixels: tuple[str, ...]) -> str:
    return sha256(canonical([pixels, candidate.messages, candidate.references]))


def _own_group(pixels: tuple[str, ...], content: str) -> str:
    return "+".join(pixels) if pixels else content


def _duplicates(gathered: _Gathered, contents: list[str], declared: list[Split | None]) -> dict[int, int]:
    rows = zip(gathered.candidates, gathered.images, strict=True)
    order = [f"{sha256(canonical([c.source, c.group, c.split, c.metadata]))} {images}" for c, images in rows]
    doubles = dedup.exact_duplicates(contents, declared, order)
    for row, kept in doubles.items():
        candidate, other = gathered.candidates[row], gathered.candidates[kept]
        message = f"same images, prompt and answer as {other.source} {other.key}"
        gathered.drops.append(Drop(source=candidate.source, key=candidate.key, reason="duplicate", message=message))
    return doubles


def _sample(candidate: Candidate, images: tuple[str, ...], group: str, side: Split, seen: Counter[str]) -> Sample:
    """Return the sample. Its id comes from what it says; copies that `dedup` was told to keep are told apart by number."""
    identity = [candidate.source, images, candidate.messages, candidate.references, group, candidate.metadata]
    content = sha256(canonical(identity))
    seen[content] += 1
    return Sample(
        id=(content if seen[content] == 1 else sha256(f"{content} {seen[content]}".encode()))[:32],
        images=images,
        messages=candidate.messages,
        references=candidate.references,
        group=group,
        split=side,
        source=candidate.source,
        metadata=candidate.metadata,
    )


def _check_drops(declaration: Declaration, gathered: _Gathered) -> None:
    bad = [drop for drop in gathered.drops if drop.reason != "duplicate"]
    if len(bad) <= declaration.max_dropped * gathered.read:
        return
    reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(drop.reason for drop in bad).most_common())
    shown = "\n".join(f"  {drop.source} {drop.key}: {drop.reason}: {drop.message}" for drop in bad[:SHOWN_DROPS])
    raise TooManyDropsError(
        f"{len(bad)} of {gathered.read} rows dropped, more than max_dropped = {declaration.max_dropped}: {reasons}\n"
        f"{shown}\nmend the data, or raise max_dropped; no snapshot was made"
    )


def _freeze(
    declaration: Declaration, gathered: _Gathered, samples: list[Sample], duplicates: int, uri: str
) -> tuple[dict[str, Any], bool]:
    """Return the manifest of the new snapshot, or of the newest one when its samples are the same; and which it was."""
    assert gathered.read == len(samples) + len(gathered.drops)  # noqa: S101 - nothing vanishes
    name, there = declaration.name, numbers(uri, declaration.name)
    digests = [(sample.id, sample.digest()) for sample in samples]
    fingerprint = samples_fingerprint(digests)
    newest = open_snapshot(uri, name) if there else None
    if newest and newest.fingerprint == fingerprint:
        return newest.manifest, True
    number = there[-1] + 1 if there else 1
    manifest = _manifest(declaration, gathered, samples, duplicates) | {
        "snapshot": f"{name}@{number}",
        "name": name,
        "number": number,
        "fingerprint": fingerprint,
        "parent": newest.name if newest else None,
        "tables": _write_tables(uri, declaration.name, number, samples, gathered.drops),
    }
    write_manifest(uri, name, number, manifest)
    return manifest, False


def _write_tables(uri: str, name: str, number: int, samples: list[Sample], drops: list[Drop]) -> dict[str, Any]:
    import pyarrow as pa

    store = Store(uri)
    replace_samples(store.samples(name), to_table(samples))
    rows = sorted((asdict(drop) for drop in drops), key=lambda row: (row["source"], row["key"]))
    store.drops(name).add(pa.Table.from_pylist(rows, schema=drop_schema()), mode="overwrite")
    tables = {"images": store.images(), "samples": store.samples(name), "drops": store.drops(name)}
    return {role: _tagged(table, f"{name}-{number}") for role, table in tables.items()}


def _tagged(table: Any, tag: str) -> dict[str, Any]:
    """Tag the table's version, so that no cleaning removes it. A tag left by a killed ingest is moved."""
    table.checkout_latest()
    version = table.version
    if tag in table.tags.list():
        table.tags.update(tag, version)
    else:
        table.tags.create(tag, version)
    return {"name": table.name, "version": version, "tag": tag}


def _manifest(declaration: Declaration, gathered: _Gathered, samples: list[Sample], duplicates: int) -> dict[str, Any]:
    sides = Counter(sample.split for sample in samples)
    leaks = _leaks(gathered, samples)
    return {
        "version": MANIFEST_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "tool": f"vlmrecipes {VERSION}",
        "license": declaration.license,
        "declaration": declaration.model_dump(mode="json"),
        "samples": len(samples),
        "rows": {"read": gathered.read, "samples": len(samples), "dropped": len(gathered.drops)},
        "drops": dict(sorted(Counter(drop.reason for drop in gathered.drops).items())),
        "images": len({key for sample in samples for key in sample.images}),
        "duplicates": {"exact": duplicates, "near": 0},
        "splits": {side: sides[side] for side in ("train", "eval")},
        "leaks": {"images": leaks},
    }


def _leaks(gathered: _Gathered, samples: list[Sample]) -> int:
    pixels = {key: pixel for images in gathered.images for key, pixel in images}
    found = [[pixels[key] for key in sample.images] for sample in samples]
    return len(split.shared_images([sample.split for sample in samples], found))


def _summary(manifest: dict[str, Any], *, unchanged: bool, seconds: float) -> dict[str, Any]:
    keys = ("snapshot", "fingerprint", "rows", "drops", "images", "duplicates", "splits", "leaks")
    return {key: manifest[key] for key in keys} | {"unchanged": unchanged, "seconds": round(seconds, 3)}
