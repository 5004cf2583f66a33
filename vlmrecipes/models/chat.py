"""Messages to the text that a model reads, and bytes to the picture it sees: one way for planning, training and evaluation.

A chat template costs more than everything else that is done to a short text, and most prompts of a set differ in a few
words or not at all. So a template is rendered once for each skeleton (the messages without their texts) with marks in
place of the texts, and the texts are put in. Templates may treat some texts specially (trim them, cut at `</think>`);
those are rendered in full.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat, takewhile
from typing import TYPE_CHECKING, Any

from vlmrecipes.models.turns import Message

if TYPE_CHECKING:
    from PIL import Image

MOST_PROMPTS = 65_536
"""Rendered prompts that are remembered."""
MOST_READ = 4096
"""Prompts that are remembered as they were read."""
MARKS = ("\ue000", "\ue001")
"""Around the number of a text in a rendered skeleton: private-use characters, which no template looks for."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A rendered row."""

    prompt: str
    """Up to where the model answers."""
    completion: str
    """The answer with its end-of-turn text."""


@dataclass(frozen=True, slots=True)
class _Skeleton:
    """What a template makes of messages whose texts are marks; None where it treats plain texts specially."""

    pair: Pair | None
    prompt: str | None


@dataclass(slots=True)
class Chat:
    """Renders messages with the chat template of a processor. May be pickled."""

    processor: Any
    _skeletons: dict[str, _Skeleton] = field(default_factory=dict)
    _prompts: dict[str, str] = field(default_factory=dict)

    def prompt(self, messages: Sequence[Message]) -> str:
        """Return the text that the model continues with its answer."""
        key = json.dumps(messages)
        if key not in self._prompts:
            if len(self._prompts) >= MOST_PROMPTS:
                self._prompts.clear()
            self._prompts[key] = self._prompt(messages)
        return self._prompts[key]

    def pair(self, messages: Sequence[Message], answer: str) -> Pair:
        """Return prompt and completion: together the text of the whole conversation, cut where the two part."""
        texts = [*_texts(messages), answer]
        if all(map(_plain, texts)) and (pair := self._skeleton(messages).pair):
            return Pair(_fill(pair.prompt, texts), _fill(pair.completion, texts))
        return self._render(messages, answer)

    def pairs(self, rows: Iterable[tuple[str, str]]) -> Iterator[Pair]:
        """Yield `pair` for rows of messages, as JSON text, and an answer: a prompt that comes again is not read again."""
        read = lru_cache(maxsize=MOST_READ)(self._read)
        for prompt, answer in rows:
            messages, mark, form = read(prompt)
            if form is None or not _plain(answer):
                yield self._render(messages, answer)
            else:
                yield Pair(form.prompt.replace(mark, answer), form.completion.replace(mark, answer))

    def _read(self, prompt: str) -> tuple[list[Message], str, Pair | None]:
        """Return the messages of a prompt, the mark of their answer, and them rendered with it; None: not with a mark."""
        messages: list[Message] = json.loads(prompt)
        texts = _texts(messages)
        form = self._skeleton(messages).pair if all(map(_plain, texts)) else None
        if form is not None:
            form = Pair(_fill(form.prompt, texts), _fill(form.completion, texts))
        return messages, _mark(len(texts)), form

    def _prompt(self, messages: Sequence[Message]) -> str:
        texts = _texts(messages)
        if all(map(_plain, texts)) and (prompt := self._skeleton(messages).prompt) is not None:
            return _fill(prompt, texts)
        return self._generation_prompt(messages)

    def _skeleton(self, messages: Sequence[Message]) -> _Skeleton:
        key = repr(_with_texts(messages, repeat("")))
        if key not in self._skeletons:
            self._skeletons[key] = self._marked(messages)
        return self._skeletons[key]

    def _marked(self, messages: Sequence[Message]) -> _Skeleton:
        """Render with marks, and again with two probes: a template that does not keep texts as they are shows itself."""
        count = len(_texts(messages)) + 1
        marks = [_mark(place) for place in range(count)]
        marked = _with_texts(messages, marks[:-1])
        pair, prompt = self._render(marked, marks[-1]), self._generation_prompt(marked)
        for probe in (["Ab 1."] * count, ["x", *["Yes, 22"] * (count - 1)]):
            said = _with_texts(messages, probe[:-1])
            if Pair(_fill(pair.prompt, probe), _fill(pair.completion, probe)) != self._render(said, probe[-1]):
                return _Skeleton(None, None)
            if _fill(prompt, probe) != self._generation_prompt(said):
                return _Skeleton(None, None)
        return _Skeleton(pair, prompt)

    def _generation_prompt(self, messages: Sequence[Message]) -> str:
        return str(self.processor.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))

    def _render(self, messages: Sequence[Message], answer: str) -> Pair:
        reply = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        whole = str(self.processor.apply_chat_template([*messages, reply], tokenize=False))
        prompt = self._generation_prompt(messages)
        same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(prompt, whole, strict=False))))
        return Pair(whole[:same], whole[same:])


def _mark(place: int) -> str:
    return f"{MARKS[0]}{place}{MARKS[1]}"


def _fill(text: str, texts: Sequence[str]) -> str:
    for place, value in enumerate(texts):
        text = text.replace(_mark(place), value)
    return text


def _plain(text: str) -> bool:
    """Tell whether templates leave a text alone: no outer spaces to trim, no tag to cut at, no mark of ours."""
    return bool(text) and text == text.strip() and "<" not in text and MARKS[0] not in text


def _texts(messages: Sequence[Message]) -> list[str]:
    return [part["text"] for message in messages for part in _parts(message) if part["type"] == "text"]


def _parts(message: Message) -> Sequence[Message]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _with_texts(messages: Sequence[Message], texts: Iterable[str]) -> list[Message]:
    """Return the messages with their texts replaced in order."""
    left = iter(texts)
    return [
        {**message, "content": [{**part, "text": next(left)} if part["type"] == "text" else part for part in parts]}
        for message in messages
        for parts in [_parts(message)]
    ]


def blank(width: int, height: int) -> Image.Image:
    """Return a white RGB picture of a size in pixels, which stands in where only the size counts."""
    from PIL import Image

    return Image.new("RGB", (width, height), "white")


def process_prompts(
    processor: Any, prompts: Sequence[str], images: Sequence[Sequence[Any]], padding_side: str, **of_images: Any
) -> Any:
    """Run the processor over B prompts with their pictures; returns tensors, `input_ids` [B, L] padded on one side.

    Special tokens are not added: the chat template has written them. A batch without any picture goes in as text.
    `of_images` goes to the image processor.
    """
    some = [row for row, pictures in enumerate(images) if pictures]
    rest = [row for row, pictures in enumerate(images) if not pictures]
    if some and rest and ALL_OR_NONE in processor.model_input_names:
        seen = _processed(
            processor, [prompts[row] for row in some], [images[row] for row in some], padding_side, **of_images
        )
        bare = _processed(processor, [prompts[row] for row in rest], [], padding_side)
        return _merged(processor, (some, seen), (rest, bare), padding_side)
    return _processed(processor, prompts, images, padding_side, **of_images)


ALL_OR_NONE = "aspect_ratio_ids"
"""Sign of Llama 3.2 Vision: its processor wants a picture in every row or in none, its model takes both together.

Then the words of a row without a picture attend to an empty one, which they do not alone: training keeps such rows apart.
"""


def _processed(
    processor: Any, prompts: Sequence[str], images: Sequence[Sequence[Any]], padding_side: str, **of_images: Any
) -> Any:
    return processor(
        text=list(prompts),
        images=[list(some) for some in images] if any(images) else None,
        add_special_tokens=False,
        padding=True,
        padding_side=padding_side,
        return_tensors="pt",
        **({"images_kwargs": of_images} if of_images else {}),
    )


def _merged(processor: Any, seen: tuple[list[int], Any], bare: tuple[list[int], Any], padding_side: str) -> Any:
    """Return one batch of the rows `seen` with pictures and `bare` without: where there is nothing to look at stands 0."""
    import torch
    from transformers import BatchFeature

    rows = len(seen[0]) + len(bare[0])
    width = max(part["input_ids"].shape[1] for _, part in (seen, bare))
    whole = {}
    for key, value in seen[1].items():
        by_token = key in bare[1] or key == CROSS_MASK
        shape = (rows, width, *value.shape[2:]) if by_token else (rows, *value.shape[1:])
        whole[key] = torch.zeros(shape, dtype=value.dtype)
    whole["input_ids"] += processor.tokenizer.pad_token_id
    for places, part in (seen, bare):
        length = part["input_ids"].shape[1]
        where = slice(width - length, None) if padding_side == "left" else slice(length)
        for key, value in part.items():
            if key in bare[1] or key == CROSS_MASK:
                whole[key][torch.tensor(places), where] = value
            else:
                whole[key][torch.tensor(places)] = value
    return BatchFeature(whole)


CROSS_MASK = "cross_attention_mask"
"""Which pictures a token sees, in Llama 3.2 Vision: [B, L, pictures, tiles]."""
