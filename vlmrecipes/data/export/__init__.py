"""A snapshot as files that other tools read."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlmrecipes.data.export import card, croissant, loose, parquet
from vlmrecipes.data.snapshot import Snapshot
from vlmrecipes.errors import InputError

FORMATS = ("parquet", "croissant", "hf", "imagefolder", "jsonl")
_AS_PARQUET = {"parquet", "croissant", "hf"}


def export(snapshot: Snapshot, folder: Path, formats: Sequence[str]) -> dict[str, Any]:
    """Write a snapshot to `folder` in each of `formats`; return `{"path", "formats", "files", "bytes"}`.

    - `parquet`: `data/SPLIT-*.parquet` with `datasets` features, images inside; `hf` the same.
    - `croissant`: the same, described by `croissant.json`.
    - `imagefolder`: `imagefolder/SPLIT/` with images and `metadata.jsonl`.
    - `jsonl`: `jsonl/SPLIT.jsonl` beside `jsonl/images/`.

    A dataset card, `README.md`, goes with all of them. Everything is written aside and renamed when it is whole.
    Raises InputError for an unknown format and for a folder that is not empty.
    """
    _check(folder, formats)
    with aside(folder) as place:
        shards = parquet.write(snapshot, place) if _AS_PARQUET & set(formats) else []
        if "croissant" in formats:
            croissant.write(snapshot, place, shards)
        for name, write in (("imagefolder", loose.imagefolder), ("jsonl", loose.jsonl)):
            if name in formats:
                write(snapshot, place / name)
        card.write(snapshot, place, shards, formats)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "snapshot": snapshot.name,
        "path": str(folder),
        "formats": list(formats),
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
    }


def _check(folder: Path, formats: Sequence[str]) -> None:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise InputError.one(f"no format {', '.join(unknown) or 'given'}; there are: {', '.join(FORMATS)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError.one(f"{folder} is there already and not empty; give a folder that is empty or not there yet")


@contextmanager
def aside(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder`; it takes its place when the block ends without error. Raises InputError."""
    folder = folder.absolute()
    if not folder.name:
        raise InputError.one(f"{folder}: cannot be made anew; give a folder with a name")
    place = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        place.mkdir(parents=True)
    except OSError as error:
        raise InputError.one(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        yield place
        # An empty folder gives way to a rename; one that was filled meanwhile does not.
        place.rename(folder)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
