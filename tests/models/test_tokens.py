from __future__ import annotations

import json
from typing import Any

import pytest

from vlmrecipes.errors import InputError, RunError
from vlmrecipes.models import tokens
from vlmrecipes.models.chat import Chat, blank, process_prompts
from vlmrecipes.models.turns import Row

SIZES = {"line": (320, 32), "page": (500, 400), "dot": (30, 30)}


def row(text: str, answer: str, *images: str) -> Row:
    content = [{"type": "image"} for _ in images] + [{"type": "text", "text": text}]
    return Row(sample="x", prompt=json.dumps([{"role": "user", "content": content}]), answer=answer, images=images)


ROWS = [
    row("Read.", "Zwölf", "line"),
    row("Compare.", "no", "page", "dot"),
    row("Two and two?", "4"),
    row(" a ", "b", "dot"),
]


def processed(processor: Any, one: Row) -> tuple[int, int]:
    pair = Chat(processor).pair(one.messages(), one.answer)
    done = process_prompts(processor, [pair.prompt], [[blank(*SIZES[key]) for key in one.images]], padding_side="right")
    return done["input_ids"].shape[1], len(processor.tokenizer(pair.completion)["input_ids"])


def test_equals_processing(processor: Any) -> None:
    lengths = tokens.count(processor, ROWS, SIZES)
    assert list(zip(lengths.prompt.tolist(), lengths.completion.tolist(), strict=True)) == [
        processed(processor, one) for one in ROWS
    ]
    assert lengths.total.tolist() == [sum(processed(processor, one)) for one in ROWS]


def test_no_rows(processor: Any) -> None:
    assert tokens.count(processor, [], {}).total.tolist() == []


class Other:
    """Stands in for a processor that does not tell how many tokens an image takes, or tells wrong."""

    def __init__(self, processor: Any) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer

    def apply_chat_template(self, *args: Any, **options: Any) -> str:
        return str(self.processor.apply_chat_template(*args, **options))

    def __call__(self, **given: Any) -> Any:
        return self.processor(**given)


class Wrong(Other):
    def _get_num_multimodal_tokens(self, image_sizes: list[tuple[int, int]]) -> dict[str, list[int]]:
        return {"num_image_tokens": [1 for _ in image_sizes]}


class Whimsical(Other):
    """Its tokens do not follow from sizes."""

    calls = 0

    def __call__(self, **given: Any) -> Any:
        type(self).calls += 1
        return self.processor(**given | {"text": [text + "!" * self.calls for text in given["text"]]})


@pytest.mark.parametrize("kind", [Other, Wrong])
def test_a_processor_that_does_not_tell_is_watched(processor: Any, kind: type[Other]) -> None:
    assert (
        tokens.count(kind(processor), ROWS, SIZES).total.tolist() == tokens.count(processor, ROWS, SIZES).total.tolist()
    )


def test_tokens_that_do_not_follow_from_sizes_are_an_error(processor: Any) -> None:
    with pytest.raises(RunError, match="do not follow from image sizes"):
        tokens.count(Whimsical(processor), ROWS, SIZES)


def test_a_refused_size_is_an_error_in_the_input(processor: Any) -> None:
    with pytest.raises(InputError, match="refuses an image"):
        tokens.count(processor, [row("Read.", "x", "thread")], {"thread": (5000, 5)})


def test_equal_texts_have_equal_lengths(processor: Any) -> None:
    assert tokens.text_lengths(processor, ["ab", "ä", "", "ab", "<|im_end|>"]).tolist() == [2, 2, 0, 2, 1]
