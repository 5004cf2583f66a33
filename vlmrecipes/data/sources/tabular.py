"""Files of rows: JSON Lines, CSV, Parquet."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_LINE_BYTES = 64 << 20
"""A longer JSON line is a bad row, not a reason to fill memory."""
PARQUET_BATCH = 64
"""Rows read at once, for columns that hold images."""

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""An escape that is half a character; JSON lets it stand alone, no table can hold it."""

Row = tuple[str, dict[str, Any] | None, str]


def jsonl_rows(path: Path) -> Iterator[Row]:
    """Yield (key, columns, problem) for each line that is not blank; a line that is no JSON object has a problem."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            if line.strip():
                yield _json_row(f"{path.name}:{number}", line)


def _json_row(key: str, line: bytes) -> Row:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return key, None, f"not valid JSON: {error}"
    if not isinstance(value, dict):
        return key, None, f"a JSON object is wanted, this is {type(value).__name__}"
    if SURROGATE.search(line) and not _is_unicode(value):
        return key, None, "half of a surrogate pair: not Unicode text"
    return key, value, ""


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def csv_rows(path: Path) -> Iterator[Row]:
    """Yield (key, columns, problem) for each record; one with more or fewer fields than the header has a problem.

    Raises ValueError where the file cannot be read on.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            for fields in reader:
                if fields:
                    yield _csv_row(f"{path.name}:{reader.line_num}", header, fields)
        except csv.Error as error:
            raise ValueError(f"not CSV at line {reader.line_num}: {error}") from None


def _csv_row(key: str, header: list[str], fields: list[str]) -> Row:
    if len(fields) != len(header):
        return key, None, f"{len(fields)} fields where the header has {len(header)}"
    if any("\udc80" <= character <= "\udcff" for field in fields for character in field):
        return key, None, "not UTF-8 text"
    return key, dict(zip(header, fields, strict=True)), ""


def parquet_rows(path: Path) -> Iterator[Row]:
    """Yield (key, columns, problem) for each row. Raises ValueError for a file that is not whole Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=PARQUET_BATCH):
            for columns in batch.to_pylist():
                yield f"{path.name}:{number}", columns, ""
                number += 1
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not a Parquet file, or damaged after row {number}: {error}") from None
