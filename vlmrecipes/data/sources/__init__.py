"""Sources opened: declaration → rows, each with the place it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from vlmrecipes.data.declaration import Declaration
from vlmrecipes.data.source_tables import (
    BRACES,
    FileRows,
    FolderSource,
    HubSource,
    PagesSource,
    Rows,
    Source,
    SyntheticSource,
    WebdatasetSource,
    called,
)
from vlmrecipes.data.sources import folder, hub, pages, synthetic, tabular, webdataset
from vlmrecipes.data.sources.files import Files, declared_files, declared_folder
from vlmrecipes.data.sources.row import RawRow, escaped
from vlmrecipes.errors import InputError, Problem

PEEK = 50
"""So many rows are looked at to learn a source's columns."""
_TABULAR = {"jsonl": tabular.jsonl_rows, "csv": tabular.csv_rows, "parquet": tabular.parquet_rows}

RowReader = Callable[[], Iterator[RawRow]]
FileLister = Callable[[], list[tuple[str, Path]]]


@dataclass(frozen=True, slots=True)
class Opened:
    """A source that is there and has the columns its templates name."""

    name: str
    spec: Source
    root: Path
    """Image paths are relative to it and may not leave it."""
    rows: RowReader
    files: FileLister
    """Gives the files that hold the rows, as (name that row keys begin with, path); images on their own are not among them."""


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
    root, read, files = _reader(spec, file, key)
    if (name := escaped(str(root))) != str(root):
        raise InputError.one(
            f"its images lie under {name}, which is not Unicode text: rename it", file=str(file), key=key
        )
    rows = partial(_told, partial(_limited, spec, read), file, key)
    opened = Opened(called(spec, number), spec, root, rows, files)
    _check_columns(opened, str(file), key)
    return opened


def _reader(spec: Source, file: Path, key: str) -> tuple[Path, RowReader, FileLister]:
    """Return the root of the images of `spec`, what reads its rows, and what lists the files they are in."""
    if isinstance(spec, SyntheticSource):
        synthetic.open_generator(spec, file=str(file), key=key)
        return file.parent, partial(_made, spec, file, key), list
    if isinstance(spec, FolderSource):
        path = declared_folder(spec.path, file, f"{key}.path")
        return path, folder.reader(spec, path, file=str(file), key=key), partial(folder.files, path)
    if isinstance(spec, HubSource):
        local = declared_folder(spec.path, file, f"{key}.path") if spec.path else None
        return local or file.parent, hub.reader(spec, local, file=str(file), key=key), partial(hub.files, local)
    files = declared_files(spec.path, file, f"{key}.path")
    if isinstance(spec, WebdatasetSource):
        return files.base, partial(webdataset.rows, files), files.named
    root = declared_folder(spec.root, file, f"{key}.root") if spec.root else files.base
    if isinstance(spec, PagesSource):
        return root, partial(pages.rows, spec, files, root), files.named
    return root, partial(_tabular, spec, files), files.named


def _made(spec: SyntheticSource, file: Path, key: str) -> Iterator[RawRow]:
    for index, columns in enumerate(synthetic.open_generator(spec, file=str(file), key=key)):
        yield RawRow(f"{spec.generator}:{spec.part}:{spec.seed}:{index}", columns)


def _tabular(spec: FileRows, files: Files) -> Iterator[RawRow]:
    read = _TABULAR[spec.type]  # type: ignore[attr-defined]
    for name, path in files.named():
        yield from read(path, name)


def _told(rows: RowReader, file: Path, key: str) -> Iterator[RawRow]:
    """Let a file that cannot be read on raise InputError: rows behind that place must not go missing silently."""
    try:
        yield from rows()
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError.one(f"cannot be read: {error}", file=str(file), key=f"{key}.path") from None


def _limited(spec: Rows, rows: RowReader) -> Iterator[RawRow]:
    return islice(_exploded(rows(), spec.explode), spec.limit)


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
    """Yield (key of the declaration, problem) for every column that is named and not there."""
    names = ", ".join(sorted(known))
    for where, template in spec.templates:
        way = f"; {BRACES}" if where in ("prompt", "answer") else ""
        yield from ((where, f"{_not_there(name, names)}{way}") for name in template.absent(known))
    plain = [("explode", spec.explode)] if spec.explode else []
    plain += [("metadata", column) for column in spec.metadata]
    yield from ((where, _not_there(column, names)) for where, column in plain if column not in known)


def _not_there(column: str, names: str) -> str:
    return f"column {column!r} is not in the rows (there are: {names})"
