"""Removing snapshots, and freeing what only they held.

Every step leaves the store whole, so a killed prune is finished by the next one: the manifests go first, then images that
no kept snapshot names leave the newest version of the images table and its files, then kept manifests are moved to that
version (their images are named by content, so nothing else about them changes), and only then tags, versions and files are
cleaned.

Cleaning is done by `pylance`: LanceDB's own raises as soon as a tagged version is old.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from vlmrecipes.data.manifests import all_manifests, remove_manifest, replace_manifest
from vlmrecipes.data.place import is_remote, local
from vlmrecipes.data.snapshot import Snapshot
from vlmrecipes.data.store import IMAGES, ORIGINS, Store, columns, data_files, tagged

KEYS_AT_ONCE = 1000
_NOW = timedelta(0)


def remove(uri: str, doomed: Iterable[dict[str, Any]]) -> int:
    """Remove the snapshots of these manifests and all that no other one names; return the bytes that were freed.

    In a bucket these are counted from what was removed, less data written anew; a few kilobytes of new versions are not
    taken off.

    The caller has seen to it that nobody else writes to the store or reads an older version of it.
    """
    before = _size(uri)
    for manifest in doomed:
        remove_manifest(uri, manifest["name"], manifest["number"])
    store = Store(uri)
    if not store.has(IMAGES):
        return 0
    written = _shrink_images(store)
    kept = all_manifests(uri)
    freed = sum(_clean(store, table, kept) for table in sorted(_tables(store)))
    return freed - written if is_remote(uri) else before - _size(uri)


def unreferenced(uri: str, manifests: Sequence[dict[str, Any]]) -> set[str]:
    """Return the keys of the images that no snapshot of `manifests` names."""
    store = Store(uri)
    if not store.has(IMAGES):
        return set()
    return set(columns(store.table(IMAGES), ("key",))["key"].to_pylist()) - _named(uri, manifests)


def _named(uri: str, manifests: Iterable[dict[str, Any]]) -> set[str]:
    import pyarrow.compute as pc

    snapshots = [Snapshot(uri, manifest) for manifest in manifests]
    # Rows left out keep their images too: a curator looks at them.
    lists = (each.columns(role, ("images",))["images"] for each in snapshots for role in ("samples", "drops"))
    return {key for column in lists for key in pc.unique(pc.list_flatten(column)).to_pylist()}


def _shrink_images(store: Store) -> int:
    """Take what no kept snapshot names out of the newest version of the images, and let kept manifests name that one.

    Returns the bytes that were written anew for it.
    """
    uri = store.uri
    kept = all_manifests(uri)
    gone = sorted(unreferenced(uri, kept))
    dataset = store.dataset(IMAGES)
    holders = [dataset, store.dataset(ORIGINS)] if store.has(ORIGINS) else [dataset]
    for start in range(0, len(gone), KEYS_AT_ONCE):
        quoted = ", ".join(f"'{key}'" for key in gone[start : start + KEYS_AT_ONCE])
        for holder in holders:
            holder.delete(f"key IN ({quoted})")
    before = data_files(dataset)
    if any(fragment.num_deletions for fragment in dataset.get_fragments()):
        dataset.optimize.compact_files(materialize_deletions_threshold=0)
    clean = data_files(dataset)
    for manifest in kept:
        # Bytes lie in files, and a file that the newest version lacks may hold removed ones.
        if not data_files(Snapshot(uri, manifest).dataset(IMAGES)).keys() <= clean.keys():
            at = tagged(store.table(IMAGES), f"{manifest['name']}-{manifest['number']}")
            replace_manifest(uri, manifest | {"tables": manifest["tables"] | {IMAGES: at}})
    return sum(size for path, size in clean.items() if path not in before)


def _tables(store: Store) -> Iterator[str]:
    names = store.database().list_tables().tables
    owned = ("samples-", "drops-", "files-")
    return (name for name in names if name in (IMAGES, ORIGINS) or name.startswith(owned))


def _clean(store: Store, table: str, kept: Sequence[dict[str, Any]]) -> int:
    """Remove the tags, versions and files of a table that no manifest names; return the bytes that were freed."""
    named = {at["tag"] for manifest in kept for at in manifest["tables"].values() if at["name"] == table}
    if not named and table not in (IMAGES, ORIGINS):
        size = sum(data_files(store.dataset(table)).values())
        store.database().drop_table(table)
        return size
    dataset = store.dataset(table)
    for tag in dataset.tags.list():
        if tag not in named:
            dataset.tags.delete(tag)
    # In a bucket nothing keeps writers away: files of unknown use stay there for a week.
    done = dataset.cleanup_old_versions(
        _NOW, delete_unverified=not is_remote(store.uri), error_if_tagged_old_versions=False
    )
    return int(done.bytes_removed)


def _size(uri: str) -> int:
    """Return the bytes of a local store's files; 0 for one in a bucket."""
    if is_remote(uri):
        return 0
    return sum(path.stat().st_size for path in local(uri).glob("*.lance/**/*") if path.is_file())
