"""A few training rows as the model will see them: what it reads, in which size it sees pictures, what it learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.loader import decode
from vlmrecipes.models.seen import seen
from vlmrecipes.models.turns import Row
from vlmrecipes.train.collate import IGNORE, Collator
from vlmrecipes.train.rows import Reader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHOWN = 3


def rows_seen(  # noqa: PLR0913
    processor: Any,
    rows: Sequence[Row],
    lengths: NDArray[np.int32],
    readers: Sequence[Reader],
    *,
    responses_only: bool,
    rewarded: bool = False,
) -> list[dict[str, Any]]:
    """Return the shortest row, one in the middle and the longest, made into batches as a training makes them.

    Each is `{"sample", "tokens", "learned", "pictures": [{"size", "seen"}], "text", "answer"}`: tokens in all and learned,
    the stored size as [width, height] and what the model sees (see `models.seen`), what is read, with the tokens of a
    picture counted, and the learned tokens decoded again. Where the model's own answers are `rewarded`, tokens are those of
    the prompt, none of the row's is learned, and `answer` is the reference.
    """
    import numpy as np

    order = np.argsort(lengths, kind="stable")
    places = dict.fromkeys(order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).astype(int)].tolist())
    collator = Collator(processor, responses_only)
    seen = [_seen(collator, rows[place], readers[rows[place].part]) for place in places]
    return [_rewarded(found, rows[place]) for found, place in zip(seen, places, strict=True)] if rewarded else seen


def _seen(collator: Collator, row: Row, reader: Reader) -> dict[str, Any]:
    images = reader.read(row.images)
    answer = {"role": "assistant", "content": [{"type": "text", "text": row.answer}]}
    batch = collator([{"prompt": row.messages(), "completion": [answer], "images": images}])
    ids, labels = batch["input_ids"][0], batch["labels"][0]
    return {
        "sample": row.sample,
        "tokens": len(ids),
        "learned": int((labels != IGNORE).sum()),
        "pictures": [_picture(collator.processor, *decode(data).size) for data in images],
        "text": _counted(collator.processor, ids[labels == IGNORE].tolist()),
        "answer": collator.processor.tokenizer.decode(labels[labels != IGNORE]),
    }


def _rewarded(found: dict[str, Any], row: Row) -> dict[str, Any]:
    return found | {"tokens": found["tokens"] - found["learned"], "learned": 0, "answer": row.answer}


def _picture(processor: Any, width: int, height: int) -> dict[str, Any]:
    return {"size": [width, height], "seen": asdict(seen(processor, width, height))}


def _counted(processor: Any, ids: Sequence[int]) -> str:
    """Return the text of tokens, every run of those that stand for a picture written as one and its number."""
    pictures = set(processor.image_token_ids)
    runs = [(special, list(some)) for special, some in groupby(ids, lambda token: token if token in pictures else None)]
    decode = processor.tokenizer.decode
    return "".join(decode(some) if special is None else f"{decode([special])}x{len(some)}" for special, some in runs)
