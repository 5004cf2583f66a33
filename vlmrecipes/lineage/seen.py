"""Where images and samples are: in which snapshots, on which side, from which row of which file, seen by which run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vlmrecipes.data.manifests import all_manifests
from vlmrecipes.data.snapshot import Snapshot
from vlmrecipes.data.store import IMAGES, ORIGINS, Store
from vlmrecipes.lineage.whole import add_file
from vlmrecipes.records.graph import Graph

HEX = re.compile(r"[0-9a-f]{8,64}")
FACTS = ("key", "source_sha256", "pixels", "width", "height", "format", "source_width", "source_height", "steps")


def images(store: str, digest: str) -> list[dict[str, Any]]:
    """Return the images whose key, pixels or one of whose original files have the SHA-256 `digest`, or one that begins so.

    Each has `FACTS` and `originals`, the SHA-256 of every file that it was prepared from.
    """
    there = Store(store)
    if not HEX.fullmatch(digest) or not there.has(IMAGES):
        return []
    prepared = _listed(row["key"] for row in _origins(there, f"source_sha256 LIKE '{digest}%'"))
    where = " OR ".join(f"{column} LIKE '{digest}%'" for column in ("key", "source_sha256", "pixels"))
    where += f" OR key IN ({prepared})" if prepared else ""
    rows: list[dict[str, Any]] = there.table(IMAGES).search().where(where).select(list(FACTS)).to_arrow().to_pylist()
    return _with_originals(there, rows)


def _with_originals(store: Store, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found = {row["key"]: {row["source_sha256"]} for row in rows}
    for origin in _origins(store, f"key IN ({_listed(found)})") if found else ():
        found[origin["key"]].add(origin["source_sha256"])
    return [row | {"originals": sorted(filter(None, found[row["key"]]))} for row in rows]


def _origins(store: Store, condition: str) -> list[dict[str, Any]]:
    """Return `key` and `source_sha256` of the origins that satisfy an SQL `condition`; none in a store of an older version."""
    table = store.table(ORIGINS) if store.has(ORIGINS) else None
    if table is None or "source_sha256" not in table.schema.names:
        return []
    rows: list[dict[str, Any]] = table.search().where(condition).select(["key", "source_sha256"]).to_arrow().to_pylist()
    return rows


def _listed(keys: Iterable[str]) -> str:
    """Return keys as SQL lists them."""
    return ", ".join(f"'{key}'" for key in sorted(set(keys)))


def holders(store: str, keys: Iterable[str]) -> list[tuple[Snapshot, list[dict[str, Any]]]]:
    """Return the rows of every snapshot's samples that show one of these images."""
    return samples(store, _shows(keys))


def _shows(keys: Iterable[str]) -> str:
    return f"array_has_any(images, [{_listed(keys)}])"


def left_out(store: str, keys: Iterable[str]) -> list[dict[str, Any]]:
    """Return the rows with one of these images that snapshots left out: `snapshot, source, row, reason, message`."""
    return [
        {"snapshot": manifest["snapshot"], "row": drop.pop("key"), **drop}
        for manifest in all_manifests(store)
        for drop in _drops(Snapshot(store, manifest).table("drops"), _shows(keys))
    ]


def _drops(table: Any, condition: str) -> list[dict[str, Any]]:
    if "images" not in table.schema.names:  # an older version made it
        return []
    names = ["source", "key", "reason", "message"]
    rows: list[dict[str, Any]] = table.search().where(condition).select(names).to_arrow().to_pylist()
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
    """Add an image of `images` and the files that it was prepared from. Return its id."""
    key = graph.add("image", image["key"], f"image {image['key'][:12]}", **{name: image[name] for name in FACTS})
    for digest in image["originals"]:
        graph.link(graph.add("file", digest, "original image", sha256=digest), key, "prepared as")
    return key
