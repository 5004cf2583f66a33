"""The LanceDB tables behind a store: images, and samples and drops a dataset.

The only module that imports lancedb. Facts it stands on: an insert-if-absent needs an unenforced primary key on a
non-null column and batches without repeats; `take_offsets` does not keep the order asked for; LanceDB does not survive
a fork, so processes that read are spawned.
"""

from __future__ import annotations

import fcntl
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.sample import drop_schema, sample_schema
from vlmrecipes.errors import StoreError
from vlmrecipes.extras import need

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES = "images"
_STABLE_ROWS = {"new_table_enable_stable_row_ids": "true"}


def image_schema() -> pa.Schema:
    """Return the Arrow schema of the images table; `key` is its primary key."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            ("origin", pa.string()),
            ("data", pa.large_binary()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("format", pa.string()),
            ("pixels", pa.string()),
            ("phash", pa.uint64()),
            ("phash256", pa.binary(32)),
            ("source_sha256", pa.string()),
            ("source_width", pa.int32()),
            ("source_height", pa.int32()),
            ("steps", pa.string()),
        ]
    )


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
            try:
                self._database = lancedb.connect(self.uri)
            except (OSError, RuntimeError, ValueError) as error:
                raise StoreError(f"{self.uri}: cannot open the store: {error}") from None
        return self._database

    def table(self, name: str, schema: pa.Schema | None = None, *, key: str = "") -> Any:
        """Return table `name`, made with `schema` when it is not there yet."""
        if name not in self._tables:
            self._tables[name] = self._open(name, schema, key)
        return self._tables[name]

    def _open(self, name: str, schema: pa.Schema | None, key: str) -> Any:
        database = self.database()
        try:
            table = database.open_table(name)
            if schema is None or not key or _has_key(table, key):
                return table
        except (ValueError, FileNotFoundError):
            if schema is None:
                raise StoreError(f"{self.uri}: the table {name!r} is gone") from None
        with locked(local(self.uri) / "locks" / "tables"):
            return _created(database, name, schema, key)

    def images(self) -> Any:
        """Return the images table. Raises StoreError when an older version of this program made it."""
        table = self.table(IMAGES, image_schema(), key="key")
        if absent := set(image_schema().names) - set(table.schema.names):
            raise StoreError(
                f"{self.uri}: an older version made this store: its images have no {', '.join(sorted(absent))}; "
                "its snapshots can be read, but ingest into a fresh one (--store DIR)"
            )
        return table

    def samples(self, dataset: str) -> Any:
        """Return the samples table of a dataset."""
        return self.table(f"samples-{dataset}", sample_schema(), key="id")

    def drops(self, dataset: str) -> Any:
        """Return the drops table of a dataset."""
        return self.table(f"drops-{dataset}", drop_schema())

    def add_images(self, rows: Sequence[dict[str, Any]]) -> None:
        """Insert the images whose key is not there yet. Other processes may do the same at once."""
        import pyarrow as pa

        unique = {row["key"]: row for row in rows}
        if unique:
            data = pa.Table.from_pylist(list(unique.values()), schema=image_schema())
            self.images().merge_insert("key").when_not_matched_insert_all().execute(data)

    def frozen(self, name: str, version: int) -> Any:
        """Return a read-only handle of table `name` at `version`."""
        table = self.database().open_table(name)
        try:
            table.checkout(version)
        except (ValueError, RuntimeError) as error:
            raise StoreError(f"{self.uri}: version {version} of table {name!r} is gone: {error}") from None
        return table


def _created(database: Any, name: str, schema: pa.Schema, key: str) -> Any:
    """Return the table with its key set; a table that another process made meanwhile is taken as it is."""
    table = database.create_table(name, schema=schema, storage_options=_STABLE_ROWS, exist_ok=True)
    if key and not _has_key(table, key):
        table.set_unenforced_primary_key(key)
    return table


def _has_key(table: Any, key: str) -> bool:
    """Tell whether the primary key is set: a table that is just being made, or whose maker was killed, has none yet."""
    return "primary-key" in str(table.schema.field(key).metadata)


def columns(table: Any, names: Sequence[str]) -> pa.Table:
    """Return whole columns of a table, in the order of its rows."""
    return table.search().select(list(names)).to_arrow()


def replace_samples(table: Any, wanted: pa.Table) -> None:
    """Make the rows of `table` those of `wanted`, writing only what differs: by id and digest."""
    import pyarrow as pa
    import pyarrow.compute as pc

    there = columns(table, ("id", "digest"))
    old = dict(zip(there["id"].to_pylist(), there["digest"].to_pylist(), strict=True))
    new = dict(zip(wanted["id"].to_pylist(), wanted["digest"].to_pylist(), strict=True))
    stale = [key for key, digest in old.items() if new.get(key) != digest]
    fresh = [key for key, digest in new.items() if old.get(key) != digest]
    for some in _chunks(stale, 1000):
        quoted = ", ".join(f"'{key}'" for key in some)
        table.delete(f"id IN ({quoted})")
    if fresh:
        table.add(wanted.filter(pc.is_in(wanted["id"], pa.array(fresh))))


def _chunks(items: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def local(uri: str) -> Path:
    """Return the store's folder. Raises StoreError for a remote URI: this version keeps stores on a local disk."""
    if "://" in uri:
        raise StoreError(f"{uri}: this version keeps its store in a local folder")
    path = Path(uri)
    if path.exists() and not path.is_dir():
        raise StoreError(f"{uri}: not a folder; a store is one")
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` while the block runs; waits for it. The system frees it when the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
