"""Greedy answers of a model to samples: batched by length, decoded ahead, and never ended by a single bad row.

Shapes: B rows, L tokens of the longest prompt in a batch, G generated tokens.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from vlmrecipes.models.chat import Chat, decode, process_prompts
from vlmrecipes.models.tokens import prompt_lengths

if TYPE_CHECKING:
    from vlmrecipes.data.sample import Sample

AGREEMENT_ROWS = 16
"""Rows that are also generated one at a time."""
READ = 512
"""Images whose headers are read at once."""


class Reader(Protocol):
    """Reads encoded images by key."""

    def read(self, keys: Sequence[str]) -> list[bytes]:
        """Return the bytes of the images in the order of `keys`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the model answered to one sample."""

    id: str
    """The sample's."""
    text: str | None
    """None when generating failed."""
    tokens: int
    """Generated tokens, the end of the turn included."""
    truncated: bool
    """Whether `max_new_tokens` came before the end of the turn."""
    error: str = ""
    """Why `text` is None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateStats:
    """How the predictions came about, for the record."""

    batch_size: int
    """The smallest that was in use: it is halved when the memory of the GPU runs out."""
    max_new_tokens: int
    truncated: int
    empty: int
    failed: int
    seconds: float
    batch_agreement: float | None
    """Share of up to 16 rows whose text is the same when they are generated one at a time; None when not probed."""


@dataclass(slots=True)
class _Engine:
    """A model ready to answer; `batch_size` shrinks when memory runs out."""

    model: Any
    processor: Any
    reader: Reader
    batch_size: int
    ends: list[int]
    """Ids that end an answer."""
    chat: Chat = field(init=False)

    def __post_init__(self) -> None:
        self.chat = Chat(self.processor)


def generate(  # noqa: PLR0913
    model: Any,
    processor: Any,
    samples: Sequence[Sample],
    reader: Reader,
    *,
    batch_size: int,
    max_new_tokens: int,
    on_progress: Callable[[int], object] = lambda _: None,
    probe: bool = True,
) -> tuple[list[Prediction], GenerateStats]:
    """Return a prediction for every sample, in the order of `samples`, and how it went.

    Greedy, whatever the model's own generation settings say. A row that cannot be answered becomes a prediction without
    text. `on_progress` is called with the number of samples done since the last call. `probe` generates a few rows again
    one at a time, because padding can change what some models say.
    """
    began = time.monotonic()
    engine = _Engine(model.eval(), processor, reader, batch_size, end_tokens(model, processor))
    done: dict[int, Prediction] = {}
    with _settings(model, _greedy(engine, max_new_tokens)):
        for places, predictions in _batches(engine, samples, _longest_first(engine, samples)):
            done.update(zip(places, predictions, strict=True))
            on_progress(len(places))
        found = [done[place] for place in range(len(samples))]
        agreement = _agreement(engine, samples, found) if probe else None
    return found, GenerateStats(
        batch_size=engine.batch_size,
        max_new_tokens=max_new_tokens,
        truncated=sum(prediction.truncated for prediction in found),
        empty=sum(prediction.text is not None and not prediction.text.strip() for prediction in found),
        failed=sum(prediction.text is None for prediction in found),
        seconds=time.monotonic() - began,
        batch_agreement=agreement,
    )


def _longest_first(engine: _Engine, samples: Sequence[Sample]) -> list[int]:
    """Return the numbers of the samples, longest prompt first, so that a want of memory shows at once."""
    sizes = _sizes(engine.reader, list(dict.fromkeys(key for sample in samples for key in sample.images)))
    whole = [place for place, sample in enumerate(samples) if all(key in sizes for key in sample.images)]
    prompts = [engine.chat.prompt(samples[place].messages) for place in whole]
    pictures = [[sizes[key] for key in samples[place].images] for place in whole]
    lengths = dict(zip(whole, prompt_lengths(engine.processor, prompts, pictures).tolist(), strict=True))
    return sorted(range(len(samples)), key=lambda place: (-lengths.get(place, 0), place))


def _sizes(reader: Reader, keys: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return the sizes of the images that can be read; the others fail in their batch."""
    from PIL import Image

    sizes = {}
    for start in range(0, len(keys), READ):
        for key, data in _readable(reader, keys[start : start + READ]):
            try:
                sizes[key] = Image.open(io.BytesIO(data)).size
            except OSError:
                continue
    return sizes


def _readable(reader: Reader, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    try:
        yield from zip(keys, reader.read(keys), strict=True)
    except Exception:  # noqa: BLE001 - a store may fail in any way; what cannot be read fails in its batch
        if len(keys) > 1:
            for key in keys:
                yield from _readable(reader, [key])


def _batches(
    engine: _Engine, samples: Sequence[Sample], order: Sequence[int]
) -> Iterator[tuple[Sequence[int], list[Prediction]]]:
    """Yield the places of a batch and its predictions; the next batch is read and processed meanwhile."""
    cut = [order[start : start + engine.batch_size] for start in range(0, len(order), engine.batch_size)]
    with ThreadPoolExecutor(max_workers=1) as ahead:
        waiting = None
        for number, places in enumerate(cut):
            inputs = waiting or ahead.submit(_inputs, engine, [samples[place] for place in places])
            following = [samples[place] for place in cut[number + 1]] if number + 1 < len(cut) else []
            waiting = ahead.submit(_inputs, engine, following) if following else None
            yield places, _answers(engine, [samples[place] for place in places], inputs.result)


def _inputs(engine: _Engine, samples: Sequence[Sample]) -> Any:
    """Return what the processor makes of B samples: `input_ids` [B, L], padded on the left, and pixels."""
    encoded = iter(engine.reader.read([key for sample in samples for key in sample.images]))
    images = [[decode(next(encoded)) for _ in sample.images] for sample in samples]
    prompts = [engine.chat.prompt(sample.messages) for sample in samples]
    return process_prompts(engine.processor, prompts, images, padding_side="left")


def _answers(engine: _Engine, samples: Sequence[Sample], inputs: Callable[[], Any]) -> list[Prediction]:
    """Answer a batch; where that fails, its halves, down to single rows whose error becomes the prediction's."""
    import torch

    try:
        if len(samples) > engine.batch_size:
            return _halves(engine, samples)
        return _predictions(engine, samples, _generated(engine, inputs()))
    except Exception as error:  # noqa: BLE001 - models and images fail in any way, and the other rows must be answered
        if len(samples) == 1:
            return [Prediction(id=samples[0].id, text=None, tokens=0, truncated=False, error=_said(error))]
        exhausted = isinstance(error, torch.OutOfMemoryError)
    if exhausted:
        engine.batch_size = max(1, len(samples) // 2)
        torch.cuda.empty_cache()
    return _halves(engine, samples)


def _halves(engine: _Engine, samples: Sequence[Sample]) -> list[Prediction]:
    middle = (len(samples) + 1) // 2
    halves = (samples[:middle], samples[middle:])
    return [prediction for half in halves for prediction in _answers(engine, half, partial(_inputs, engine, half))]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _generated(engine: _Engine, inputs: Any) -> Any:
    """Return the generated ids [B, G], rows that ended early padded at the end."""
    import torch

    inputs = inputs.to(engine.model.device)
    for key, value in inputs.items():
        if value.is_floating_point():
            inputs[key] = value.to(engine.model.dtype)
    with torch.inference_mode():
        output = engine.model.generate(**inputs)
    return output[:, inputs["input_ids"].shape[1] :].cpu()


def _greedy(engine: _Engine, max_new_tokens: int) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=engine.ends,
        pad_token_id=engine.processor.tokenizer.pad_token_id,
    )


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


def _predictions(engine: _Engine, samples: Sequence[Sample], generated: Any) -> list[Prediction]:
    found = []
    for sample, ids in zip(samples, generated.tolist(), strict=True):
        stop = next((place for place, number in enumerate(ids) if number in engine.ends), None)
        text = engine.processor.tokenizer.decode(ids[:stop], skip_special_tokens=True)
        tokens = len(ids) if stop is None else stop + 1
        found.append(Prediction(id=sample.id, text=text, tokens=tokens, truncated=stop is None))
    return found


def _agreement(engine: _Engine, samples: Sequence[Sample], found: Sequence[Prediction]) -> float | None:
    """Answer rows spread over all samples again, singly, and return the share of equal texts."""
    there = [place for place, prediction in enumerate(found) if prediction.text is not None]
    step = max(1, len(there) // AGREEMENT_ROWS)
    chosen = there[::step][:AGREEMENT_ROWS]
    if not chosen:
        return None
    alone = [_alone(engine, samples[place]) for place in chosen]
    return sum(one.text == found[place].text for one, place in zip(alone, chosen, strict=True)) / len(chosen)


def _alone(engine: _Engine, sample: Sample) -> Prediction:
    return _answers(engine, [sample], partial(_inputs, engine, [sample]))[0]
