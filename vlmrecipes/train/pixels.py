"""Pixels between a loader's processes and the model: bytes on the way, numbers where the model computes.

Qwen's image processors lay a picture out in patches and write each twice, as two frames of a film in which nothing moves, in
numbers of 32 bits. What there is to know is an eighth of that. The numbers are the processor's own: its last two steps are
done on the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BYTES = "pixel_bytes"
"""What a batch has instead of `pixel_values` [P, channels x frames x side x side]: uint8 [P, channels x side x side]."""
VALUES = "pixel_values"
RAW = {"do_rescale": False, "do_normalize": False, "temporal_patch_size": 1}
"""What the image processor is told so that it gives these bytes."""


def travel_as_bytes(processor: Any) -> bool:
    """Tell whether `processor` makes its numbers of bytes as Qwen's do."""
    from transformers import Qwen2VLImageProcessor

    images = getattr(processor, "image_processor", None)
    return isinstance(images, Qwen2VLImageProcessor) and images.do_rescale and images.do_normalize


def numbers(processor: Any, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return `pixel_values` [P, channels x frames x side x side] of `pixels`, the bytes of P patches, on their device.

    They are what the processor would have given, cast to `dtype`.
    """
    its = processor.image_processor
    side, frames = its.patch_size, its.temporal_patch_size
    patches = pixels.view(len(pixels), -1, side, side)
    known = (its.do_rescale, its.rescale_factor, its.do_normalize, its.image_mean, its.image_std)
    values = its.rescale_and_normalize(patches, *known).to(dtype)
    return values.unsqueeze(2).expand(-1, -1, frames, -1, -1).reshape(len(pixels), -1)
