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

    def messages(self) -> list[Message]:
        """Return the messages of the prompt."""
        messages: list[Message] = json.loads(self.prompt)
        return messages


def rows_of(sample: Sample, part: int = 0) -> Iterator[Row]:
    """Yield a row for every assistant turn inside the messages, then one for the sample's answer."""
    for place, message in enumerate(sample.messages):
        if message["role"] == "assistant" and place:
            yield _row(sample, sample.messages[:place], text_of(message), part)
    yield _row(sample, sample.messages, sample.answer, part)


def text_of(message: Message) -> str:
    """Return the text of a turn, its parts joined."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def count_images(messages: Sequence[Message]) -> int:
    """Return how many images the messages have place for."""
    parts = (message["content"] for message in messages if not isinstance(message["content"], str))
    return sum(part["type"] == "image" for content in parts for part in content)


def _row(sample: Sample, messages: Sequence[Message], answer: str, part: int) -> Row:
    prompt = json.dumps([dict(message) for message in messages], ensure_ascii=False)
    images = sample.images[: count_images(messages)]
    return Row(sample=sample.id, prompt=prompt, answer=answer, images=images, part=part)


def mixture(parts: Sequence[tuple[int, float]], seed: int) -> list[int]:
    """Return the numbers of the rows of one epoch, where `parts` holds (rows, weight) pairs and rows are counted through.

    Weight 2.0 shows each row of its part twice, 0.5 a seeded half of them. The order is that of the parts.
    """
    starts = [sum(count for count, _ in parts[:place]) for place in range(len(parts))]
    return [
        start + row
        for place, (start, (count, weight)) in enumerate(zip(starts, parts, strict=True))
        for row in _weighted(count, weight, f"{seed}/{place}")
    ]


def _weighted(count: int, weight: float, seed: str) -> Iterator[int]:
    whole = int(weight)
    for _ in range(whole):
        yield from range(count)
    some = round((weight - whole) * count)
    yield from sorted(random.Random(seed).sample(range(count), some))  # noqa: S311 - a repeatable choice, not a secret
