"""Wiring: declaration → sources → prepare → dedup → split → store → snapshot."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.declaration import Declaration, read_declaration
from vlmrecipes.data.earlier import eval_pictures, held_groups, moves
from vlmrecipes.data.lookalikes import Picture
from vlmrecipes.data.manifests import MANIFEST_VERSION, create_manifest, numbers, replace_manifest
from vlmrecipes.data.place import WRITERS, held, written
from vlmrecipes.data.prepare.batch import Task, task_batch
from vlmrecipes.data.prepare.pool import prepare_batches
from vlmrecipes.data.provenance import read_files, told_sources
from vlmrecipes.data.sample import Drop, Sample, drop_schema, file_schema, to_table
from vlmrecipes.data.settle import Settled, settle
from vlmrecipes.data.snapshot import Snapshot, open_snapshot, samples_fingerprint
from vlmrecipes.data.sources import Opened, open_sources
from vlmrecipes.data.sources.candidate import Candidate, read_rows
from vlmrecipes.data.stock import Stock
from vlmrecipes.data.store import Store, replace_rows, replace_samples, tagged
from vlmrecipes.data.verify import table_problems
from vlmrecipes.errors import TooManyDropsError
from vlmrecipes.fingerprint import canonical
from vlmrecipes.models.bounds import with_bounds
from vlmrecipes.progress import Advance, say, track
from vlmrecipes.version import VERSION

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 64
"""Rows read, and images fetched, at once."""
PORTION = 16
"""Rows handed to a worker at once; more when they share their first image."""
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
    declaration = with_bounds(read_declaration(file), file)
    sources = open_sources(declaration, file)
    benchmarks = eval_pictures(store, declaration.dedup.decontaminate, str(file))
    with written(store), held(store, WRITERS, shared=True), held(store, f"datasets/{declaration.name}"):
        stock = Stock(Store(store), declaration.name)
        gathered = _gather(declaration, sources, stock, workers or os.cpu_count() or 1)
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


def _gather(declaration: Declaration, sources: list[Opened], stock: Stock, workers: int) -> _Gathered:
    gathered = _Gathered()
    with track(f"ingest {declaration.name}", _expected(declaration)) as advance:
        waiting: deque[tuple[Candidate, ...]] = deque()
        tasks = _remembered(_batches(sources, gathered, advance), waiting)
        for outcome in prepare_batches(tasks, declaration.prepare, stock, workers):
            _take(gathered, waiting.popleft(), outcome, stock)
        stock.flush()
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
            for portion in _portions(ready):
                yield [(item, Task(item.images, opened.root, item.crop)) for item in portion]
            advance(len(head))


def _portions(rows: list[Candidate]) -> Iterator[list[Candidate]]:
    """Yield the rows a few at a time; neighbours with the same first image, such as the lines of a page, stay together."""
    portion: list[Candidate] = []
    for row in rows:
        if len(portion) >= PORTION and row.images[:1] != portion[-1].images[:1]:
            yield portion
            portion = []
        portion.append(row)
    if portion:
        yield portion


def _remembered(
    batches: Iterator[list[tuple[Candidate, Task]]], waiting: deque[tuple[Candidate, ...]]
) -> Iterator[pa.RecordBatch]:
    """Yield the tasks of each batch, and keep its candidates until the tasks are done."""
    for batch in batches:
        waiting.append(tuple(candidate for candidate, _ in batch))
        yield task_batch([task for _, task in batch])


def _take(gathered: _Gathered, candidates: tuple[Candidate, ...], outcome: pa.RecordBatch, stock: Stock) -> None:
    """Keep the candidates whose images are ready, each with them; the others are drops."""
    good = outcome.filter(outcome["reason"].is_null())
    pictures: list[list[Picture]] = [[] for _ in candidates]
    for row, picture in zip(good["row"].to_pylist(), stock.add(good), strict=True):
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
    """Return the manifest of the new snapshot, or of the newest one when it tells the same; and which it was."""
    samples, drops = settled.samples, gathered.drops + settled.drops
    assert gathered.read == len(samples) + len(drops)  # noqa: S101 - nothing vanishes
    name = declaration.name
    fingerprint = samples_fingerprint([(sample.id, sample.digest()) for sample in samples])
    facts = _facts(declaration, gathered, settled, drops) | {"fingerprint": fingerprint}
    tables = partial(_write_tables, uri, name, samples, drops, gathered.files)
    while True:
        there = numbers(uri, name)
        newest = open_snapshot(uri, f"{name}@{there[-1]}") if there else None
        if newest and canonical(facts) == canonical({key: newest.manifest.get(key) for key in facts}):
            return _mended(newest, tables, samples), True
        number = there[-1] + 1 if there else 1
        manifest = facts | {
            "version": MANIFEST_VERSION,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "tool": f"vlmrecipes {VERSION}",
            "snapshot": f"{name}@{number}",
            "name": name,
            "number": number,
            "parent": newest.name if newest else None,
            "moves": moves(newest, samples),
            "tables": tables(number),
        }
        if create_manifest(uri, manifest):  # otherwise another writer took the number: look again
            return manifest, False


def _mended(newest: Snapshot, tables: Callable[[int], dict[str, Any]], samples: list[Sample]) -> dict[str, Any]:
    """Return the manifest of an unchanged snapshot; when the store has lost tables or images of it, these are written again."""
    wanted = {key for sample in samples for key in sample.images}
    if not any(table_problems(newest)) and wanted <= set(newest.columns("images", ("key",))["key"].to_pylist()):
        return newest.manifest
    manifest = newest.manifest | {"tables": tables(newest.manifest["number"])}
    replace_manifest(newest.uri, manifest)
    say(f"the store had lost tables or images of {newest.name}: they are written again")
    return manifest


def _write_tables(  # noqa: PLR0913, PLR0917
    uri: str, name: str, samples: list[Sample], drops: list[Drop], files: list[dict[str, Any]], number: int
) -> dict[str, Any]:
    """Write samples, drops and files, and return the versions of the tables that hold what the snapshot names."""
    import pyarrow as pa

    tables = Store(uri).named(name)
    replace_samples(tables["samples"], to_table(samples))
    rows = sorted((asdict(drop) for drop in drops), key=lambda row: (row["source"], row["key"]))
    replace_rows(tables["drops"], pa.Table.from_pylist(rows, schema=drop_schema()))
    replace_rows(tables["files"], pa.Table.from_pylist(files, schema=file_schema()))
    return {role: tagged(table, f"{name}-{number}") for role, table in tables.items()}


def _facts(declaration: Declaration, gathered: _Gathered, settled: Settled, drops: list[Drop]) -> dict[str, Any]:
    """Return what a manifest says of data and declaration; when any of it changes, a new snapshot is frozen."""
    return {
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
    keys += ["splits", "brought_to_eval", "moves", "largest_group", "leaks"]
    return {key: manifest[key] for key in keys} | {"unchanged": unchanged, "seconds": round(seconds, 3)}
