"""Wiring: declaration → sources → prepare → dedup → split → store → snapshot."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.declaration import Declaration, read_declaration
from vlmrecipes.data.earlier import eval_pictures, held_groups, moves
from vlmrecipes.data.lookalikes import Picture
from vlmrecipes.data.manifests import MANIFEST_VERSION, create_manifest, numbers
from vlmrecipes.data.place import WRITERS, held
from vlmrecipes.data.prepare.batch import Origins, Task, task_batch
from vlmrecipes.data.prepare.pool import prepare_batches
from vlmrecipes.data.provenance import read_files, told_sources
from vlmrecipes.data.sample import Drop, Sample, drop_schema, file_schema, image_schema, to_table
from vlmrecipes.data.settle import Settled, settle
from vlmrecipes.data.snapshot import open_snapshot, samples_fingerprint
from vlmrecipes.data.sources import Opened, open_sources
from vlmrecipes.data.sources.candidate import Candidate, read_rows
from vlmrecipes.data.store import Store, columns, replace_rows, replace_samples, tagged
from vlmrecipes.errors import TooManyDropsError
from vlmrecipes.progress import Advance, track
from vlmrecipes.version import VERSION

if TYPE_CHECKING:
    import pyarrow as pa

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
    files: list[dict[str, Any]] = field(default_factory=list)
    """`source, path, sha256, bytes` of every file of rows."""
    sources: list[dict[str, Any]] = field(default_factory=list)
    """What each source was."""


def ingest(file: Path, *, store: str, workers: int | None = None) -> dict[str, Any]:
    """Bring the dataset declared in `file` into the store, and freeze a snapshot if anything changed.

    Returns the JSON object of `vlmrecipes ingest`. Raises InputError, TooManyDropsError, StoreError.
    """
    started = time.monotonic()
    declaration = read_declaration(file)
    sources = open_sources(declaration, file)
    benchmarks = eval_pictures(store, declaration.dedup.decontaminate, str(file))
    with held(store, WRITERS, shared=True), held(store, f"datasets/{declaration.name}"):
        gathered = _gather(declaration, sources, Store(store), workers or os.cpu_count() or 1)
        gathered.files = read_files(sources)
        gathered.sources = told_sources(sources, gathered.files)
        _check_drops(declaration, gathered)
        settled = settle(
            declaration,
            gathered.candidates,
            gathered.images,
            benchmarks=benchmarks,
            held=held_groups(store, declaration),
        )
        manifest, unchanged = _freeze(declaration, gathered, settled, store)
    return _summary(manifest, unchanged=unchanged, seconds=time.monotonic() - started)


def _gather(declaration: Declaration, sources: list[Opened], store: Store, workers: int) -> _Gathered:
    gathered = _Gathered()
    there = columns(store.images(), ("origin", *Picture._fields)).to_pydict()
    facts = zip(*(there[name] for name in Picture._fields), strict=True)
    known = {origin: Picture(*values) for origin, values in zip(there["origin"], facts, strict=True)}
    with track(f"ingest {declaration.name}", _expected(declaration)) as advance:
        waiting: deque[tuple[Candidate, ...]] = deque()
        tasks = _remembered(_batches(sources, gathered, advance), waiting)
        writer = _ImageWriter(store, known)
        for outcome in prepare_batches(tasks, declaration.prepare, Origins(known), workers):
            _take(gathered, waiting.popleft(), outcome, writer)
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
    batches: Iterator[list[tuple[Candidate, Task]]], waiting: deque[tuple[Candidate, ...]]
) -> Iterator[pa.RecordBatch]:
    """Yield the tasks of each batch, and keep its candidates until the tasks are done."""
    for batch in batches:
        waiting.append(tuple(candidate for candidate, _ in batch))
        yield task_batch([task for _, task in batch])


class _ImageWriter:
    """New images on their way into the store, and what is known of all that are there."""

    def __init__(self, store: Store, known: dict[str, Picture]) -> None:
        self._store, self._known = store, known
        self._keys = {picture.key for picture in known.values()}
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = 0

    def add(self, images: pa.RecordBatch) -> list[Picture]:
        """Return what settling needs to know of each image; new ones wait to be written."""
        origins = images["origin"].to_pylist()
        facts = zip(*(images[name].to_pylist() for name in Picture._fields), strict=True)
        fresh = []
        for place, (origin, values) in enumerate(zip(origins, facts, strict=True)):
            picture = Picture(*values)
            if picture.key is not None and self._known.setdefault(origin, picture).key not in self._keys:
                self._keys.add(picture.key)
                fresh.append(place)
        if fresh:
            self._wait(images.take(fresh))
        return [self._known[origin] for origin in origins]

    def _wait(self, images: pa.RecordBatch) -> None:
        self._waiting.append(images.select(image_schema().names))
        self._bytes += images.nbytes
        if self._bytes >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        import pyarrow as pa

        if self._waiting:
            self._store.add_images(pa.Table.from_batches(self._waiting).cast(image_schema()))
        self._waiting, self._bytes = [], 0


def _take(
    gathered: _Gathered, candidates: tuple[Candidate, ...], outcome: pa.RecordBatch, writer: _ImageWriter
) -> None:
    """Keep the candidates whose images are ready, each with them; the others are drops."""
    good = outcome.filter(outcome["reason"].is_null())
    pictures: list[list[Picture]] = [[] for _ in candidates]
    for row, picture in zip(good["row"].to_pylist(), writer.add(good), strict=True):
        pictures[row].append(picture)
    bad = outcome.filter(outcome["reason"].is_valid()).select(["row", "reason", "message"]).to_pylist()
    why = {problem["row"]: (problem["reason"], problem["message"]) for problem in bad}
    for row, candidate in enumerate(candidates):
        if row in why:
            reason, message = why[row]
            gathered.drops.append(Drop(source=candidate.source, key=candidate.key, reason=reason, message=message))
        else:
            gathered.candidates.append(replace(candidate, images=()))
            gathered.images.append(tuple(pictures[row]))


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
        manifest = _manifest(declaration, gathered, settled, drops) | {
            "snapshot": f"{name}@{number}",
            "name": name,
            "number": number,
            "fingerprint": fingerprint,
            "parent": newest.name if newest else None,
            "moves": moves(newest, samples),
            "tables": _write_tables(uri, declaration.name, number, samples, drops, gathered.files),
        }
        if create_manifest(uri, manifest):  # otherwise another writer took the number: look again
            return manifest, False


def _write_tables(  # noqa: PLR0913, PLR0917
    uri: str, name: str, number: int, samples: list[Sample], drops: list[Drop], files: list[dict[str, Any]]
) -> dict[str, Any]:
    """Write samples, drops and files, and return the versions of the tables that hold what the snapshot names."""
    import pyarrow as pa

    store = Store(uri)
    tables = {"images": store.images(), "samples": store.samples(name), "drops": store.drops(name)}
    tables["files"] = store.files(name)
    replace_samples(tables["samples"], to_table(samples))
    rows = sorted((asdict(drop) for drop in drops), key=lambda row: (row["source"], row["key"]))
    replace_rows(tables["drops"], pa.Table.from_pylist(rows, schema=drop_schema()))
    replace_rows(tables["files"], pa.Table.from_pylist(files, schema=file_schema()))
    return {role: tagged(table, f"{name}-{number}") for role, table in tables.items()}


def _manifest(declaration: Declaration, gathered: _Gathered, settled: Settled, drops: list[Drop]) -> dict[str, Any]:
    return {
        "version": MANIFEST_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "tool": f"vlmrecipes {VERSION}",
        "license": declaration.license,
        "declaration": declaration.model_dump(mode="json"),
        "sources": gathered.sources,
        "samples": len(settled.samples),
        "rows": {"read": gathered.read, "samples": len(settled.samples), "dropped": len(drops)},
        "drops": dict(sorted(Counter(drop.reason for drop in drops).items())),
        "images": len({key for sample in settled.samples for key in sample.images}),
        **settled.facts(),
    }


def _summary(manifest: dict[str, Any], *, unchanged: bool, seconds: float) -> dict[str, Any]:
    keys = ["snapshot", "fingerprint", "rows", "drops", "images", "duplicates", "contaminated", "contradictions"]
    keys += ["splits", "moves", "largest_group", "leaks"]
    return {key: manifest[key] for key in keys} | {"unchanged": unchanged, "seconds": round(seconds, 3)}
