"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vlmrecipes.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it takes the place of `path` when the block ends without error."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # Some file systems cannot sync a folder; the file itself is safe by then.
    with suppress(OSError):
        _sync(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`; a reader, or a crash, sees the old content or the new, never a part."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_asked(path: Path, data: bytes) -> None:
    """Write a file that a user named with `--output`. Raises InputError where that cannot be."""
    try:
        write_bytes(path, data)
    except OSError as error:
        raise InputError.one(f"cannot be written: {error.strerror}", file=str(path), key="--output") from None


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
