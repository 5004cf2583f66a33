"""GGUF files read back: is every tensor whole, and is it one of the merged weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vlmrecipes import extras

NEAR = 0.02
"""Relative difference of mean and spread up to which a tensor of lower precision is taken for the one it was made from."""
EXACT = ("F32", "BF16")
"""Types that hold 16-bit weights without loss."""
Sign = tuple[int, int]
"""Number of values, and the sum of their 32-bit patterns: the same in any order."""


def whole(file: Path) -> list[str]:
    """Return what is wrong with a file by itself: not readable, no tensors, or values that are not numbers."""
    import numpy as np

    try:
        found = list(_read(file))
    except (OSError, ValueError, IndexError, KeyError) as error:
        return [f"cannot be read as GGUF: {error}"]
    broken = [name for name, _, values in found if not np.isfinite(values).all()]
    return ([] if found else ["holds no tensors"]) + [f"{name} holds values that are no numbers" for name in broken]


def compare(folder: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Look for every tensor of `files` among the weights in `folder`, or parts of them.

    Returns `files`, `tensors` {n, exact, near, other} and `problems`. `other` tensors are found nowhere: vectors may be, where
    a family's norms are written another way; a matrix that is found nowhere is a problem.
    """
    signs, shapes = _signs(folder)
    counts = {"n": 0, "exact": 0, "near": 0, "other": 0}
    problems: list[str] = []
    for file in files:
        if broken := whole(file):
            problems += [f"{file.name}: {problem}" for problem in broken]
            continue
        for name, kind, values in _read(file):
            found = _found(kind, values, signs, shapes)
            counts["n"] += 1
            counts[found] += 1
            if found == "other" and values.ndim > 1:
                problems.append(f"{file.name}: {name} is none of the merged weights")
    return {"files": [file.name for file in files], "tensors": counts, "problems": problems}


def _read(file: Path) -> Iterator[tuple[str, str, Any]]:
    """Yield (name, type, values as 32-bit floats) of every tensor."""
    gguf = extras.need("gguf", "read a GGUF back")
    for tensor in gguf.GGUFReader(str(file)).tensors:
        yield str(tensor.name), tensor.tensor_type.name, gguf.dequantize(tensor.data, tensor.tensor_type)


def _found(kind: str, values: Any, signs: set[Sign], shapes: dict[int, list[tuple[float, float]]]) -> str:
    if kind in EXACT and _sign(values) in signs:
        return "exact"
    mean, spread = _shape(values)
    near = any(
        abs(mean - other) <= NEAR * other and abs(spread - wide) <= NEAR * max(wide, 1e-9)
        for other, wide in shapes.get(values.size, ())
    )
    return "near" if near and kind not in EXACT else "other"


def _signs(folder: Path) -> tuple[set[Sign], dict[int, list[tuple[float, float]]]]:
    """Return the signs of all weights and of their parts, and mean and spread of them by number of values."""
    from safetensors import safe_open

    signs: set[Sign] = set()
    shapes: dict[int, list[tuple[float, float]]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - not a mapping
                for part in _parts(weights.get_tensor(name).float().numpy()):
                    signs.add(_sign(part))
                    shapes.setdefault(part.size, []).append(_shape(part))
    return signs, shapes


def _parts(values: Any) -> Iterator[Any]:
    """Yield a weight and what converters cut it into: queries, keys and values; the frames of a convolution."""
    yield values
    if values.shape and values.shape[0] % 3 == 0:
        third = values.shape[0] // 3
        yield from (values[start : start + third] for start in range(0, len(values), third))
    if values.ndim == 5:  # noqa: PLR2004 - out, in, time, height, width
        yield from (values[:, :, frame] for frame in range(values.shape[2]))


def _sign(values: Any) -> Sign:
    import numpy as np

    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return int(values.size), int(bits.sum(dtype=np.uint64))


def _shape(values: Any) -> tuple[float, float]:
    import numpy as np

    return float(np.abs(values).mean(dtype=np.float64)), float(values.std(dtype=np.float64))
