"""Files of rows: JSON Lines, CSV, Parquet."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlmrecipes.data.sources.row import RawRow

MAX_LINE_BYTES = 64 << 20
"""A longer JSON line is a bad row, not a reason to fill memory."""
PARQUET_BATCH = 64
"""Rows read at once, for columns that hold images."""

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""An escape that is half a character; JSON lets it stand alone, no table can hold it."""


def jsonl_rows(path: Path, name: str) -> Iterator[RawRow]:
    """Yield a row for each line that is not blank, `name` in its key; a line that is no JSON object has a problem."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            if line.strip():
                yield _json_row(f"{name}:{number}", line)


def _json_row(key: str, line: bytes) -> RawRow:
    try:
        value = json_value(line)
    except ValueError as error:
        return RawRow(key, None, str(error))
    if not isinstance(value, dict):
        return RawRow(key, None, f"a JSON object is wanted, this is {type(value).__name__}")
    return RawRow(key, value)


def json_value(text: bytes) -> Any:
    """Return the JSON value in `text`. Raises ValueError for what is not valid, too deep, or no Unicode."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from None
    if SURROGATE.search(text) and not _is_unicode(value):
        raise ValueError("half of a surrogate pair: not Unicode text")
    return value


def file_text(data: bytes) -> str:
    """Return the text of a file that is one text: without byte order mark and last line break, each other one a line feed.

    Raises ValueError.
    """
    return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def csv_rows(path: Path, name: str) -> Iterator[RawRow]:
    """Yield a row for each record; one with more or fewer fields than the header has a problem.

    Raises ValueError where the file cannot be read on.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            _check_header(header, name)
            for fields in reader:
                if fields:
                    yield _csv_row(f"{name}:{reader.line_num}", header, fields)
        except csv.Error as error:
            raise ValueError(f"not CSV at line {reader.line_num}: {error}") from None


def _check_header(header: list[str], name: str) -> None:
    """Raise ValueError for two columns of one name. Any number may have none: no template can name them."""
    twice = next((column for column, count in Counter(header).items() if count > 1 and column), None)
    if twice is not None:
        raise ValueError(f"{name}: {header.count(twice)} columns are called {twice!r}; give each a name of its own")


def _csv_row(key: str, header: list[str], fields: list[str]) -> RawRow:
    if len(fields) != len(header):
        return RawRow(key, None, f"{len(fields)} fields where the header has {len(header)}")
    if any("\udc80" <= character <= "\udcff" for field in fields for character in field):
        return RawRow(key, None, "not UTF-8 text")
    return RawRow(key, dict(zip(header, fields, strict=True)))


def parquet_rows(path: Path, name: str) -> Iterator[RawRow]:
    """Yield each row. Raises ValueError for a file that is not whole Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=PARQUET_BATCH):
            for columns in batch.to_pylist():
                yield RawRow(f"{name}:{number}", columns)
                number += 1
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not a Parquet file, or damaged after row {number}: {error}") from None
