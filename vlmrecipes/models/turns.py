"""Rows to learn: one for each answer in a sample; and which of them a mixture shows in one epoch."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmrecipes.data.sample import Sample

Message = Mapping[str, Any]
"""A chat turn: `{"role", "content": [{"type": "image"} | {"type": "text", "text"}]}`."""


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
    for place, message in enumerate(sample.messages):
        if message["role"] == "assistant" and place:
            said = text_of(message)
            yield _row(sample, sample.messages[:place], said, part, (said,))
    yield _row(sample, sample.messages, sample.answer, part, sample.references)


def text_of(message: Message) -> str:
    """Return the text of a turn, its parts joined."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def count_images(messages: Sequence[Message]) -> int:
    """Return how many images the messages have place for."""
    parts = (message["content"] for message in messages if not isinstance(message["content"], str))
    return sum(part["type"] == "image" for content in parts for part in content)


def _row(sample: Sample, messages: Sequence[Message], answer: str, part: int, references: tuple[str, ...]) -> Row:
    prompt = json.dumps([dict(message) for message in messages], ensure_ascii=False)
    images = sample.images[: count_images(messages)]
    return Row(sample=sample.id, prompt=prompt, answer=answer, images=images, part=part, references=references)


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
