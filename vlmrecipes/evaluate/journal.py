"""Rows that are answered, kept as they come: what a killed evaluation need not do again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.evaluate.engines import Prediction

if TYPE_CHECKING:
    from vlmrecipes.data.sample import Sample


@dataclass(frozen=True, slots=True)
class Journal:
    """A file of one JSON object a line, appended to after every batch; it belongs to one run, whose plan never changes."""

    path: Path

    def finished(self, samples: Sequence[Sample]) -> dict[int, Prediction]:
        """Return the predictions of samples that are in the file, by place."""
        known = {row["id"]: Prediction(**row) for row in read(self.path)}
        return {place: known[sample.id] for place, sample in enumerate(samples) if sample.id in known}

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Append the rows that were answered; those that failed are tried again."""
        append(self.path, (asdict(one) for one in predictions if one.text is not None))


def read(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of lines; a line that a kill cut off is no object, and passed over."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_bytes().splitlines():
        with suppress(ValueError):
            rows.append(json.loads(line.decode("utf-8", "surrogatepass")))
    return rows


def append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append objects, a line each, in one write, so that several processes may do so at once."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if lines:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            file.write((b"\n" if _is_cut_off(path) else b"") + lines.encode("utf-8", "surrogatepass"))


def _is_cut_off(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, 2):
            return False
        file.seek(-1, 2)
        return file.read(1) != b"\n"
