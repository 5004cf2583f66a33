"""Sources opened: declaration → rows, each with the place it came from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from vlmrecipes.data.declaration import (
    CsvSource,
    Declaration,
    FolderSource,
    JsonlSource,
    ParquetSource,
    Rows,
    Source,
    SyntheticSource,
)
from vlmrecipes.data.sources import folder, synthetic, tabular
from vlmrecipes.data.template import Template
from vlmrecipes.errors import InputError, Problem

VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
PEEK = 50
"""So many rows are looked at to learn a source's columns."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as its source gave it, or why it could not be read."""

    key: str
    columns: dict[str, Any] | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A source that is there and has the columns its templates name."""

    name: str
    spec: Source
    root: Path
    """Image paths are relative to it and may not leave it."""
    rows: Callable[[], Iterator[RawRow]]


def open_sources(declaration: Declaration, file: Path) -> list[Opened]:
    """Return the declaration's sources, each checked to exist, hold rows, and have the columns that are named.

    Raises InputError with the problems of all of them.
    """
    opened, problems = [], []
    for number, spec in enumerate(declaration.source):
        try:
            opened.append(_open(spec, number, file))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return opened


def _open(spec: Source, number: int, file: Path) -> Opened:
    key = f"source[{number}]"
    name = spec.name or f"{spec.type}-{number}"
    if isinstance(spec, SyntheticSource):
        synthetic.open_generator(spec, file=str(file), key=key)
        rows = _limited(spec, lambda: _keyed(spec, file, key))
        opened = Opened(name, spec, file.parent, rows)
    else:
        path = _path(spec.path, file, f"{key}.path")
        root = _path(spec.root, file, f"{key}.root") if isinstance(spec, _FILES) and spec.root else _default_root(path)
        reader = _reader(spec, path, file, key)
        opened = Opened(name, spec, root, _told(_limited(spec, reader), file, key))
    _check_columns(opened, str(file), key)
    return opened


def _told(rows: Callable[[], Iterator[RawRow]], file: Path, key: str) -> Callable[[], Iterator[RawRow]]:
    """Let a file that cannot be read on raise InputError: rows behind that place must not go missing silently."""

    def read() -> Iterator[RawRow]:
        try:
            yield from rows()
        except (OSError, ValueError, NotImplementedError) as error:
            raise InputError.one(f"cannot be read: {error}", file=str(file), key=f"{key}.path") from None

    return read


_FILES = (JsonlSource, CsvSource, ParquetSource)
_OnDisk = JsonlSource | CsvSource | ParquetSource | FolderSource


def _default_root(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _keyed(spec: SyntheticSource, file: Path, key: str) -> Iterator[RawRow]:
    for index, columns in enumerate(synthetic.open_generator(spec, file=str(file), key=key)):
        yield RawRow(f"{spec.generator}:{spec.part}:{spec.seed}:{index}", columns)


def _path(text: str, file: Path, key: str) -> Path:
    """Return `text` with `${VARIABLE}` filled in, relative to the declaration. Raises InputError when it is not there."""
    missing = [name for name in VARIABLE.findall(text) if name not in os.environ]
    if missing:
        ways = "; set it, or give --root DIR" if missing == ["VLMRECIPES_DATA"] else "; set it"
        raise InputError.one(f"the environment variable {missing[0]} is not set{ways}", file=str(file), key=key)
    filled = VARIABLE.sub(lambda match: os.environ[match.group(1)], text)
    path = file.parent / filled
    if not path.exists():
        raise InputError.one(f"no such file or folder: {filled!r} (looked in {file.parent})", file=str(file), key=key)
    return path


def _reader(spec: _OnDisk, path: Path, file: Path, key: str) -> Callable[[], Iterator[RawRow]]:
    if isinstance(spec, FolderSource):
        if not path.is_dir():
            raise InputError.one(f"{spec.path!r} is not a folder", file=str(file), key=f"{key}.path")
        return lambda: (RawRow(*row) for row in folder.rows(path, spec.pattern))
    if path.is_dir():
        raise InputError.one(
            f"{spec.path!r} is a folder; give a file, or type = 'folder'", file=str(file), key=f"{key}.path"
        )
    readers = {"jsonl": tabular.jsonl_rows, "csv": tabular.csv_rows, "parquet": tabular.parquet_rows}
    read = readers[spec.type]
    return lambda: (RawRow(*row) for row in read(path))


def _limited(spec: Rows, rows: Callable[[], Iterator[RawRow]]) -> Callable[[], Iterator[RawRow]]:
    return lambda: islice(_exploded(rows(), spec.explode), spec.limit)


def _exploded(rows: Iterator[RawRow], column: str) -> Iterator[RawRow]:
    for row in rows:
        if not column or row.columns is None or column not in row.columns:
            yield row
            continue
        elements = row.columns[column]
        if not isinstance(elements, list):
            yield RawRow(row.key, None, f"column {column!r} to explode holds {type(elements).__name__}, not a list")
            continue
        for number, element in enumerate(elements):
            inner = element if isinstance(element, dict) else {column: element}
            yield RawRow(f"{row.key}/{number}", {**row.columns, **inner})


def _check_columns(opened: Opened, file: str, key: str) -> None:
    head = list(islice(opened.rows(), PEEK))
    if not head:
        raise InputError.one("the source holds no rows", file=file, key=key)
    known = {column for row in head for column in row.columns or ()}
    if known:
        problems = [Problem(file, f"{key}.{where}", text) for where, text in _absent(opened.spec, known)]
        if problems:
            raise InputError(problems)


def _absent(spec: Rows, known: set[str]) -> Iterator[tuple[str, str]]:
    names = ", ".join(sorted(known))
    for where, column in _named_columns(spec):
        if column not in known:
            yield where, f"column {column!r} is not in the rows (there are: {names})"


def _named_columns(spec: Rows) -> Iterator[tuple[str, str]]:
    """Yield every (key of the declaration, column) pair that the source's templates name."""
    for where in ("image", "crop", "prompt", "answer", "group", "split"):
        value = getattr(spec, where)
        for text in (value,) if isinstance(value, str) else value:
            yield from ((where, column) for column in Template(text).columns)
    if spec.messages:
        yield from (("messages", column) for column in Template(spec.messages).columns or (spec.messages,))
    if spec.explode:
        yield "explode", spec.explode
    yield from (("metadata", column) for column in spec.metadata)
