"""A `datasets` set as rows: from the Hugging Face hub at a pinned commit, or from a local folder in the same format.

Rows are streamed. Images stay encoded (`{bytes, path}`), class labels become their names. Code that a set brings is never
run. A local folder is what `push_to_hub` would upload (Parquet files, perhaps a `README.md`), or what `save_to_disk` wrote.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vlmrecipes.data.images import MAX_FILE_BYTES
from vlmrecipes.data.source_tables import HubSource
from vlmrecipes.data.sources.row import RawRow
from vlmrecipes.errors import InputError

NOWHERE = Path(os.devnull)
"""The root of a hub set's images: a path that it names outright can be no file of this machine."""
_SAVED = ("dataset_dict.json", "state.json")


def reader(spec: HubSource, local: Path | None, *, file: str, key: str) -> Callable[[], Iterator[RawRow]]:
    """Return what reads the rows of the set. Raises InputError when the set, its configuration or its split is not there."""
    try:
        rows = _stream(spec, local).decode(enable=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        where = "path" if local else "repo"
        raise InputError.one(f"cannot be opened: {error}", file=file, key=f"{key}.{where}") from None
    return partial(_rows, rows, spec)


def files(local: Path | None) -> list[tuple[str, Path]]:
    """Return the files of a local set; none of one on the hub, whose commit names them all."""
    paths = sorted(path for path in local.rglob("*") if path.is_file()) if local else []
    return [(path.relative_to(local).as_posix(), path) for path in paths if local]


def _stream(spec: HubSource, local: Path | None) -> Any:
    import datasets

    if local and any((local / name).is_file() for name in _SAVED):
        saved = datasets.load_from_disk(str(local))
        return (saved[spec.part] if isinstance(saved, dict) else saved).to_iterable_dataset()
    place = str(local) if local else spec.repo
    revision = spec.revision or None
    return datasets.load_dataset(place, spec.config or None, split=spec.part, revision=revision, streaming=True)


def _rows(rows: Any, spec: HubSource) -> Iterator[RawRow]:
    import pyarrow as pa

    place = "/".join(part for part in (spec.repo or Path(spec.path).name, spec.config, spec.part) if part)
    within = f"hf://datasets/{spec.repo}@{spec.revision}/" if spec.repo else ""
    try:
        for number, columns in enumerate(rows):
            yield RawRow(f"{place}:{number}", _plain(rows.features, columns, within))
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None


def _plain(feature: Any, value: Any, within: str) -> Any:
    """Return `value` with names for class labels, and with the bytes of images that lie as files in the hub set `within`."""
    import datasets

    if value is None or feature is None:
        return value
    if isinstance(feature, dict):
        return {name: _plain(feature.get(name), item, within) for name, item in value.items()}
    if isinstance(feature, (datasets.List, datasets.LargeList)):
        return [_plain(feature.feature, item, within) for item in value]
    if isinstance(feature, datasets.ClassLabel):
        return feature.int2str(value) if value >= 0 else None
    if within and isinstance(feature, datasets.Image) and value.get("bytes") is None:
        return {"bytes": _hub_file(str(value.get("path")), within), "path": None}
    return value


def _hub_file(path: str, within: str) -> bytes | None:
    """Return the file of the set that `path` names; None when it lies elsewhere."""
    from datasets.utils.file_utils import xopen

    if not path.rpartition("::")[2].startswith(within):
        return None
    with xopen(path, "rb") as file:
        data: bytes = file.read(MAX_FILE_BYTES + 1)
    return data
