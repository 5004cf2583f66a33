"""Images as files beside lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from vlmrecipes.data.export.parquet import SPLITS
from vlmrecipes.data.hub_rows import image_formats
from vlmrecipes.data.sample import Sample
from vlmrecipes.data.snapshot import Snapshot

AT_ONCE = 256
"""Images read from the store at once."""


def imagefolder(snapshot: Snapshot, folder: Path) -> None:
    """Write `SPLIT/KEY.jpg` and `SPLIT/metadata.jsonl`, as the `imagefolder` loader of `datasets` reads them.

    Samples with one image have `file_name`; if any sample has another number, all have the list `images_file_names`.
    """
    names = _names(snapshot)
    single = all(len(sample.images) == 1 for sample in snapshot.samples())
    for split in SPLITS:
        samples = snapshot.samples(split)
        if not samples:
            continue
        _write_images(snapshot, samples, names, folder / split)
        rows = ((sample, [names[key] for key in sample.images]) for sample in samples)
        lines = (({"file_name": files[0]} if single else {"images_file_names": files}) | _row(s) for s, files in rows)
        _write_lines(folder / split / "metadata.jsonl", lines)


def jsonl(snapshot: Snapshot, folder: Path) -> None:
    """Write `SPLIT.jsonl`, whose `images` are paths from its folder, and `images/KEY.jpg`."""
    names = _names(snapshot)
    _write_images(snapshot, snapshot.samples(), names, folder / "images")
    for split in SPLITS:
        samples = snapshot.samples(split)
        lines = ({"images": [f"images/{names[key]}" for key in sample.images]} | _row(sample) for sample in samples)
        _write_lines(folder / f"{split}.jsonl", lines)


def _names(snapshot: Snapshot) -> dict[str, str]:
    return {
        key: f"{key}.{ending}" for key, ending in image_formats(snapshot.columns("images", ("key", "format"))).items()
    }


def _row(sample: Sample) -> dict[str, Any]:
    content = sample.content()
    kept = ("id", "messages", "references", "group", "source", "metadata")
    return {"answer": sample.answer} | {name: content[name] for name in kept}


def _write_images(snapshot: Snapshot, samples: Sequence[Sample], names: dict[str, str], folder: Path) -> None:
    folder.mkdir(parents=True)
    reader = snapshot.reader()
    keys = iter(sorted({key for sample in samples for key in sample.images}))
    while some := list(islice(keys, AT_ONCE)):
        for key, data in zip(some, reader.read(some), strict=True):
            (folder / names[key]).write_bytes(data)


def _write_lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
