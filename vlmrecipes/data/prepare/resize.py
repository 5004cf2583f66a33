"""The size an image gets under a policy."""

from __future__ import annotations

import math
from collections.abc import Callable

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
    size = _side(width, scale, policy), _side(height, scale, policy)
    if policy.max_pixels is not None and size[0] * size[1] > policy.max_pixels:
        return _side(width, scale, policy, math.floor), _side(height, scale, policy, math.floor)
    return size


def _side(length: int, scale: float, policy: Prepare, whole: Callable[[float], int] = round) -> int:
    step = policy.multiple_of
    side = max(1, whole(length * scale / step)) * step
    if policy.max_side is not None and side > policy.max_side >= step:
        side = policy.max_side // step * step
    return side
