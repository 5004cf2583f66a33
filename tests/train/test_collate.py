from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from PIL import Image
from tiny import MemoryReader, assistant, png, processor, sample, user

from vlmrecipes.models.turns import rows_of
from vlmrecipes.train.collate import IGNORE, Collator
from vlmrecipes.train.pixels import BYTES, VALUES, numbers
from vlmrecipes.train.rows import LoadImages

SYSTEM = {"role": "system", "content": [{"type": "text", "text": "You read."}]}


def mixed() -> list[dict[str, Any]]:
    """Rows with one image, two images, none, several turns, and texts that a template may treat specially."""
    reader = MemoryReader()
    first, second = (reader.add(png(width, 32, width)) for width in (64, 90))
    samples = [
        sample(1, [user("Read the text.")], "Zwölf Boxkämpfer", [first]),
        sample(2, [SYSTEM, user("Compare the images, please.", 2)], "the same", [first, second]),
        sample(3, [user("Two and two?", 0)], "4", []),
        sample(4, [user("What is it?"), assistant("A line."), user("Of what?", 0)], "words", [second]),
        sample(5, [user("  Tags <b> and spaces ")], " <i>kept</i> ", [second]),
    ]
    rows = [row for one in samples for row in rows_of(one)]
    columns = {
        "prompt": [row.prompt for row in rows],
        "answer": [row.answer for row in rows],
        "images": [row.images for row in rows],
        "part": [row.part for row in rows],
        "tokens": [0 for _ in rows],
    }
    loaded = LoadImages((reader,))(columns)
    return [dict(zip(loaded, values, strict=True)) for values in zip(*loaded.values(), strict=True)]


def trl_batch(rows: list[dict[str, Any]], **options: Any) -> dict[str, torch.Tensor]:
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    decoded = [
        row | {"images": [Image.open(io.BytesIO(data)).convert("RGB") for data in row["images"]]} for row in rows
    ]
    return dict(DataCollatorForVisionLanguageModeling(processor(), **options)(decoded))


@pytest.mark.parametrize("which", [[0], [2], [0, 1], [0, 2, 3], [0, 1, 2, 3, 4, 5]])
def test_equals_trl(which: list[int]) -> None:
    rows = [mixed()[place] for place in which]
    ours, theirs = Collator(processor())(rows), trl_batch(rows, completion_only_loss=True)
    assert set(ours) == set(theirs)
    for key in theirs:
        assert torch.equal(ours[key], theirs[key]), key


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = mixed() * 4
    whole = Collator(processor())(rows)
    monkeypatch.setattr("vlmrecipes.train.collate.PIECE", 5)
    pieces = Collator(processor())(rows)
    assert all(torch.equal(whole[key], pieces[key]) for key in whole)


def test_labels_are_the_answer_and_its_end() -> None:
    reader = processor()
    batch = Collator(reader)(mixed())
    learned = [reader.tokenizer.decode(row[row != IGNORE]) for row in batch["labels"]]
    answers = [row["completion"][0]["content"][0]["text"] for row in mixed()]
    assert learned == [f"{answer}<|im_end|>\n" for answer in answers]


def test_all_text_is_learned_when_asked_for() -> None:
    reader = processor()
    batch = Collator(reader, responses_only=False)(mixed())
    hidden = batch["labels"] == IGNORE
    assert torch.equal(hidden, (batch["attention_mask"] == 0) | (batch["input_ids"] == reader.image_token_id))


def test_pixels_are_cast() -> None:
    batch = Collator(processor(), pixel_dtype="bfloat16")(mixed())
    assert batch["pixel_values"].dtype == torch.bfloat16
    assert batch["image_grid_thw"].dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixels_that_travel_as_bytes_arrive_as_the_processors_numbers(dtype: torch.dtype) -> None:
    reader = processor()
    known = Collator(reader, pixel_dtype=str(dtype).removeprefix("torch."))(mixed())
    batch = Collator(reader, as_bytes=True)(mixed())
    assert batch[BYTES].dtype == torch.uint8
    frames = reader.image_processor.temporal_patch_size
    assert batch[BYTES].numel() * frames == known[VALUES].numel()
    assert torch.equal(numbers(reader, batch.pop(BYTES), dtype), known.pop(VALUES))
    assert all(torch.equal(batch[key], known[key]) for key in known)


def test_pixels_of_a_processor_that_does_not_normalise_travel_as_they_are() -> None:
    reader = processor()
    reader.image_processor.do_normalize = False
    assert VALUES in Collator(reader, as_bytes=True)(mixed())
