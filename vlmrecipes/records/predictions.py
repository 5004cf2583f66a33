"""`predictions.parquet`: one row a model and sample, with the counts that scores are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.errors import StoreError
from vlmrecipes.records import atomic

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "predictions.parquet"
MODELS = ("base", "tuned")
"""The models that a run scores: before training, and after, or the one that is evaluated."""


def schema(metrics: Sequence[str]) -> pa.Schema:
    """Return the Arrow schema: the fixed columns, then `<metric>.numerator` and `<metric>.denominator` for each metric.

    `model` is `base` or `tuned`; `prediction` is null when generating failed, `error` says why; `metadata` is JSON text.
    """
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    fixed = [
        pa.field("model", text, nullable=False),
        pa.field("id", text, nullable=False),
        ("prediction", text),
        ("references", texts),
        ("prompt", text),
        ("images", texts),
        *((name, text) for name in ("group", "split", "source", "snapshot", "metadata")),
        ("tokens", pa.int64()),
        ("truncated", pa.bool_()),
        ("error", text),
    ]
    counts = [(f"{metric}.{part}", pa.float64()) for metric in metrics for part in ("numerator", "denominator")]
    return pa.schema([*fixed, *counts])


def write(path: Path, rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> None:
    """Write `rows` whole or not at all; a column that a row lacks is null. Raises ArrowInvalid for wrong types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(list(rows), schema=schema(metrics))
    with atomic.replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read(path: Path) -> pa.Table:
    """Return the table that `write` wrote. Raises StoreError when it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error
