"""All that a store knows of what came from what: every snapshot and every run in one graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vlmrecipes.data.manifests import all_manifests
from vlmrecipes.data.snapshot import Snapshot
from vlmrecipes.errors import StoreError
from vlmrecipes.progress import say
from vlmrecipes.records import exports, ledger
from vlmrecipes.records.graph import Graph, add_run, add_snapshot

MOST_FILES = 200
"""Files of one snapshot that a graph shows; its sources count them all."""


def whole(store: str) -> Graph:
    """Return the graph of all snapshots and runs, without files, images and samples. Runs that cannot be read are told."""
    graph, home = Graph(), ledger.home(store)
    for manifest in all_manifests(store):
        add_snapshot(graph, manifest)
    for line, record in reversed(ledger.entries(home)):
        try:
            why = "" if record and add_run(graph, record, exports.listed(home / line["run"])) else line["why"]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            why = f"its record is damaged: {error!r}"
        if why:
            say(f"run {line['run']} is left out: {why}")
    return graph


def add_files(graph: Graph, store: str, manifests: Iterable[Mapping[str, Any]]) -> None:
    """Add the files that snapshots were read from, up to `MOST_FILES` of each."""
    for manifest in manifests:
        try:
            files = Snapshot(store, dict(manifest)).files()
        except StoreError as error:
            say(f"files of {manifest['snapshot']} are not known: {error}")
            continue
        for file in files[:MOST_FILES]:
            source = f"source:{manifest['snapshot']}/{file['source']}"
            graph.link(add_file(graph, file), source, "holds rows of")


def add_file(graph: Graph, file: Mapping[str, Any]) -> str:
    """Add a file of rows; the same bytes under the same name are one file. Return its id."""
    facts = {key: file[key] for key in ("path", "sha256", "bytes")}
    return graph.add("file", f"{file['sha256'][:16]}/{file['path']}", file["path"], **facts)
