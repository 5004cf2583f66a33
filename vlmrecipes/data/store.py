"""The LanceDB tables behind a store: images and their origins, and samples and drops a dataset.

The only module that imports lancedb, and pylance, which reads rows by their place in half of LanceDB's time. Facts it
stands on: an insert-if-absent needs an unenforced primary key on a non-null column, set when the table is made, and
batches without repeats; LanceDB does not survive a fork, so processes that read are spawned.
"""

from __future__ import annotations

import random
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vlmrecipes.data import freed
from vlmrecipes.data.place import held, is_remote, local, options, unreachable
from vlmrecipes.data.sample import drop_schema, file_schema, image_schema, origin_schema, sample_schema
from vlmrecipes.errors import StoreError
from vlmrecipes.extras import need

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES = "images"
ORIGINS = "origins"
CONFLICT = re.compile("conflict|too many concurrent writers", re.IGNORECASE)
"""In what Lance says when another writer was faster, at once or for as long as it tries itself (30 s)."""
TRIES = 40
"""How often a change is made again because another process changed the same table meanwhile."""
_STABLE_ROWS = {"new_table_enable_stable_row_ids": "true"}


class Store:
    """A folder of Lance tables. Opens lazily; one object a process."""

    def __init__(self, uri: str) -> None:
        """Name the store; nothing is opened yet."""
        self.uri = uri
        self._tables: dict[str, Any] = {}
        self._database: Any = None

    def database(self) -> Any:
        """Return the LanceDB connection."""
        if self._database is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                lancedb = need("lancedb", "read and write the store")
            freed.keep()
            try:
                self._database = lancedb.connect(self.uri, storage_options=options(self.uri))
            except (OSError, RuntimeError, ValueError) as error:
                raise unreachable(self.uri, error) from None
        return self._database

    def has(self, name: str) -> bool:
        """Tell whether there is a table `name`."""
        return name in self.database().list_tables().tables

    def table(self, name: str, schema: pa.Schema | None = None) -> Any:
        """Return table `name`, made with `schema` when it is not there yet."""
        if name not in self._tables:
            self._tables[name] = self._open(name, schema)
        return self._tables[name]

    def _open(self, name: str, schema: pa.Schema | None) -> Any:
        database = self.database()
        try:
            return database.open_table(name)
        except (ValueError, FileNotFoundError):
            if schema is None:
                raise StoreError(f"{self.uri}: the table {name!r} is gone") from None
        try:
            return database.create_table(name, schema=schema, storage_options=_STABLE_ROWS, exist_ok=True)
        except (OSError, RuntimeError, ValueError):  # another process may have made it at the same moment
            return database.open_table(name)

    def images(self) -> Any:
        """Return the images table. Raises StoreError when an older version of this program made it."""
        return self._of_today(IMAGES, image_schema())

    def origins(self) -> Any:
        """Return the table of what images were prepared from; no snapshot names it, so an older one gets what it lacks."""
        table = self.table(ORIGINS, origin_schema())
        if set(origin_schema().names) - set(table.schema.names):
            _again(table, lambda: _grow(table, origin_schema()))
        return table

    def samples(self, dataset: str) -> Any:
        """Return the samples table of a dataset. Raises StoreError when an older version of this program made it."""
        return self._of_today(f"samples-{dataset}", sample_schema())

    def drops(self, dataset: str) -> Any:
        """Return the drops table of a dataset. Raises StoreError when an older version of this program made it."""
        return self._of_today(f"drops-{dataset}", drop_schema())

    def files(self, dataset: str) -> Any:
        """Return the table of the files that a dataset was read from."""
        return self._of_today(f"files-{dataset}", file_schema())

    def is_new(self) -> bool:
        """Tell whether it surely holds no images yet, without LanceDB: a folder without their table."""
        return not is_remote(self.uri) and not (local(self.uri) / f"{IMAGES}.lance").exists()

    def named(self, dataset: str) -> dict[str, Any]:
        """Return the tables that a snapshot of `dataset` names, by role. Raises StoreError as they do, before any work."""
        tables = {"images": self.images(), "samples": self.samples(dataset)}
        return tables | {"drops": self.drops(dataset), "files": self.files(dataset)}

    def _of_today(self, name: str, schema: pa.Schema) -> Any:
        table = self.table(name, schema)
        need_columns(table, schema.names)
        return table

    def add_images(self, images: pa.Table) -> None:
        """Insert the images whose key is not there yet; no key twice. Other processes may do the same at once."""
        with held(self.uri, IMAGES):
            add_absent(self.images(), images, "key")

    def add_origins(self, origins: pa.Table) -> None:
        """Insert the origins that are not there yet."""
        with held(self.uri, ORIGINS):
            add_absent(self.origins(), origins, "origin")

    def frozen(self, name: str, version: int) -> Any:
        """Return a read-only handle of table `name` at `version`."""
        table = self.database().open_table(name)
        try:
            table.checkout(version)
        except (ValueError, RuntimeError) as error:
            raise StoreError(f"{self.uri}: version {version} of table {name!r} is gone: {error}") from None
        return table

    def dataset(self, name: str, version: int | None = None) -> Any:
        """Return table `name` as a Lance dataset, at `version` or its newest: what reads rows by place, and cleans up."""
        lance = need("lance", "read images from the store")
        freed.keep()
        at = f"{self.uri.rstrip('/')}/{name}.lance"
        try:
            return lance.dataset(at, version=version, storage_options=options(self.uri) or None)
        except (OSError, RuntimeError, ValueError) as error:
            which = f"version {version} of " if version else ""
            raise StoreError(f"{self.uri}: {which}table {name!r} is gone: {error}") from None


@contextmanager
def reading_images(uri: str) -> Iterator[None]:
    """Raise StoreError for what Lance raises meanwhile."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        problem = f"its images cannot be read; `snapshots verify` tells what is damaged: {error}"
        raise StoreError(f"{uri}: {problem}") from None


def data_files(dataset: Any) -> dict[str, int]:
    """Return the bytes of each data file of a version of a table, a Lance dataset, by path."""
    files = (file for fragment in dataset.get_fragments() for file in fragment.data_files())
    return {file.path: file.file_size_bytes or 0 for file in files}


def _grow(table: Any, schema: pa.Schema) -> None:
    """Add the columns of `schema` that a table lacks, without values."""
    if absent := [field for field in schema if field.name not in table.schema.names]:
        table.add_columns(absent)


def need_columns(table: Any, names: Iterable[str]) -> None:
    """Raise StoreError when a table lacks a column."""
    if absent := sorted(set(names) - set(table.schema.names)):
        raise StoreError(
            f"the table {table.name!r} has no {', '.join(absent)}: an older version of vlmrecipes made this store; "
            "list, show and export read its snapshots, but ingest and run in a fresh one (--store DIR)"
        )


def columns(table: Any, names: Sequence[str]) -> pa.Table:
    """Return whole columns of a table, in the order of its rows. Raises StoreError when it has no such column."""
    need_columns(table, names)
    return table.search().select(list(names)).to_arrow()


def add_absent(table: Any, rows: pa.Table, key: str) -> int:
    """Insert the rows whose `key`, the primary key, is not there yet; return how many. Others may do the same at once."""
    merge = table.merge_insert(key).when_not_matched_insert_all()
    return int(_again(table, lambda: merge.execute(rows)).num_inserted_rows)


def replace_rows(table: Any, wanted: pa.Table) -> None:
    """Make the rows of `table` those of `wanted`; the handle then stands at the version that holds just these."""
    _again(table, lambda: table.add(wanted, mode="overwrite"))


def replace_samples(table: Any, wanted: pa.Table) -> None:
    """Make the rows of `table` those of `wanted`, writing only what differs: by id, digest, duplicate group and key.

    The handle then stands at a version that holds just these: where another process has changed the table between our
    changes, all is done again. Raises StoreError when that happens too often.
    """

    def change() -> None:
        _change(table, wanted)
        if _rows(table) != _rows_of(wanted):
            raise _MixedError

    _again(table, change)


class _MixedError(RuntimeError):
    """A version that holds rows of two writers."""


def _again(table: Any, change: Callable[[], Any]) -> Any:
    """Make a change on the newest version, again and again while other processes are faster."""
    for turn in range(TRIES):
        table.checkout_latest()
        try:
            return change()
        except (OSError, RuntimeError, ValueError) as error:
            if not isinstance(error, _MixedError) and not CONFLICT.search(str(error)):
                raise
        time.sleep(random.uniform(0, min(2.0, 0.1 * 2**turn)))  # noqa: S311 - writers draw apart
    raise StoreError(f"the table {table.name!r} was changed by others {TRIES} times in a row; try again later")


def _change(table: Any, wanted: pa.Table) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    old, new = dict(_rows(table)), dict(_rows_of(wanted))
    gone = [key for key in old if key not in new]
    fresh = [key for key, state in new.items() if old.get(key) != state]
    for some in _chunks(gone, 1000):
        quoted = ", ".join(f"'{key}'" for key in some)
        table.delete(f"id IN ({quoted})")
    if fresh:
        rows = wanted.filter(pc.is_in(wanted["id"], pa.array(fresh)))
        table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)


_STATE = ("digest", "duplicates", "key")


def _rows(table: Any) -> list[tuple[str, tuple[str, ...]]]:
    return _rows_of(columns(table, ("id", *_STATE)))


def _rows_of(rows: pa.Table) -> list[tuple[str, tuple[str, ...]]]:
    states = zip(*(rows[name].to_pylist() for name in _STATE), strict=True)
    return sorted(zip(rows["id"].to_pylist(), states, strict=True))


def tagged(table: Any, label: str) -> dict[str, Any]:
    """Tag the version of the handle `table`, so that no cleaning removes it; return what a manifest says of it.

    The tag holds the version: no writer moves another's.
    """
    version = table.version
    tag = f"{label}-{version}"
    if tag not in table.tags.list():
        try:
            table.tags.create(tag, version)
        except (OSError, RuntimeError, ValueError):  # another process froze the same version at the same moment
            if tag not in table.tags.list():
                raise
    return {"name": table.name, "version": version, "tag": tag}


def _chunks(items: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
