"""Where patches and tokens stand, worked out for a whole batch at once.

transformers works out the positions of a Qwen2.5-VL batch image by image and row by row, in thousands of tiny operations
that a GPU waits for. Few grids of patches are distinct, so what the vision tower needs is remembered for each of them, and
the positions of tokens are counted in numpy.

Shapes: B rows, L tokens a row, S images.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

TOWER = "qwen2_5_vl_vision"
Grid = tuple[int, int, int]
"""Patches of an image: frames, rows, columns."""


def quicken(model: Any) -> bool:
    """Let a Qwen2.5-VL model use what is here; False for other models. What it computes stays the same."""
    towers = [module for module in model.modules() if getattr(module, "patch_embed", None) is not None]
    towers = [tower for tower in towers if getattr(tower.config, "model_type", None) == TOWER]
    for tower in towers:
        tower.register_forward_pre_hook(_with_geometry, with_kwargs=True)
    inner = next((module for module in model.modules() if hasattr(module, "get_rope_index")), None)
    if towers and inner is not None:
        merge = inner.config.vision_config.spatial_merge_size
        inner.get_rope_index = partial(rope_index, merge, inner.get_rope_index)
    return bool(towers)


def _with_geometry(tower: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Add positions, segments and windows to what the tower is called with."""
    import torch

    grid = kwargs["grid_thw"] if "grid_thw" in kwargs else args[1]
    sizes = (tower.spatial_merge_size, tower.window_size, tower.patch_size)
    found = [_geometry(tuple(one), *sizes) for one in grid.tolist()]
    starts, start = [], 0
    for one in found:
        starts.append(start)
        start += one["windows"].numel()
    lengths = torch.cat([one["lengths"] for one in found])
    window_lengths = torch.cat([one["window_lengths"] for one in found])
    added = {
        "position_ids": torch.cat([one["positions"] for one in found]),
        "window_index": torch.cat([one["windows"] + begin for one, begin in zip(found, starts, strict=True)]),
        "cu_seqlens": _bounds(lengths),
        "cu_window_seqlens": _bounds(window_lengths),
    }
    moved = {name: value.to(grid.device, non_blocking=True) for name, value in added.items()}
    longest = {"max_seqlen": int(lengths.max()), "max_window_seqlen": int(window_lengths.max())}
    return args, kwargs | moved | longest


def _bounds(lengths: Any) -> Any:
    import torch

    return torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))


@lru_cache(maxsize=4096)
def _geometry(grid: Grid, merge: int, window: int, patch: int) -> dict[str, Any]:
    """Return what transformers' own functions say of one image, on the CPU."""
    import torch
    from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

    one = torch.tensor([grid])
    index, bounds = get_vision_window_index(one, spatial_merge_size=merge, window_size=window, patch_size=patch)
    return {
        "positions": get_vision_position_ids(one, merge),
        "windows": index,
        "lengths": torch.tensor([grid[1] * grid[2]] * grid[0]),
        "window_lengths": bounds.diff(),
    }


def rope_index(  # noqa: PLR0913, PLR0917
    merge: int,
    otherwise: Callable[..., Any],
    input_ids: Any,
    mm_token_type_ids: Any,
    image_grid_thw: Any = None,
    video_grid_thw: Any = None,
    second_per_grid_ts: Any = None,
    attention_mask: Any = None,
    **others: Any,
) -> tuple[Any, Any]:
    """Return the positions of tokens (3, B, L), for time, height and width, and how far they lag behind L (B, 1).

    Text counts on by one; an image stands at one time, its rows and columns count from there, and the text after it goes on
    behind the longer of the two (Wang et al., Qwen2-VL, 2024, §2.1, M-RoPE). Videos are left to `otherwise`, the model's own.
    """
    import numpy as np
    import torch

    if video_grid_thw is not None:
        return otherwise(  # type: ignore[no-any-return]
            input_ids, mm_token_type_ids, image_grid_thw, video_grid_thw, second_per_grid_ts, attention_mask, **others
        )
    grids = iter([] if image_grid_thw is None else image_grid_thw.tolist())
    types = mm_token_type_ids.cpu().numpy()
    mask = np.ones_like(types, bool) if attention_mask is None else attention_mask.cpu().numpy().astype(bool)
    positions = np.zeros((3, *types.shape), np.int64)
    lags = np.zeros((len(types), 1), np.int64)
    for row, (kinds, kept) in enumerate(zip(types, mask, strict=True)):
        found = _row(kinds[kept], grids, merge)
        positions[:, row, kept] = found
        lags[row] = found.max(initial=-1) + 1 - found.shape[1]
    return tuple(torch.from_numpy(array).to(input_ids.device) for array in (positions, lags))


def _row(kinds: Any, grids: Any, merge: int) -> Any:
    """Return the positions of one row's tokens (3, N); `kinds` [N] is 0 for text and 1 inside images."""
    import numpy as np

    positions = np.empty((3, len(kinds)), np.int64)
    at = place = 0
    edges = np.flatnonzero(np.diff(kinds)) + 1
    for end in (*edges.tolist(), len(kinds)):
        while at < end and kinds[at]:
            frames, rows, columns = (side // step for side, step in zip(next(grids), (1, merge, merge), strict=True))
            block = np.indices((frames, rows, columns)).reshape(3, -1)
            positions[:, at : at + block.shape[1]] = block + place
            at, place = at + block.shape[1], place + max(rows, columns)
        if at < end:
            positions[:, at:end] = np.arange(end - at) + place
            at, place = end, place + end - at
    return positions
