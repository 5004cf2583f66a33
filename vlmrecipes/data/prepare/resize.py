"""The size an image gets under a policy."""

from __future__ import annotations

import math

from vlmrecipes.data.declaration import Prepare


def target_size(width: int, height: int, policy: Prepare) -> tuple[int, int]:
    """Return (width, height) in pixels: enlarged to `min_side`, shrunk to `max_side` and `max_pixels`, rounded.

    Shrinking wins over enlarging. Sides are at least `multiple_of`.
    """
    scale = 1.0
    if policy.min_side is not None and min(width, height) < policy.min_side:
        scale = policy.min_side / min(width, height)
    if policy.max_side is not None:
        scale = min(scale, policy.max_side / max(width, height))
    if policy.max_pixels is not None:
        scale = min(scale, math.sqrt(policy.max_pixels / (width * height)))
    return _side(width, scale, policy), _side(height, scale, policy)


def _side(length: int, scale: float, policy: Prepare) -> int:
    step = policy.multiple_of
    side = max(1, round(length * scale / step)) * step
    if policy.max_side is not None and side > policy.max_side >= step:
        side = policy.max_side // step * step
    return side
