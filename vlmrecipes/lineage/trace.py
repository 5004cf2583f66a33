"""`lineage`: the chain of one thing, backwards and forwards, and what a withdrawn source would touch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.data.manifests import all_manifests
from vlmrecipes.data.snapshot import Snapshot, open_snapshot
from vlmrecipes.errors import InputError
from vlmrecipes.lineage import seen
from vlmrecipes.lineage.whole import add_file, add_files, whole
from vlmrecipes.records import ledger, predictions
from vlmrecipes.records.graph import Graph

SAMPLE = re.compile(r"[0-9a-f]{32}")
SHOWN = 200
"""Samples of one snapshot that a graph shows; all are counted."""


def lineage_of(name: str, *, store: str) -> dict[str, Any]:
    """Return the JSON object of `vlmrecipes lineage`: `of, nodes, edges`, and for images, samples and files `seen`.

    `name` is a run (id, its beginning, `latest`), a snapshot, a sample's id or `RUN:SAMPLE` for its prediction, the SHA-256
    (or 8 digits of it and more) of an image or of a source file, or the path of an export. `seen` tells which snapshots
    hold it on which side, `{snapshot, split, samples}`, which runs used that side, `{run, role, snapshot}`, and for an image,
    or a file that was prepared as one, which rows with it were left out, `{snapshot, source, row, reason, message}`.

    Raises InputError that says what was looked for.
    """
    graph = whole(store)
    starts, told = _starts(graph, name, store)
    # Pictures have no past in the store: that of the samples which show them is theirs.
    shown_in = {to for from_, to in graph.edges if from_ in starts and from_.startswith("image:")}
    past = graph.before([*starts, *shown_in])
    shown = graph.part(past | graph.after(starts))
    manifests = [one for one in all_manifests(store) if f"snapshot:{one['snapshot']}" in past]
    add_files(shown, store, manifests)
    return {"of": sorted(starts), **told, **shown.to_json()}


def _starts(graph: Graph, name: str, store: str) -> tuple[list[str], dict[str, Any]]:
    """Return the ids of the nodes that `name` stands for, added where they are no part of the whole, and what else to tell."""
    run, colon, sample = name.partition(":")
    if colon and SAMPLE.fullmatch(sample):
        return _prediction(graph, run, sample, store)
    if SAMPLE.fullmatch(name) and (holders := seen.samples(store, f"id = '{name}'")):
        return _samples(graph, holders)
    if exported := _export(graph, name):
        return exported, {}
    if seen.HEX.fullmatch(name) and (hit := _digest(graph, name, store)):
        return hit
    problems = []
    for look in (_run, _snapshot):
        try:
            return [look(name, store)], {}
        except InputError as error:
            problems += error.problems
    raise InputError(problems)


def _run(name: str, store: str) -> str:
    return f"run:{ledger.find(ledger.home(store), name).name}"


def _snapshot(name: str, store: str) -> str:
    return f"snapshot:{open_snapshot(store, name).name}"


def _export(graph: Graph, name: str) -> list[str]:
    wanted = {name, str(Path(name).absolute())}
    return [key for key, node in graph.nodes.items() if node["kind"] == "export" and node.get("path") in wanted]


def _digest(graph: Graph, digest: str, store: str) -> tuple[list[str], dict[str, Any]] | None:
    """Return the images with this SHA-256, or the files; None when there is neither."""
    if found := seen.images(store, digest):
        starts = [seen.add_image(graph, image) for image in found]
        keys = [image["key"] for image in found]
        holders = seen.holders(store, keys)
        _, told = _samples(graph, holders)
        told["seen"]["left_out"] = seen.left_out(store, keys)
        for snapshot, rows in holders:
            for row in rows[:SHOWN]:
                for image in found:
                    if image["key"] in row["images"]:
                        graph.link(f"image:{image['key']}", f"sample:{snapshot.name}/{row['id']}", "shown in")
        return starts, told
    return _files(graph, store, lambda file: file["sha256"].startswith(digest))


def _files(graph: Graph, store: str, fits: Any) -> tuple[list[str], dict[str, Any]] | None:
    starts, sides = [], []
    for manifest in all_manifests(store):
        snapshot = Snapshot(store, manifest)
        for file in snapshot.files():
            if fits(file):
                starts.append(add_file(graph, file))
                graph.link(starts[-1], f"source:{snapshot.name}/{file['source']}", "holds rows of")
                sides += [(snapshot.name, side, None) for side, count in manifest["splits"].items() if count]
    return (sorted(set(starts)), {"seen": _seen(graph, sides)}) if starts else None


def _samples(graph: Graph, found: Sequence[tuple[Snapshot, list[dict[str, Any]]]]) -> tuple[list[str], dict[str, Any]]:
    starts, sides = [], []
    for snapshot, rows in found:
        starts += seen.add_samples(graph, snapshot, rows[:SHOWN])
        counted = Counter(row["split"] for row in rows)
        sides += [(snapshot.name, side, counted[side]) for side in sorted(counted)]
        _only_used_sides(graph, snapshot.name, set(counted))
    return starts, {"seen": _seen(graph, sides)}


def _only_used_sides(graph: Graph, name: str, sides: set[str]) -> None:
    """Take out the plans that use no side of the snapshot on which the samples in question are."""
    for (source, target), how in list(graph.edges.items()):
        if source == f"snapshot:{name}" and target.startswith("plan:") and sides.isdisjoint(how.split(", ")):
            del graph.edges[source, target]


def _seen(graph: Graph, sides: Sequence[tuple[str, str, int | None]]) -> dict[str, Any]:
    """Return the snapshots by side, and the runs that used that side of them."""
    runs = []
    for name, side, _ in sides:
        for (source, target), how in sorted(graph.edges.items()):
            # A plan's roles are the sides that it uses.
            if source == f"snapshot:{name}" and target.startswith("plan:") and side in how.split(", "):
                done = [to for from_, to in graph.edges if from_ == target and to.startswith("run:")]
                runs += [{"run": graph.nodes[run]["run"], "role": side, "snapshot": name} for run in sorted(done)]
    return {
        "snapshots": [{"snapshot": name, "split": side, "samples": count} for name, side, count in sides],
        "runs": runs,
    }


def _prediction(graph: Graph, run: str, sample: str, store: str) -> tuple[list[str], dict[str, Any]]:
    """Add one sample's prediction between its sample, its images and the run's predictions."""
    folder = ledger.find(ledger.home(store), run)
    rows = [row for row in predictions.read(folder / predictions.NAME).to_pylist() if row["id"] == sample]
    if not rows:
        raise InputError.one(f"run {folder.name} has no prediction of sample {sample}")
    starts, told = _samples(graph, [(open_snapshot(store, rows[0]["snapshot"]), _rows(store, rows[0]))])
    for digest in rows[0]["images"]:
        for image in seen.images(store, digest):
            graph.link(seen.add_image(graph, image), starts[0], "shown in")
    facts = {row["model"]: row["prediction"] for row in rows}
    key = graph.add("prediction", f"{folder.name}/{sample}", f"prediction of {sample[:12]}", predictions=facts)
    graph.link(starts[0], key, "answered in")
    graph.link(
        f"weights:{folder.name}" if f"weights:{folder.name}" in graph.nodes else f"run:{folder.name}", key, "said"
    )
    return [key], told


def _rows(store: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    found = [rows for snapshot, rows in seen.samples(store, f"id = '{row['id']}'") if snapshot.name == row["snapshot"]]
    if not found:
        raise InputError.one(f"sample {row['id']} is not in {row['snapshot']}")
    return found[0]


def touched_by(source: str, *, store: str) -> dict[str, Any]:
    """Return what must be done again when a source is withdrawn: `source, snapshots, runs, exports, redo, nodes, edges`.

    `source` is a source's name, `DATASET/NAME`, or the path or SHA-256 of a file. `snapshots` is `[{snapshot, samples}]` with
    how many samples come from it, `runs` those that learned from them or were scored on them, also through the weights of
    another run. Raises InputError that names the sources there are.
    """
    graph = whole(store)
    starts = [key for key in graph.nodes if key.startswith("source:") and _is_named(key, source)]
    by_snapshot = _samples_of(starts, store)
    if not starts and (hit := _files(graph, store, lambda file: source in (file["path"], file["sha256"]))):
        starts = hit[0]
    if not starts:
        named = (_snapshot_and_name(key) for key in graph.nodes if key.startswith("source:"))
        known = sorted({f"{snapshot.partition('@')[0]}/{name}" for snapshot, name in named})
        raise InputError.one(f"no source {source!r}; there is: {', '.join(known) or 'none yet'}", key="--source")
    after = graph.after(starts)
    nodes = [graph.nodes[key] for key in sorted(after)]
    snapshots = [node["label"] for node in nodes if node["kind"] == "snapshot"]
    runs = [node["run"] for node in nodes if node["kind"] == "run"]
    return {
        "source": source,
        "snapshots": [{"snapshot": name, "samples": by_snapshot.get(name)} for name in snapshots],
        "runs": runs,
        "exports": [node.get("path") or node["label"] for node in nodes if node["kind"] == "export"],
        "redo": _redo(graph, snapshots, runs),
        **graph.part(after | graph.before(starts)).to_json(),
    }


def _snapshot_and_name(key: str) -> tuple[str, str]:
    """Return the snapshot and the name of a source from its node's id; the name may hold slashes."""
    snapshot, _, name = key.removeprefix("source:").partition("/")
    return snapshot, name


def _is_named(key: str, source: str) -> bool:
    snapshot, name = _snapshot_and_name(key)
    return source in (name, f"{snapshot}/{name}", f"{snapshot.partition('@')[0]}/{name}")


def _samples_of(sources: Sequence[str], store: str) -> dict[str, int]:
    """Return how many samples of these sources each snapshot holds that is in the store."""
    there = {manifest["snapshot"]: manifest for manifest in all_manifests(store)}
    found: Counter[str] = Counter()
    for snapshot, name in map(_snapshot_and_name, sources):
        if snapshot in there:
            quoted = name.replace("'", "''")
            found[snapshot] += Snapshot(store, there[snapshot]).table("samples").count_rows(f"source = '{quoted}'")
    return found


def _redo(graph: Graph, snapshots: Sequence[str], runs: Sequence[str]) -> list[str]:
    """Return the commands, in their order: the data first, then every training, then what was only scored."""
    datasets = dict.fromkeys(name.partition("@")[0] for name in snapshots)
    trained = [run for run in runs if f"weights:{run}" in graph.nodes]
    return [
        *(f"take the source out of the declaration of {name}; vlmrecipes ingest {name}.toml" for name in datasets),
        *(f"vlmrecipes rerun {run} --data latest" for run in trained),
        *(f"vlmrecipes rerun {run} --data latest{_renewed(graph, run, trained)}" for run in runs if run not in trained),
    ]


def _renewed(graph: Graph, run: str, trained: Sequence[str]) -> str:
    """Return whose weights a scoring must take instead, when those that it scored are to be trained again themselves."""
    old = [other for other in trained if (f"weights:{other}", f"run:{run}") in graph.edges]
    return f" --model RERUN_OF_{old[0]}" if old else ""
