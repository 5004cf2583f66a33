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

from vlmrecipes.data.declaration import Declaration, read_declaration
from vlmrecipes.data.images import ImageError
from vlmrecipes.data.manifests import MANIFEST_VERSION, create_manifest, numbers
from vlmrecipes.data.place import WRITERS, held
from vlmrecipes.data.prepare import Prepared
from vlmrecipes.data.prepare.pool import Known, Origins, Outcome, Task, prepare_batches
from vlmrecipes.data.sample import Drop, Sample, drop_schema, to_table
from vlmrecipes.data.settle import Picture, Settled, settle
from vlmrecipes.data.snapshot import open_snapshot, samples_fingerprint
from vlmrecipes.data.sources import Opened, open_sources
from vlmrecipes.data.sources.candidate import Candidate, read_rows
from vlmrecipes.data.store import Store, columns, replace_drops, replace_samples, tagged
from vlmrecipes.errors import TooManyDropsError
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
    images: list[tuple[Picture, ...]] = field(default_factory=list)
    """Per candidate."""
    drops: list[Drop] = field(default_factory=list)
    read: int = 0


def ingest(file: Path, *, store: str, workers: int | None = None) -> dict[str, Any]:
    """Bring the dataset declared in `file` into the store, and freeze a snapshot if anything changed.

    Returns the JSON object of `vlmrecipes ingest`. Raises InputError, TooManyDropsError, StoreError.
    """
    started = time.monotonic()
    declaration = read_declaration(file)
    sources = open_sources(declaration, file)
    with held(store, WRITERS, shared=True), held(store, f"datasets/{declaration.name}"):
        gathered = _gather(declaration, sources, Store(store), workers or os.cpu_count() or 1)
        _check_drops(declaration, gathered)
        settled = settle(declaration, gathered.candidates, gathered.images)
        manifest, unchanged = _freeze(declaration, gathered, settled, store)
    return _summary(manifest, unchanged=unchanged, seconds=time.monotonic() - started)


def _gather(declaration: Declaration, sources: list[Opened], store: Store, workers: int) -> _Gathered:
    gathered = _Gathered()
    there = columns(store.images(), ("origin", *Picture._fields)).to_pydict()
    facts = zip(*(there[name] for name in Picture._fields), strict=True)
    known = {origin: Picture(*values) for origin, values in zip(there["origin"], facts, strict=True)}
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
            found = read_rows(opened, head)
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

    def __init__(self, store: Store, known: dict[str, Picture]) -> None:
        self._store, self._known = store, known
        self._keys = {picture.key for picture in known.values()}
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, image: Prepared | Known) -> Picture:
        """Return what settling needs to know of the image; a new one waits to be written."""
        if isinstance(image, Known):
            return self._known[image.origin]
        picture = Picture(*(getattr(image, name) for name in Picture._fields))
        self._known[image.origin] = picture
        if image.key not in self._keys:
            self._keys.add(image.key)
            self._rows.append({name: getattr(image, name) for name in Prepared.__slots__})
            self._bytes += len(image.data)
            if self._bytes >= FLUSH_BYTES:
                self.flush()
        return picture

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
        gathered.images.append(tuple(writer.add(image) for image in outcome))


def _check_drops(declaration: Declaration, gathered: _Gathered) -> None:
    bad = gathered.drops
    if len(bad) <= declaration.max_dropped * gathered.read:
        return
    reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(drop.reason for drop in bad).most_common())
    shown = "\n".join(f"  {drop.source} {drop.key}: {drop.reason}: {drop.message}" for drop in bad[:SHOWN_DROPS])
    raise TooManyDropsError(
        f"{len(bad)} of {gathered.read} rows dropped, more than max_dropped = {declaration.max_dropped}: {reasons}\n"
        f"{shown}\nmend the data, or raise max_dropped; no snapshot was made"
    )


def _freeze(declaration: Declaration, gathered: _Gathered, settled: Settled, uri: str) -> tuple[dict[str, Any], bool]:
    """Return the manifest of the new snapshot, or of the newest one when its samples are the same; and which it was."""
    samples, drops = settled.samples, gathered.drops + settled.drops
    assert gathered.read == len(samples) + len(drops)  # noqa: S101 - nothing vanishes
    name = declaration.name
    fingerprint = samples_fingerprint([(sample.id, sample.digest()) for sample in samples])
    while True:
        there = numbers(uri, name)
        newest = open_snapshot(uri, f"{name}@{there[-1]}") if there else None
        if newest and newest.fingerprint == fingerprint:
            return newest.manifest, True
        number = there[-1] + 1 if there else 1
        manifest = _manifest(declaration, gathered.read, settled, drops) | {
            "snapshot": f"{name}@{number}",
            "name": name,
            "number": number,
            "fingerprint": fingerprint,
            "parent": newest.name if newest else None,
            "tables": _write_tables(uri, declaration.name, number, samples, drops),
        }
        if create_manifest(uri, manifest):  # otherwise another writer took the number: look again
            return manifest, False


def _write_tables(uri: str, name: str, number: int, samples: list[Sample], drops: list[Drop]) -> dict[str, Any]:
    """Write samples and drops, and return the versions of the three tables that hold what the snapshot names."""
    import pyarrow as pa

    store = Store(uri)
    tables = {"images": store.images(), "samples": store.samples(name), "drops": store.drops(name)}
    replace_samples(tables["samples"], to_table(samples))
    rows = sorted((asdict(drop) for drop in drops), key=lambda row: (row["source"], row["key"]))
    replace_drops(tables["drops"], pa.Table.from_pylist(rows, schema=drop_schema()))
    return {role: tagged(table, f"{name}-{number}") for role, table in tables.items()}


def _manifest(declaration: Declaration, read: int, settled: Settled, drops: list[Drop]) -> dict[str, Any]:
    return {
        "version": MANIFEST_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "tool": f"vlmrecipes {VERSION}",
        "license": declaration.license,
        "declaration": declaration.model_dump(mode="json"),
        "samples": len(settled.samples),
        "rows": {"read": read, "samples": len(settled.samples), "dropped": len(drops)},
        "drops": dict(sorted(Counter(drop.reason for drop in drops).items())),
        "images": len({key for sample in settled.samples for key in sample.images}),
        **settled.facts(),
    }


def _summary(manifest: dict[str, Any], *, unchanged: bool, seconds: float) -> dict[str, Any]:
    keys = ("snapshot", "fingerprint", "rows", "drops", "images", "duplicates", "splits", "leaks")
    return {key: manifest[key] for key in keys} | {"unchanged": unchanged, "seconds": round(seconds, 3)}
