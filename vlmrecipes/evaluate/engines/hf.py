"""A model in this process, by way of transformers: rows sorted and batched by tokens, pictures prepared ahead.

Shapes: B rows, L tokens of the longest prompt in a batch, G generated tokens.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.loader import decode
from vlmrecipes.evaluate.engines import Answered, Images, Prediction, failed
from vlmrecipes.evaluate.engines.decoding import greedy
from vlmrecipes.models.chat import Chat, process_prompts
from vlmrecipes.models.memory import generation_tokens
from vlmrecipes.models.tokens import prompt_lengths

if TYPE_CHECKING:
    from vlmrecipes.data.sample import Sample

READ = 512
"""Images whose headers are read at once."""
AHEAD = 2
"""Batches that are prepared while another is generated."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A sample to answer."""

    place: int
    sample: Sample
    tokens: int
    """Of its prompt and of the longest answer."""


@dataclass(slots=True)
class HfEngine:
    """A loaded model with its processor. `tokens` and `rows` shrink when memory runs out."""

    model: Any
    processor: Any
    max_new_tokens: int
    rows: int | None = None
    """At most so many at once; None leaves it to the token budget."""
    tokens: int | None = None
    """Most tokens in a batch: rows times the longest prompt and answer; None takes what the device holds well."""
    compact: bool = True
    """Let go of rows that ended; False generates with the model's own loop."""
    settings: dict[str, Any] = field(default_factory=dict)
    """More that the record says; may hold another name for `engine`."""
    ends: list[int] = field(init=False)
    """Ids that end an answer."""
    chat: Chat = field(init=False)
    largest: int = field(init=False, default=0)
    """Rows of the largest batch that went through."""
    lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    """Tokenizers do not bear two threads."""

    def __post_init__(self) -> None:
        self.chat = Chat(self.processor)
        self.ends = end_tokens(self.model, self.processor)
        self.tokens = self.tokens or generation_tokens(self.model)

    def answers(self, samples: Sequence[Sample], images: Images) -> Iterator[list[Answered]]:
        """Yield the predictions of a batch at a time, longest prompts first; see `Engine`."""
        self.model.eval()
        with _settings(self.model, self._greedy()):
            for rows, inputs in self._prepared(self._batches(self._rows(samples, images)), images):
                yield self._answered(rows, inputs, images)

    def about(self) -> dict[str, Any]:
        """Return engine, batching and precision; see `Engine`."""
        return {
            "engine": "hf",
            **self.settings,
            "batch_rows": self.largest,
            "batch_tokens": self.tokens,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.model.device.type,
        }

    def _rows(self, samples: Sequence[Sample], images: Images) -> list[_Row]:
        """Return the rows, longest first, so that a want of memory shows at once; those without readable images last."""
        sizes = _sizes(images, list(dict.fromkeys(key for sample in samples for key in sample.images)))
        whole = [place for place, sample in enumerate(samples) if all(key in sizes for key in sample.images)]
        prompts = [self.chat.prompt(samples[place].messages) for place in whole]
        pictures = [[sizes[key] for key in samples[place].images] for place in whole]
        lengths = dict(zip(whole, prompt_lengths(self.processor, prompts, pictures).tolist(), strict=True))
        rows = [
            _Row(place, sample, lengths.get(place, 0) + self.max_new_tokens) for place, sample in enumerate(samples)
        ]
        return sorted(rows, key=lambda row: (-row.tokens, row.place))

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """Yield as many rows at once as the budget holds; asked anew for each batch, since it may shrink."""
        start = 0
        while start < len(rows):
            size = self._most(rows[start].tokens)
            yield list(rows[start : start + size])
            start += size

    def _most(self, longest: int) -> int:
        budget = max(1, (self.tokens or 0) // longest)
        return budget if self.rows is None else min(budget, self.rows)

    def _prepared(
        self, batches: Iterator[list[_Row]], images: Images
    ) -> Iterator[tuple[list[_Row], Callable[[], Any]]]:
        """Yield batches with a call that gives their inputs; the next ones are read, decoded and processed meanwhile."""
        waiting: list[tuple[list[_Row], Future[Any]]] = []
        with ThreadPoolExecutor(max_workers=1) as ahead:
            for rows in batches:
                waiting.append((rows, ahead.submit(self._inputs, rows, images)))
                if len(waiting) > AHEAD:
                    first, inputs = waiting.pop(0)
                    yield first, inputs.result
            for first, inputs in waiting:
                yield first, inputs.result

    def _inputs(self, rows: Sequence[_Row], images: Images) -> Any:
        """Return what the processor makes of B rows: `input_ids` [B, L], padded on the left, and pixels."""
        encoded = images.read([key for row in rows for key in row.sample.images])
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as decoding:
            pictures = decoding.map(decode, encoded)
            held = [[next(pictures) for _ in row.sample.images] for row in rows]
        prompts = [self.chat.prompt(row.sample.messages) for row in rows]
        with self.lock:
            return process_prompts(self.processor, prompts, held, padding_side="left")

    def _answered(self, rows: Sequence[_Row], inputs: Callable[[], Any], images: Images) -> list[Answered]:
        """Answer a batch; where that fails, its halves, down to single rows whose error becomes the prediction's."""
        try:
            if len(rows) > self._most(max(row.tokens for row in rows)):
                return self._halves(rows, images)
            return self._predictions(rows, self._generated(inputs()))
        except Exception as error:  # noqa: BLE001 - models and images fail in any way, and the other rows must be answered
            if len(rows) == 1:
                return [(rows[0].place, failed(rows[0].sample, error))]
            exhausted = _out_of_memory(error)
        if exhausted:
            self._give_way(rows)
        return self._halves(rows, images)

    def _give_way(self, rows: Sequence[_Row]) -> None:
        """Halve what a batch may hold, after one ran out of memory."""
        import torch

        self.tokens = max(row.tokens for row in rows) * ((len(rows) + 1) // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _halves(self, rows: Sequence[_Row], images: Images) -> list[Answered]:
        middle = (len(rows) + 1) // 2
        halves = (rows[:middle], rows[middle:])
        return [one for half in halves for one in self._answered(half, partial(self._inputs, half, images), images)]

    def _generated(self, inputs: Any) -> Any:
        """Return the generated ids [B, G]; what follows an end token means nothing."""
        import torch

        inputs = inputs.to(self.model.device)
        for key, value in inputs.items():
            if value.is_floating_point():
                inputs[key] = value.to(self.model.dtype)
        own = {"custom_generate": greedy} if self.compact else {}
        with torch.inference_mode():
            output = self.model.generate(**inputs, **own)
        return output[:, inputs["input_ids"].shape[1] :].cpu()

    def _greedy(self) -> Any:
        from transformers import GenerationConfig

        return GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            eos_token_id=self.ends,
            pad_token_id=self.processor.tokenizer.pad_token_id,
        )

    def _predictions(self, rows: Sequence[_Row], generated: Any) -> list[Answered]:
        self.largest = max(self.largest, len(rows))
        return [(row.place, self._prediction(row, ids)) for row, ids in zip(rows, generated.tolist(), strict=True)]

    def _prediction(self, row: _Row, ids: Sequence[int]) -> Prediction:
        stop = next((place for place, number in enumerate(ids) if number in self.ends), None)
        text = self.processor.tokenizer.decode(ids[:stop], skip_special_tokens=True)
        tokens = len(ids) if stop is None else stop + 1
        return Prediction(id=row.sample.id, text=text, tokens=tokens, truncated=stop is None)


def _sizes(images: Images, keys: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return the sizes of the images that can be read; the others fail in their batch."""
    from PIL import Image

    sizes = {}
    for start in range(0, len(keys), READ):
        for key, data in _readable(images, keys[start : start + READ]):
            try:
                sizes[key] = Image.open(io.BytesIO(data)).size
            except OSError:
                continue
    return sizes


def _readable(images: Images, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    try:
        yield from zip(keys, images.read(keys), strict=True)
    except Exception:  # noqa: BLE001 - a store may fail in any way; what cannot be read fails in its batch
        if len(keys) > 1:
            for key in keys:
                yield from _readable(images, [key])


def _out_of_memory(error: Exception) -> bool:
    """Tell whether memory ran out: the GPU's, or this machine's, of which torch has no error of its own."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


@contextmanager
def _settings(model: Any, settings: Any) -> Iterator[None]:
    """Replace the model's generation settings for a while.

    Given as an argument to `generate`, settings are filled up from the model's own, penalties for repetition included.
    """
    owners = [model, model.get_base_model()] if hasattr(model, "get_base_model") else [model]
    own = [owner.generation_config for owner in owners]
    try:
        for owner in owners:
            owner.generation_config = settings
        yield
    finally:
        for owner, before in zip(owners, own, strict=True):
            owner.generation_config = before


def end_tokens(model: Any, processor: Any) -> list[int]:
    """Return the ids that end an answer: the tokenizer's and those of the model's generation settings."""
    given = getattr(model.generation_config, "eos_token_id", None)
    several = given if isinstance(given, list) else [given]
    return sorted({number for number in (processor.tokenizer.eos_token_id, *several) if number is not None})
