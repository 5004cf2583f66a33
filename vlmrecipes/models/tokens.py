"""How many tokens rows take under the model's own processor, told from texts and image sizes; no image is decoded.

A processor writes an image into the prompt as a number of tokens that depends on its size alone. Most say that number; the
others are watched while they process a blank picture of each size. Either way a few rows are really processed at the end,
with blank pictures, and must come out as told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmrecipes.errors import InputError, RunError
from vlmrecipes.models.chat import Chat, blank, process_prompts
from vlmrecipes.models.turns import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BATCH = 4096
"""Texts tokenized at once."""
PROBES = 4
"""Rows that are really processed."""

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens of N rows."""

    prompt: NDArray[np.int32]
    """[N]; image tokens included."""
    completion: NDArray[np.int32]
    """[N]; the answer and its end of turn: what is learned."""

    def __getitem__(self, rows: NDArray[np.int64]) -> Lengths:
        return Lengths(prompt=self.prompt[rows], completion=self.completion[rows])

    @property
    def total(self) -> NDArray[np.int32]:
        """[N]; the whole row."""
        return self.prompt + self.completion


def count(processor: Any, rows: Sequence[Row], sizes: Mapping[str, Size]) -> Lengths:
    """Return the lengths of `rows`; `sizes` holds the size of every image that they name.

    Raises InputError for an image size that the processor refuses, RunError when its tokens cannot be told from sizes.
    """
    import numpy as np

    pairs = list(Chat(processor).pairs((row.prompt, row.answer) for row in rows))
    prompts = text_lengths(processor, [pair.prompt for pair in pairs])
    completions = text_lengths(processor, [pair.completion for pair in pairs])
    pictures = [[sizes[key] for key in row.images] for row in rows]
    prompts += _expansion(processor, [pair.prompt for pair in pairs], prompts, pictures)
    return Lengths(prompt=prompts.astype(np.int32), completion=completions.astype(np.int32))


def prompt_lengths(processor: Any, prompts: Sequence[str], pictures: Sequence[Sequence[Size]]) -> NDArray[np.int64]:
    """Return the tokens of rendered prompts with pictures of these sizes [N]. Raises as `count` does."""
    lengths = text_lengths(processor, prompts)
    return lengths + _expansion(processor, prompts, lengths, pictures)


def text_lengths(processor: Any, texts: Sequence[str]) -> NDArray[np.int64]:
    """Return the tokens of texts as they are written, no special token added [N]; equal texts are counted once."""
    import numpy as np

    places: dict[str, int] = {}
    which = np.fromiter((places.setdefault(text, len(places)) for text in texts), np.int64, len(texts))
    distinct, lengths = list(places), []
    for start in range(0, len(distinct), BATCH):
        lengths += _tokenized(processor.tokenizer, distinct[start : start + BATCH])
    return np.array(lengths, np.int64)[which]


def _tokenized(tokenizer: Any, texts: list[str]) -> list[int]:
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if hasattr(backend, "encode_batch_fast"):  # no copy of every token into Python
        backend.no_padding()
        backend.no_truncation()
        return [len(encoding) for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def _expansion(
    processor: Any, prompts: Sequence[str], lengths: NDArray[np.int64], pictures: Sequence[Sequence[Size]]
) -> NDArray[np.int64]:
    """Return by how many tokens the images lengthen each prompt [N]."""
    import numpy as np

    distinct = list(dict.fromkeys(size for sizes in pictures for size in sizes))
    measures = [_told, _measured] if hasattr(processor, "_get_num_multimodal_tokens") else [_measured]
    for measure in measures:
        extra = dict(zip(distinct, measure(processor, distinct), strict=True))
        added = np.fromiter((sum(extra[size] for size in sizes) for sizes in pictures), np.int64, len(pictures))
        if _agrees(processor, prompts, lengths + added, pictures):
            return added
    raise RunError(
        "the token counts of this model's processor do not follow from image sizes: "
        "rows that were really processed came out longer or shorter; this model is not supported"
    )


def _told(processor: Any, sizes: Sequence[Size]) -> list[int]:
    """Ask the processor for the tokens of images; one of them already stands in the prompt."""
    try:
        told = processor._get_num_multimodal_tokens(image_sizes=[(height, width) for width, height in sizes])  # noqa: SLF001
    except ValueError as error:
        raise InputError.one(f"the processor refuses an image: {error}", key="model.id") from None
    return [number - 1 for number in told["num_image_tokens"]] if sizes else []


def _measured(processor: Any, sizes: Sequence[Size]) -> list[int]:
    """Process a blank picture of every size and see how much longer the prompt gets."""
    if not sizes:
        return []
    prompt = Chat(processor).prompt([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "A"}]}])
    bare = int(text_lengths(processor, [prompt])[0])
    return [_processed(processor, prompt, [size]) - bare for size in sizes]


def _agrees(
    processor: Any, prompts: Sequence[str], lengths: NDArray[np.int64], pictures: Sequence[Sequence[Size]]
) -> bool:
    return all(_processed(processor, prompts[row], pictures[row]) == lengths[row] for row in _probes(lengths))


def _probes(lengths: NDArray[np.int64]) -> Iterable[int]:
    """Choose rows from the shortest to the longest."""
    import numpy as np

    if len(lengths) == 0:
        return ()
    ranks = np.linspace(0, len(lengths) - 1, min(PROBES, len(lengths))).astype(int)
    return [int(row) for row in np.argsort(lengths, kind="stable")[ranks]]


def _processed(processor: Any, prompt: str, sizes: Sequence[Size]) -> int:
    try:
        done = process_prompts(processor, [prompt], [[blank(*size) for size in sizes]], padding_side="right")
    except ValueError as error:
        raise InputError.one(f"the processor refuses an image: {error}", key="model.id") from None
    return int(done["attention_mask"].sum())
