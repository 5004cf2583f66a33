"""Labels of snapshots: `receipts@paper` stands for `receipts@3`. Rows of the Lance table `labels`, in any kind of store."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.sample import primary_key
from vlmrecipes.data.store import Store, add_absent, columns
from vlmrecipes.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "labels"
LABEL = re.compile(r"[a-z][a-z0-9._-]{0,63}")


def label_schema() -> pa.Schema:
    """Return the Arrow schema: `label` is `NAME@LABEL`, `number` the snapshot's."""
    import pyarrow as pa

    return pa.schema([primary_key("label"), ("number", pa.int64())])


def set_label(uri: str, name: str, number: int, label: str, *, force: bool = False) -> None:
    """Let `NAME@LABEL` stand for `NAME@N`, in one step; a label in use is moved only by `force`. Raises InputError."""
    import pyarrow as pa

    if not LABEL.fullmatch(label):
        raise InputError.one(
            f"a label begins with a letter and has lower-case letters, digits, '.', '_', '-': not {label!r}"
        )
    table = Store(uri).table(TABLE, label_schema())
    rows = pa.Table.from_pylist([{"label": f"{name}@{label}", "number": number}], schema=label_schema())
    if force:
        table.merge_insert("label").when_matched_update_all().when_not_matched_insert_all().execute(rows)
    elif not add_absent(table, rows, "label") and (there := find_label(uri, name, label)) != number:
        raise InputError.one(f"{name}@{label} is {name}@{there} already; --force moves it")


def remove_label(uri: str, name: str, number: int, label: str) -> None:
    """Remove a label from `NAME@N`. Raises InputError when there is none, or when it stands for another number."""
    if (there := find_label(uri, name, label)) is None:
        raise InputError.one(f"{name} has no label {label!r}")
    if there != number:
        raise InputError.one(f"{name}@{number} has no label {label!r}: it is on {name}@{there}")
    Store(uri).table(TABLE).delete(f"label = '{name}@{label}'")


def find_label(uri: str, name: str, label: str) -> int | None:
    """Return the number that a label stands for, or None."""
    return next((number for at, number in _rows(uri) if at == f"{name}@{label}"), None)


def labels(uri: str) -> dict[str, list[str]]:
    """Return the labels of every snapshot that has any: `{"receipts@3": ["paper"]}`."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for at, number in sorted(_rows(uri)):
        name, _, label = at.rpartition("@")
        found[f"{name}@{number}"].append(label)
    return dict(found)


def _rows(uri: str) -> list[tuple[str, int]]:
    store = Store(uri)
    if not store.has(TABLE):
        return []
    table: Any = columns(store.table(TABLE), ("label", "number"))
    return list(zip(table["label"].to_pylist(), table["number"].to_pylist(), strict=True))
