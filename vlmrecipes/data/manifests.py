"""Manifests of snapshots: written last, whole or not at all, never replaced.

In a local store a manifest is the file `snapshots/NAME/N.json`, put in place by a hard link. In a bucket it is a row of the
table `snapshots`, inserted only if its key is absent, which Lance commits by a conditional put. Either way one of several
writers of the same number wins, and the others are told.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vlmrecipes.data.place import is_remote, local
from vlmrecipes.data.sample import primary_key
from vlmrecipes.data.store import Store, add_absent
from vlmrecipes.errors import StoreError
from vlmrecipes.fingerprint import fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST_VERSION = 1
TABLE = "snapshots"


class _Shelf(Protocol):
    def entries(self) -> list[tuple[str, int]]: ...
    def read(self, name: str, number: int) -> str: ...
    def create(self, name: str, number: int, text: str) -> bool: ...
    def replace(self, name: str, number: int, text: str) -> None: ...
    def remove(self, name: str, number: int) -> None: ...


def numbers(uri: str, name: str) -> list[int]:
    """Return the numbers of the snapshots of a dataset, ascending."""
    return sorted(number for dataset, number in _shelf(uri).entries() if dataset == name)


def all_manifests(uri: str) -> list[dict[str, Any]]:
    """Return the manifests of all snapshots, by name and number. Reads no table of data."""
    shelf = _shelf(uri)
    return [_parsed(uri, shelf, name, number) for name, number in sorted(shelf.entries())]


def read_manifest(uri: str, name: str, number: int) -> dict[str, Any]:
    """Return a manifest. Raises StoreError when it cannot be read or a newer version wrote it."""
    return _parsed(uri, _shelf(uri), name, number)


def create_manifest(uri: str, manifest: dict[str, Any]) -> bool:
    """Write the manifest under its `name` and `number`, unless another is there; tell whether it was written."""
    return _shelf(uri).create(manifest["name"], manifest["number"], _sealed(manifest))


def replace_manifest(uri: str, manifest: dict[str, Any]) -> None:
    """Put the manifest in the place of the one with its name and number, in one step. Only where its bytes lie may differ."""
    _shelf(uri).replace(manifest["name"], manifest["number"], _sealed(manifest))


def seal(manifest: dict[str, Any]) -> str:
    """Return the fingerprint of all that a manifest says but its own `seal`."""
    return fingerprint({key: value for key, value in manifest.items() if key != "seal"})


def _sealed(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest | {"seal": seal(manifest)}, indent=2, ensure_ascii=False, sort_keys=True)


def remove_manifest(uri: str, name: str, number: int) -> None:
    """Remove a manifest: the snapshot is no more. Its tables stay until they are cleaned."""
    _shelf(uri).remove(name, number)


def _shelf(uri: str) -> _Shelf:
    return _Table(uri) if is_remote(uri) else _Folder(local(uri) / "snapshots")


def _parsed(uri: str, shelf: _Shelf, name: str, number: int) -> dict[str, Any]:
    at = f"{uri}: manifest of {name}@{number}"
    try:
        manifest: dict[str, Any] = json.loads(shelf.read(name, number))
        version = manifest.get("version")
    except (OSError, ValueError, AttributeError) as error:
        raise StoreError(f"{at}: cannot be read: {error}") from None
    if version != MANIFEST_VERSION:
        raise StoreError(f"{at}: has version {version}; this program reads {MANIFEST_VERSION}")
    return manifest


class _Folder:
    """Files `NAME/N.json`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entries(self) -> list[tuple[str, int]]:
        found = self._folder.glob("*/*.json") if self._folder.is_dir() else ()
        return [(path.parent.name, int(path.stem)) for path in found if path.stem.isdigit()]

    def read(self, name: str, number: int) -> str:
        return self._path(name, number).read_text("utf-8")

    def create(self, name: str, number: int, text: str) -> bool:
        target, temporary = self._written(name, number, text)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def replace(self, name: str, number: int, text: str) -> None:
        target, temporary = self._written(name, number, text)
        temporary.replace(target)

    def _written(self, name: str, number: int, text: str) -> tuple[Path, Path]:
        target = self._path(name, number)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=".", encoding="utf-8", delete=False) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return target, Path(file.name)

    def remove(self, name: str, number: int) -> None:
        self._path(name, number).unlink(missing_ok=True)

    def _path(self, name: str, number: int) -> Path:
        return self._folder / name / f"{number}.json"


def manifest_schema() -> pa.Schema:
    """Return the Arrow schema of the manifests of a store in a bucket."""
    import pyarrow as pa

    return pa.schema([primary_key("snapshot"), ("manifest", pa.string())])


class _Table:
    """Rows of a Lance table, keyed `NAME@N`."""

    def __init__(self, uri: str) -> None:
        self._store = Store(uri)

    def entries(self) -> list[tuple[str, int]]:
        if not self._store.has(TABLE):
            return []
        keys = self._open().search().select(["snapshot"]).to_arrow()["snapshot"].to_pylist()
        return [(name, int(number)) for name, _, number in (key.rpartition("@") for key in keys)]

    def read(self, name: str, number: int) -> str:
        found = self._open().search().where(self._is(name, number)).select(["manifest"]).to_arrow()["manifest"]
        if len(found) != 1:
            raise OSError("it is gone")
        text: str = found[0].as_py()
        return text

    def create(self, name: str, number: int, text: str) -> bool:
        import pyarrow as pa

        row = {"snapshot": f"{name}@{number}", "manifest": text}
        return add_absent(self._open(), pa.Table.from_pylist([row], schema=manifest_schema()), "snapshot") == 1

    def replace(self, name: str, number: int, text: str) -> None:
        import pyarrow as pa

        rows = pa.Table.from_pylist([{"snapshot": f"{name}@{number}", "manifest": text}], schema=manifest_schema())
        self._open().merge_insert("snapshot").when_matched_update_all().execute(rows)

    def remove(self, name: str, number: int) -> None:
        self._open().delete(self._is(name, number))

    def _open(self) -> Any:
        return self._store.table(TABLE, manifest_schema())

    def _is(self, name: str, number: int) -> str:
        return f"snapshot = '{name}@{number}'"
