"""The images and questions that come inside the easy-vqa package (MIT): one coloured shape an image."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vlmrecipes.data.sources.synthetic.options import Option, Settings, Whole

if TYPE_CHECKING:
    from vlmrecipes.data.source_tables import SyntheticSource

COLUMNS = ("image", "question", "answer", "type", "image_id")
OPTIONS: dict[str, Option] = {"questions": Whole(default=0, low=0, high=1000)}
"""`questions`: at most so many for each image, its types taken in turn; 0 means all."""
FOLDERS = {"train": "train", "eval": "test"}


class Question(NamedTuple):
    """One question about one image."""

    text: str
    answer: str


@dataclass(frozen=True, slots=True)
class PackagedImage:
    """A file of the installed package."""

    path: str

    def render(self) -> bytes:
        """Return the file's bytes: a PNG of 64x64 px."""
        return Path(self.path).read_bytes()


def open_rows(source: SyntheticSource, *, file: str, key: str) -> Iterator[dict[str, Any]]:
    """Return the rows of `source`. Raises InputError."""
    settings = Settings(source.options, OPTIONS, file=file, key=key)
    folder = package_folder()
    if folder is None:
        settings.refuse("", "easy_vqa is needed to read its images and questions: pip install 'easy-vqa'")
    settings.check()
    return _rows((folder or Path()) / "data" / FOLDERS[source.part], source, settings.values["questions"] or None)


def package_folder() -> Path | None:
    """Return the folder of the installed package, found without running its code; None when it is not there."""
    spec = importlib.util.find_spec("easy_vqa")
    return Path(spec.origin).parent if spec and spec.origin else None


def _rows(folder: Path, source: SyntheticSource, most: int | None) -> Iterator[dict[str, Any]]:
    by_image = _read(folder / "questions.json")
    for number in _shuffled(by_image, source.seed)[: source.count]:
        image = PackagedImage(str(folder / "images" / f"{number}.png"))
        for question in _in_turn(_shuffled(by_image[number], f"{source.seed}/{number}"))[:most]:
            yield {
                "image": image,
                "question": question.text,
                "answer": question.answer,
                "type": _type(question),
                "image_id": f"{folder.name}/{number}",
            }


def _read(path: Path) -> dict[int, list[Question]]:
    by_image: dict[int, list[Question]] = defaultdict(list)
    for text, answer, number in json.loads(path.read_text("utf-8")):
        by_image[number].append(Question(text, answer))
    return by_image


def _shuffled(items: Iterable[Any], seed: object) -> list[Any]:
    """Return `items` in an order that hashes decide, so that taking more keeps those already taken."""
    return sorted(items, key=lambda item: blake2b(f"{seed}/{item}".encode(), digest_size=8).digest())


def _in_turn(questions: list[Question]) -> list[Question]:
    """Return `questions` so that their types alternate: yes/no, three in four, would crowd out the rest."""
    seen: Counter[str] = Counter()
    ranks = []
    for question in questions:
        ranks.append(seen[_type(question)])
        seen[_type(question)] += 1
    return [question for _, question in sorted(zip(ranks, questions, strict=True), key=lambda pair: pair[0])]


def _type(question: Question) -> str:
    if question.answer in {"yes", "no"}:
        return "yes/no"
    return "color" if "color" in question.text else "shape"
