"""In which size a model sees a picture: told by its processor, from a blank one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlmrecipes.models.chat import Chat, blank, process_prompts

PICTURE = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "A"}]}]
FLAT = 4
"""Dimensions of pixel values that hold whole pictures [S, 3, height, width]; with tiles there is one more."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What becomes of a picture."""

    width: int
    """Pixels of each part."""
    height: int
    parts: int
    """Tiles it is cut into, an overview counted as one; 1 where it stays whole."""


def seen(processor: Any, width: int, height: int) -> Seen:
    """Return how a picture of so many pixels reaches the model. Raises ValueError where the processor refuses the size."""
    batch = process_prompts(
        processor, [Chat(processor).prompt(PICTURE)], [[blank(width, height)]], padding_side="right"
    )
    if "image_grid_thw" in batch:
        _, rows, columns = batch["image_grid_thw"][0].tolist()
        patch = processor.image_processor.patch_size
        return Seen(columns * patch, rows * patch, 1)
    pixels = batch["pixel_values"]
    high, wide = pixels.shape[-2:]
    if pixels.ndim == FLAT:
        high, wide = batch["image_sizes"][0].tolist() if "image_sizes" in batch else (high, wide)
        return Seen(wide, high, 1)
    tiles = batch["aspect_ratio_mask"].sum() if "aspect_ratio_mask" in batch else pixels.shape[1]
    return Seen(wide, high, int(tiles))
