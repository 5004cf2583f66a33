"""Rows that are answered, kept as they come: what a killed evaluation need not do again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlmrecipes.evaluate.engines import Prediction

if TYPE_CHECKING:
    from vlmrecipes.data.sample import Sample


@dataclass(frozen=True, slots=True)
class Journal:
    """A file of one JSON object a line, appended to after every batch; it belongs to one run, whose plan never changes."""

    path: Path

    def finished(self, samples: Sequence[Sample]) -> dict[int, Prediction]:
        """Return the predictions of samples that are in the file, by place; a line that a kill cut off is taken out."""
        known = {prediction.id: prediction for prediction in self._read()}
        return {place: known[sample.id] for place, sample in enumerate(samples) if sample.id in known}

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Append the rows that were answered; those that failed are tried again."""
        lines = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in predictions if one.text is not None]
        with self.path.open("ab") as file:
            file.write("".join(lines).encode("utf-8", "surrogatepass"))

    def remove(self) -> None:
        """Delete the file, once what it holds is elsewhere."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> list[Prediction]:
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        return [Prediction(**json.loads(line.decode("utf-8", "surrogatepass"))) for line in whole.splitlines()]
