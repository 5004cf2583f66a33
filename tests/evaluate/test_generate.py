from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from families import make
from PIL import Image
from tiny import MemoryReader, lines, model, png, processor, sample, user

from vlmrecipes.errors import RunError
from vlmrecipes.evaluate.engines.hf import HfEngine, end_tokens
from vlmrecipes.evaluate.generate import Blank, generate
from vlmrecipes.models.catalog import resolve
from vlmrecipes.models.load import load_model, load_processor

pytestmark = pytest.mark.filterwarnings("ignore:.*is not writable.*:UserWarning")


def samples(reader: MemoryReader) -> list[Any]:
    """Samples of every kind: lines of several lengths, two images, none."""
    two = sample(90, [user("Compare.", 2)], "x", [reader.add(png(50, 32, 101)), reader.add(png(70, 40, 102))])
    none = sample(91, [user("Two and two?", 0)], "4", [])
    return [*lines(reader, 5), two, none]


def answer(
    reader: MemoryReader, given: list[Any], network: Any, *, rows: int = 3, longest: int = 6, **options: Any
) -> Any:
    found = generate(HfEngine(network, processor(), longest, rows=rows), given, reader, **options)
    return found.predictions, found.stats


def test_every_sample_is_answered_in_order() -> None:
    reader = MemoryReader()
    given, seen = samples(reader), []
    found, stats = answer(reader, given, model(), on_progress=seen.append)
    assert [one.id for one in found] == [one.id for one in given]
    assert all(one.text is not None and not one.error for one in found)
    assert sum(seen) == len(given)
    assert stats["probes"]["batch_vs_single"] == {"rows": 7, "equal": 7}
    assert (stats["batch_rows"], stats["failed"]) == (3, 0)


def test_batches_answer_as_single_rows_do() -> None:
    reader = MemoryReader()
    given = samples(reader)
    together, _ = answer(reader, given, model(), rows=7)
    alone, _ = answer(reader, given, model(), rows=1)
    assert together == alone


def test_a_bad_image_fails_alone() -> None:
    reader = MemoryReader()
    given = samples(reader)
    reader.images[given[1].images[0]] = b"not an image"
    del reader.images[given[3].images[0]]
    found, stats = answer(reader, given, model())
    assert [one.text is None for one in found] == [False, True, False, True, False, False, False]
    assert "UnidentifiedImageError" in found[1].error
    assert "KeyError" in found[3].error
    assert stats["failed"] == 2


def test_out_of_memory_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, network = MemoryReader(), model()
    given, whole = samples(reader), network.generate

    def small_memory(**inputs: Any) -> Any:
        if len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError
        return whole(**inputs)

    monkeypatch.setattr(network, "generate", small_memory)
    found, stats = answer(reader, given, network, rows=6)
    assert all(one.text is not None for one in found)
    assert stats["batch_rows"] in {1, 2}


def test_stops_at_the_end_of_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, network = MemoryReader(), model()
    end = processor().tokenizer.eos_token_id

    def says_hi(**inputs: Any) -> Any:
        said = torch.tensor([[104, 105, end, 256, 256, 256], [104] * 6])[: len(inputs["input_ids"])]
        return torch.cat([inputs["input_ids"], said], dim=1)

    monkeypatch.setattr(network, "generate", says_hi)
    (first, second), stats = answer(reader, lines(reader, 2), network, rows=2, probe=False)
    ended, cut = sorted((first, second), key=lambda one: one.tokens)
    assert (ended.text, ended.tokens, ended.truncated) == ("hi", 3, False)
    assert (cut.text, cut.tokens, cut.truncated) == ("hhhhhh", 6, True)
    assert stats["probes"] == {}
    assert stats["truncated"] == 1


def test_settings_of_the_model_do_not_slip_in() -> None:
    reader, network = MemoryReader(), model()
    plain, _ = answer(reader, samples(reader), network, probe=False)
    own = network.generation_config
    own.do_sample, own.temperature, own.repetition_penalty = True, 5.0, 30.0
    again, _ = answer(reader, samples(reader), network, probe=False)
    assert again == plain
    assert network.generation_config is own


def test_end_tokens_are_of_tokenizer_and_model() -> None:
    network = model()
    network.generation_config.eos_token_id = [256, 258]
    assert end_tokens(network, processor()) == [256, 258]
    network.generation_config.eos_token_id = None
    assert end_tokens(network, processor()) == [258]


def test_nothing_to_answer() -> None:
    found, stats = answer(MemoryReader(), [], model())
    assert found == []
    assert stats["probes"] == {}


def test_a_token_budget_fills_batches_and_short_rows_share_one() -> None:
    reader = MemoryReader()
    engine = HfEngine(model(), processor(), 6, tokens=150)
    sizes = [len(answered) for answered in engine.answers(samples(reader), reader)]
    assert sum(sizes) == 7
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_rows_that_ended_leave_the_batch_and_change_nothing() -> None:
    reader, network = MemoryReader(), load_model(resolve("builtin:reader"))
    given, found = samples(reader), {}
    rows: list[int] = []
    network.register_forward_pre_hook(lambda _, __, more: rows.append(len(more["input_ids"])), with_kwargs=True)
    for compact in (True, False):
        rows.clear()
        engine = HfEngine(network, processor(), 40, compact=compact)
        found[compact] = dict(one for answered in engine.answers(given, reader) for one in answered)
        assert (min(rows) < max(rows)) == compact
    assert found[True] == found[False]
    assert len({one.tokens for one in found[True].values()}) > 1


@pytest.mark.filterwarnings("ignore:.hidden_state. is deprecated:FutureWarning")  # transformers' own Llama 3.2 Vision
def test_rows_of_llama_vision_leave_the_batch_with_what_they_see(tmp_path: Path) -> None:
    ref, reader = resolve(str(make("mllama", tmp_path))), MemoryReader()
    given = [
        sample(number, [user(f"Read {'x' * number} it.")], "a", [reader.add(png(60 + 10 * number, 40, number))])
        for number in range(6)
    ]
    found, rows = {}, []
    network = load_model(ref)
    network.register_forward_pre_hook(lambda _, __, more: rows.append(len(more["input_ids"])), with_kwargs=True)
    for compact in (True, False):
        engine = HfEngine(network, load_processor(ref), 12, compact=compact)
        engine.ends = list(range(100))
        found[compact] = dict(one for answered in engine.answers(given, reader) for one in answered)
    assert found[True] == found[False]
    assert min(rows) < max(rows) == 6
    assert {one.error for one in found[True].values()} <= {"", None}
    assert len({one.tokens for one in found[True].values()}) > 1


def test_blank_pictures_have_the_size_of_the_real_ones() -> None:
    reader = MemoryReader()
    (data,) = Blank(reader).read([reader.add(png(50, 32, 7))])
    with Image.open(io.BytesIO(data)) as image:
        assert (image.size, image.convert("RGB").getextrema()) == ((50, 32), ((255, 255),) * 3)


def test_nothing_answered_at_all_is_an_error() -> None:
    reader = MemoryReader()
    given = lines(reader, 2)
    reader.images = dict.fromkeys(reader.images, b"no picture")
    with pytest.raises(RunError, match="none of 2 rows could be answered"):
        answer(reader, given, model())
