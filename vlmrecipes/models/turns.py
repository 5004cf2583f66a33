"""Rows to learn: one for each answer in a sample; and which of them a mixture shows in one epoch."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.sample import Sample, answer_of

if TYPE_CHECKING:
    import pyarrow as pa

Message = Mapping[str, Any]
"""A chat turn: `{"role", "content": [{"type": "image"} | {"type": "text", "text"}]}`."""
IMAGE, ASSISTANT = '"type": "image"', '"role": "assistant"'
"""What stands in messages as JSON text for an image and for a turn of the model; inside texts quotes are escaped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One prompt and the answer that is learned."""

    sample: str
    """Id of the sample it comes from."""
    prompt: str
    """The messages before the answer, as JSON text."""
    answer: str
    images: tuple[str, ...]
    """Keys of the images in `prompt`, in order."""
    part: int = 0
    """Which snapshot of the mixture it comes from, counted from 0."""
    references: tuple[str, ...] = ()
    """Accepted answers, `answer` among them."""

    def messages(self) -> list[Message]:
        """Return the messages of the prompt."""
        messages: list[Message] = json.loads(self.prompt)
        return messages


def rows_of(sample: Sample, part: int = 0) -> Iterator[Row]:
    """Yield a row for every assistant turn inside the messages, then one for the sample's answer."""
    return _rows(sample.id, sample.images, _dumped(sample.messages), sample.references, part)


def rows_in(samples: pa.Table, part: int = 0) -> Iterator[Row]:
    """Yield what `rows_of` does for samples as they lie in their table, without making each."""
    columns = (samples[name].to_pylist() for name in ("id", "images", "messages", "references"))
    for sample, images, messages, references in zip(*columns, strict=True):
        yield from _rows(sample, images, messages, references, part)


def _rows(sample: str, images: Sequence[str], messages: str, references: Sequence[str], part: int) -> Iterator[Row]:
    """Yield the rows of a sample whose messages are JSON text."""
    for place, turn in enumerate(json.loads(messages)) if ASSISTANT in messages else ():
        if turn["role"] == "assistant" and place:
            yield _row(sample, images, _dumped(json.loads(messages)[:place]), (text_of(turn),), part)
    yield _row(sample, images, messages, references, part)


def _row(sample: str, images: Sequence[str], prompt: str, references: Sequence[str], part: int) -> Row:
    return Row(
        sample=sample,
        prompt=prompt,
        answer=answer_of(references),
        images=tuple(images[: prompt.count(IMAGE)]),
        part=part,
        references=tuple(references),
    )


def _dumped(messages: Sequence[Message]) -> str:
    return json.dumps([dict(message) for message in messages], ensure_ascii=False)


def text_of(message: Message) -> str:
    """Return the text of a turn, its parts joined."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def mixture(parts: Sequence[tuple[Sequence[Row], float]], seed: int) -> list[Row]:
    """Return the rows of one epoch, where `parts` holds (rows, weight) pairs, in the order of the parts.

    Weight 2.0 shows each row of its part twice, 0.5 a seeded half of them.
    """
    return [row for place, (rows, weight) in enumerate(parts) for row in _weighted(rows, weight, f"{seed}/{place}")]


def _weighted(rows: Sequence[Row], weight: float, seed: str) -> Iterator[Row]:
    whole = int(weight)
    for _ in range(whole):
        yield from rows
    some = round((weight - whole) * len(rows))
    chosen = random.Random(seed).sample(range(len(rows)), some)  # noqa: S311 - a repeatable choice, not a secret
    yield from (rows[place] for place in sorted(chosen))
