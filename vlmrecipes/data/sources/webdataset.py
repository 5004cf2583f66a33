"""Tar shards in the WebDataset layout: members that follow each other with one base name are a row.

`train/0001.jpg`, `train/0001.json` and `train/0001.left.png` give the columns `jpg` (bytes), `json` (parsed), `left` with
`png` inside it (`{left.png}`), and `__key__` (`train/0001`). The base name ends at the first dot of the file name; a row's
members may come in any order. `.txt` and the like are text, `.cls` is a whole number, all else is bytes.
(T. Breuel, The WebDataset Format Specification, 2023.)

Shards are read in one pass, gzipped ones too. Nothing is extracted to disk, links are refused, and members have a limit.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import IO, Any, cast

from vlmrecipes.data.images import MAX_FILE_BYTES
from vlmrecipes.data.sources.files import Files
from vlmrecipes.data.sources.row import RawRow
from vlmrecipes.data.sources.tabular import file_text, json_value

MAX_ROW_BYTES = MAX_FILE_BYTES
"""Members of one row together; a larger row becomes a drop, unread."""
MAX_MEMBERS = 1000
"""Members of one row."""
TEXT = frozenset({"txt", "text", "transcript", "gt", "caption"})
NUMBER = frozenset({"cls", "cls2", "class", "count", "index", "inx", "id"})
JSON = frozenset({"json", "jsn"})
_GZIP = b"\x1f\x8b"
_BROKEN = (tarfile.TarError, EOFError, OSError, ValueError)


class _BadRowError(ValueError):
    """A row that cannot be read; the next one can."""


def rows(files: Files) -> Iterator[RawRow]:
    """Yield the rows of each shard. Raises ValueError for a shard that is no tar, or breaks off."""
    for name, path in files.named():
        with path.open("rb") as raw:
            zipped = raw.peek(2)[:2] == _GZIP
            stream = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if zipped else raw
            yield from _shard_rows(stream, name)


def _shard_rows(stream: IO[bytes], name: str) -> Iterator[RawRow]:
    try:
        with tarfile.open(fileobj=stream, mode="r:") as shard:
            for base, members in groupby(_members(shard), lambda member: _parts(member.name)[0]):
                yield _row(shard, f"{name}:{base}", base, members)
            _check_end(stream, shard.offset)
    except _BROKEN as error:
        raise ValueError(f"{name}: not a tar file, or damaged: {error}") from None


def _members(shard: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members that are not folders and have an extension, without keeping their list in memory."""
    while (member := shard.next()) is not None:
        shard.members = []  # type: ignore[attr-defined]
        if not member.isdir() and _parts(member.name)[1]:
            yield member


def _check_end(stream: IO[bytes], offset: int) -> None:
    """Raise ValueError when the archive stops at something that is no end: `tarfile` takes a damaged header for one."""
    stream.seek(offset)
    if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise ValueError(f"no header of a member at byte {offset}")


def _parts(name: str) -> tuple[str, str]:
    """Return (base name with its folders, extension in lower case)."""
    folder, slash, file = name.rpartition("/")
    base, _, extension = file.partition(".")
    return folder + slash + base, extension.lower()


def _row(shard: tarfile.TarFile, key: str, base: str, members: Iterator[tarfile.TarInfo]) -> RawRow:
    columns: dict[str, Any] = {"__key__": base}
    left, problem = MAX_ROW_BYTES, ""
    for number, member in enumerate(members):
        left -= member.size
        try:
            if left < 0 or number >= MAX_MEMBERS:
                raise _BadRowError(f"more than {MAX_ROW_BYTES} bytes or {MAX_MEMBERS} members")
            if not problem:
                _put(columns, _parts(member.name)[1], _value(shard, member))
        except _BadRowError as error:
            problem = problem or f"{Path(member.name).name}: {error}"
    return RawRow(key, None if problem else columns, problem)


def _value(shard: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    if not member.isreg():
        raise _BadRowError("a link or device, not a file")
    file = shard.extractfile(member)
    data = file.read() if file else b""
    if len(data) != member.size:
        raise ValueError(f"{member.name} breaks off")
    kind = member.name.rpartition(".")[2].lower()
    try:
        if kind in JSON:
            return json_value(data)
        if kind in TEXT:
            return file_text(data)
        return int(data) if kind in NUMBER else data
    except ValueError as error:
        raise _BadRowError(str(error)) from None


def _put(columns: dict[str, Any], extension: str, value: Any) -> None:
    """Set `{a.b}` for the extension `a.b`, as templates look it up."""
    *outer, last = extension.split(".")
    for step in outer:
        columns = columns.setdefault(step, {})
        if not isinstance(columns, dict):
            raise _BadRowError(f"{step!r} is a file and the beginning of another's extension")
    if last in columns:
        raise _BadRowError(f"a second member with the extension {extension!r}")
    columns[last] = value
