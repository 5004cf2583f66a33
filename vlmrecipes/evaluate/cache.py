"""What a model has said before, for the next run that asks it the same.

Greedy decoding gives the same answer to the same question, so an answer is kept under all that it depends on. What the model
is names the file: the bytes of its weights, of its adapter and its processor, how they are loaded, the packages, the device,
and the code that asks. What it was asked is the key of a line: the messages, and the images by the SHA-256 of their bytes.
Nothing in it can grow stale; it can be deleted at any time.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.evaluate.engines import Prediction
from vlmrecipes.evaluate.journal import append, read
from vlmrecipes.fingerprint import canonical, file_sha256, sha256
from vlmrecipes.models.catalog import ModelRef

if TYPE_CHECKING:
    from vlmrecipes.data.sample import Sample

CODE = ("evaluate/engines", "models")
"""Folders of this package whose code decides what is said."""
PACKAGES = ("bitsandbytes", "peft", "pillow", "tokenizers", "torch", "torchvision", "transformers", "unsloth")
"""Packages that decide it, too."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A file of one answer a line, appended to by any number of runs."""

    path: Path
    longest: int
    """Most tokens of an answer."""

    def known(self, samples: Sequence[Sample]) -> dict[int, Prediction]:
        """Return the answers in the file to `samples`, by place."""
        told = {row["question"]: row for row in read(self.path) if self._holds(row)}
        keys = {place: question(sample) for place, sample in enumerate(samples)} if told else {}
        return {place: _prediction(samples[place].id, told[key]) for place, key in keys.items() if key in told}

    def add(self, answered: Iterable[tuple[Sample, Prediction]]) -> None:
        """Append what was answered; rows that failed are asked again."""
        append(self.path, (_line(sample, found) for sample, found in answered if found.text is not None))

    def _holds(self, row: Mapping[str, Any]) -> bool:
        """Tell whether the answer is the same under this limit: it ended below it, or was cut off right there."""
        tokens = int(row["tokens"])
        return tokens == self.longest if row["truncated"] else tokens <= self.longest


def _line(sample: Sample, found: Prediction) -> dict[str, Any]:
    return {
        "question": question(sample),
        "text": found.text,
        "tokens": found.tokens,
        "truncated": found.truncated,
    }


def _prediction(name: str, row: Mapping[str, Any]) -> Prediction:
    return Prediction(id=name, text=row["text"], tokens=row["tokens"], truncated=row["truncated"])


def question(sample: Sample) -> str:
    """Return the SHA-256 of what a model is shown of a sample; its images are named by the SHA-256 of their bytes."""
    return sha256(canonical({"images": sample.images, "messages": sample.messages}))


def answerer(model: ModelRef, adapter: Path | None, settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that decides what is said to a question; empty when that is not known.

    `model` is taken at its word, so resolve it anew; a server, and a hub id without a revision, may be another model tomorrow.
    `settings` are those that matter, and the device.
    """
    if not model.files and not model.revision:
        return ""
    parts = {
        "model": model.files or [model.id, model.revision],
        "adapter": {file.name: file_sha256(file) for file in sorted(adapter.iterdir())} if adapter else {},
        "settings": dict(settings),
        "packages": _packages(),
        "processor": platform.machine(),
        "code": _code(),
    }
    return sha256(canonical(parts))


def _packages() -> dict[str, str]:
    there = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions() if each.metadata}
    return {name: version for name, version in there.items() if name in PACKAGES}


@cache
def _code() -> dict[str, str]:
    package = Path(__file__).parents[1]
    files = [file for folder in CODE for file in (package / folder).glob("*.py")]
    return {file.relative_to(package).as_posix(): file_sha256(file) for file in sorted(files)}
