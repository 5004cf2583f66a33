"""Where images and samples are: in which snapshots, on which side, from which row of which file, seen by which run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vlmrecipes.data.manifests import all_manifests
from vlmrecipes.data.snapshot import Snapshot
from vlmrecipes.data.store import IMAGES, Store
from vlmrecipes.lineage.whole import add_file
from vlmrecipes.records.graph import Graph

HEX = re.compile(r"[0-9a-f]{8,64}")
FACTS = ("key", "source_sha256", "pixels", "width", "height", "format", "source_width", "source_height", "steps")


def images(store: str, digest: str) -> list[dict[str, Any]]:
    """Return the images whose key, original file or pixels have the SHA-256 `digest`, or one that begins so."""
    there = Store(store)
    if not HEX.fullmatch(digest) or not there.has(IMAGES):
        return []
    where = " OR ".join(f"{column} LIKE '{digest}%'" for column in ("key", "source_sha256", "pixels"))
    rows: list[dict[str, Any]] = there.table(IMAGES).search().where(where).select(list(FACTS)).to_arrow().to_pylist()
    return rows


def samples(store: str, condition: str) -> list[tuple[Snapshot, list[dict[str, Any]]]]:
    """Return the rows of every snapshot's samples that satisfy an SQL `condition`."""
    found = []
    for manifest in all_manifests(store):
        snapshot = Snapshot(store, manifest)
        table = snapshot.table("samples")
        names = [name for name in ("id", "images", "split", "source", "group", "key") if name in table.schema.names]
        if rows := table.search().where(condition).select(names).to_arrow().to_pylist():
            found.append((snapshot, rows))
    return found


def add_samples(graph: Graph, snapshot: Snapshot, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Add samples between the files they were read from and their snapshot. Return their ids."""
    files = snapshot.files()
    keys = []
    for row in rows:
        facts = {"split": row["split"], "source": row["source"], "row": row.get("key"), "group": row["group"]}
        title = f"{row['split']} {row.get('key') or row['id']}"
        key = graph.add("sample", f"{snapshot.name}/{row['id']}", title, **facts)
        graph.link(key, f"snapshot:{snapshot.name}", row["split"])
        graph.link(f"source:{snapshot.name}/{row['source']}", key, "gave")
        for file in _files_of(row, files):
            graph.link(add_file(graph, file), f"source:{snapshot.name}/{row['source']}", "holds rows of")
        keys.append(key)
    return keys


def _files_of(row: Mapping[str, Any], files: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the file that a row's key names; the source's only file where the declaration gives rows keys of their own."""
    own = [file for file in files if file["source"] == row["source"]]
    key = row.get("key") or ""
    named = [file for file in own if key == file["path"] or key.startswith(f"{file['path']}:")]
    return named[:1] or (own if len(own) == 1 else [])


def add_image(graph: Graph, image: Mapping[str, Any]) -> str:
    """Add an image and the file that it was before it was prepared. Return its id."""
    key = graph.add("image", image["key"], f"image {image['key'][:12]}", **{name: image[name] for name in FACTS})
    if digest := image["source_sha256"]:
        graph.link(graph.add("file", digest, "original image", sha256=digest), key, "prepared as")
    return key
