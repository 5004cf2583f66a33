"""Rows to one padded batch: the same ids, masks, labels and pixels that TRL's collator makes, in less time.

Shapes: B rows, L tokens of the longest row, P image patches of all rows, D numbers a patch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.loader import decode
from vlmrecipes.models.chat import CROSS_MASK, Chat, Pair, process_prompts
from vlmrecipes.train.pixels import BYTES, RAW, VALUES, travel_as_bytes

if TYPE_CHECKING:
    import torch

IGNORE = -100
"""The label of a token that is not learned."""
PIECE = 16
"""Rows processed at once: their pixels stay in the processor's cache until they are cast."""
TOKEN_KEYS = ("input_ids", "token_type_ids", "mm_token_type_ids", CROSS_MASK)
"""What a processor gives a list a row of, a number or an array a token."""


@dataclass(slots=True)
class Collator:
    """Turns rows `{"prompt", "completion", "images": [bytes]}` into tensors. May be pickled."""

    processor: Any
    responses_only: bool = True
    """Learn only the completions, their end of turn included; otherwise all but padding and image tokens."""
    pixel_dtype: str = ""
    """Name of the torch type that pixels are cast to (`bfloat16`); empty keeps the processor's."""
    as_bytes: bool = False
    """Give pixels as `pixels.BYTES` where the processor makes its numbers of them."""
    chat: Chat = field(init=False)

    def __post_init__(self) -> None:
        """Set up the cache of rendered templates."""
        self.chat = Chat(self.processor)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask`, `labels` [B, L] and what else the model takes (`pixel_values` [P, D] …).

        Raises OSError where an image cannot be decoded.
        """
        share_by_name()
        pairs = [self.chat.pair(row["prompt"], row["completion"][0]["content"][0]["text"]) for row in rows]
        images = [[decode(data) for data in row["images"]] for row in rows]
        tokens, others = self._prompts(pairs, images)
        completions = self.processor.tokenizer([pair.completion for pair in pairs], add_special_tokens=False)
        return self._padded(tokens, completions) | others

    def _prompts(self, pairs: Sequence[Pair], images: Sequence[Any]) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        """Return the numbers of every row's tokens as arrays without padding, and the tensors of the images of all rows."""
        step = PIECE if self._packs() else len(pairs)
        raw = RAW if self.as_bytes and travel_as_bytes(self.processor) else {}
        tokens: dict[str, list[Any]] = {}
        others: dict[str, list[torch.Tensor]] = {}
        for start in range(0, len(pairs), step):
            prompts = [pair.prompt for pair in pairs[start : start + step]]
            some = images[start : start + step]
            done = process_prompts(self.processor, prompts, some, padding_side="right", **raw)
            lengths = done.pop("attention_mask").sum(1).tolist()
            for key, value in done.items():
                if key in TOKEN_KEYS:
                    arrays = zip(value.numpy(), lengths, strict=True)
                    tokens.setdefault(key, []).extend(array[:length] for array, length in arrays)
                else:
                    others.setdefault(BYTES if raw and key == VALUES else key, []).append(self._cast(value))
        return tokens, {key: _joined(values) for key, values in others.items()}

    def _packs(self) -> bool:
        """Tell whether the processor lays the patches of all images end to end, so that pieces can be joined."""
        return "image_grid_thw" in self.processor.model_input_names

    def _cast(self, value: torch.Tensor) -> torch.Tensor:
        import torch

        return value.to(getattr(torch, self.pixel_dtype)) if self.pixel_dtype and value.is_floating_point() else value

    def _padded(self, tokens: Mapping[str, list[Any]], completions: Mapping[str, list[Any]]) -> dict[str, torch.Tensor]:
        import numpy as np
        import torch

        prompts, replies = tokens["input_ids"], completions["input_ids"]
        shape = (len(prompts), max(len(a) + len(b) for a, b in zip(prompts, replies, strict=True)))
        arrays = {key: np.zeros((*shape, *rows[0].shape[1:]), np.int64) for key, rows in tokens.items()}
        arrays["attention_mask"] = np.zeros(shape, np.int64)
        arrays["input_ids"][:] = self.processor.tokenizer.pad_token_id
        arrays["labels"] = np.full(shape, IGNORE, np.int64)
        for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
            start, end = len(prompt), len(prompt) + len(reply)
            for key in tokens:
                arrays[key][row, :start] = tokens[key][row]
            arrays["input_ids"][row, start:end] = reply
            if CROSS_MASK in tokens:  # the answer sees what the end of its prompt sees
                arrays[CROSS_MASK][row, start:end] = tokens[CROSS_MASK][row][-1]
            arrays["attention_mask"][row, :end] = 1
            arrays["labels"][row, start:end] = reply
        if not self.responses_only:
            self._learn_prompts(arrays)
        return {key: torch.from_numpy(array) for key, array in arrays.items()}

    def _learn_prompts(self, arrays: dict[str, Any]) -> None:
        import numpy as np

        images = [number for number in self.processor.image_token_ids if number is not None]
        text = (arrays["attention_mask"] == 1) & ~np.isin(arrays["input_ids"], images)
        arrays["labels"] = np.where(text, arrays["input_ids"], IGNORE)


def share_by_name() -> None:
    """Let loader processes pass tensors by the name of their shared memory.

    Passing open files, torch's default, costs a handshake a tensor with a process that is busy with the next batch.
    """
    import torch

    torch.multiprocessing.set_sharing_strategy("file_system")


def _joined(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join along the first dimension; in a loader process straight into shared memory, where the batch must go anyway."""
    import torch
    from torch.utils.data import get_worker_info

    if get_worker_info() is None:
        return values[0] if len(values) == 1 else torch.cat(list(values))
    shape = (sum(len(value) for value in values), *values[0].shape[1:])
    shared = torch.UntypedStorage._new_shared(math.prod(shape) * values[0].element_size())  # noqa: SLF001 - as torch's own collate
    joined = torch.empty(0, dtype=values[0].dtype).set_(shared, 0, shape)
    return torch.cat(list(values), out=joined)
