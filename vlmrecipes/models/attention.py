"""Attention of a whole batch of images in one call.

A vision tower of the Qwen-VL kind packs the patches of all images into one row and attends within each image, or within
each window of one. Without the flash-attn package, transformers cuts the row and calls attention once per segment and
layer. The implementation here takes the row and its segments at once: PyTorch's variable-length flash kernel on a GPU,
elsewhere one batched call per length of segment.

Shapes: H heads, T patches in the row, D width of a head, S segments, N patches of a segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import isclose
from typing import Any

NAME = "vlmrecipes_flash_varlen"
"""transformers hands `cu_seqlens` to implementations with `flash` in their name."""
VISION_TYPES = frozenset({"qwen2_vl_vision", "qwen2_5_vl_vision", "qwen3_vl_vision", "qwen3_vl_moe_vision"})
"""`model_type` of the vision configs whose modules hand over `cu_seqlens`."""


def use_varlen(model: Any) -> bool:
    """Switch the vision tower of `model` to this implementation; False where it has no tower that allows it.

    It is set on the live configuration only, past transformers' check for an installed flash-attn, and never saved:
    `config.json` does not hold the attention implementation. The language model keeps its own.
    A second model made from the very same config object would meet that check; one made from a copy would not.
    """
    from transformers import AttentionInterface

    configs = [module.config for module in model.modules() if hasattr(module, "config")]
    towers = [config for config in configs if getattr(config, "model_type", None) in VISION_TYPES]
    if towers:
        AttentionInterface.register(NAME, attend)
    for config in towers:
        config._attn_implementation = NAME  # noqa: SLF001
    return bool(towers)


def attend(  # noqa: PLR0913
    module: Any,  # noqa: ARG001
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any = None,  # noqa: ARG001
    *,
    cu_seq_lens_q: Any,
    max_length_q: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Any, None]:
    """Attend within segments, as transformers' attention functions do.

    `query`, `key` and `value` are (1, H, T, D); `cu_seq_lens_q` (S + 1,) holds the segments' bounds, `max_length_q` the
    longest. Returns (1, T, H, D), and None for the weights.
    """
    import torch

    rows = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    usual = not dropout and (scaling is None or isclose(scaling, query.shape[-1] ** -0.5))
    if usual and query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        return _flash(rows, cu_seq_lens_q, max_length_q)[None], None
    lengths = tuple((cu_seq_lens_q[1:] - cu_seq_lens_q[:-1]).tolist())
    return _grouped(rows, _layout(lengths, query.device), scaling, dropout)[None], None


def _flash(rows: list[Any], bounds: Any, longest: int) -> Any:
    """Run the GPU kernel, which scales by D ** -0.5, on query, key and value, each (T, H, D); returns that shape."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = rows
    return varlen_attn(query, key, value, bounds, bounds, longest, longest)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The row's patches brought together by length of segment."""

    order: Any
    """(T,) the place in the row of the patch that comes next; None where all segments have one length."""
    inverse: Any
    """(T,) undoes `order`; None with it."""
    groups: tuple[tuple[int, int], ...]
    """(S, N) of every group, in order."""


@lru_cache(maxsize=16)
def _layout(lengths: tuple[int, ...], device: Any) -> _Layout:
    """Return the layout for segments of these lengths: the layers of a forward ask for the same one or two."""
    import torch

    sizes = sorted(set(lengths))
    groups = tuple((lengths.count(size), size) for size in sizes)
    if len(sizes) == 1:
        return _Layout(None, None, groups)
    with torch.inference_mode(mode=False):  # one made during generation may serve a training step
        spans = torch.arange(sum(lengths), device=device).split(lengths)
        order = torch.cat([spans[place] for place in sorted(range(len(lengths)), key=lengths.__getitem__)])
        return _Layout(order, order.argsort(), groups)


def _grouped(rows: list[Any], layout: _Layout, scaling: float | None, dropout: float) -> Any:
    """Attend with one call per group; `rows` are query, key and value, each (T, H, D), and so is the result."""
    import torch

    if layout.order is not None:
        rows = [row.index_select(0, layout.order) for row in rows]
    parts = zip(*(row.split([s * n for s, n in layout.groups]) for row in rows), strict=True)
    done = [_batched(part, group, scaling, dropout) for part, group in zip(parts, layout.groups, strict=True)]
    row = torch.cat(done)
    return row if layout.inverse is None else row.index_select(0, layout.inverse)


def _batched(rows: tuple[Any, ...], group: tuple[int, int], scaling: float | None, dropout: float) -> Any:
    """Attend within (S, N) segments of one length; `rows` are (S * N, H, D), and so is the result."""
    from torch.nn.functional import scaled_dot_product_attention

    query, key, value = (row.unflatten(0, group).transpose(1, 2) for row in rows)
    attended = scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scaling)
    return attended.transpose(1, 2).flatten(0, 1)
