"""`prepare.for_model`: the sizes that a model's image processor keeps, read from its settings as JSON; no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlmrecipes.data.declaration import Declaration
from vlmrecipes.errors import InputError
from vlmrecipes.models.catalog import resolve

KEY = "prepare.for_model"
SETTINGS = ("preprocessor_config.json", "processor_config.json")
"""Where image processors keep their settings; the second has them under `image_processor`."""
BY_HAND = "write the bounds by hand: max_side, max_pixels, multiple_of"

Bounds = dict[str, int | None]
"""Values of `max_side`, `max_pixels` and `multiple_of`."""


def with_bounds(declaration: Declaration, file: Path) -> Declaration:
    """Return the declaration of `file` with the bounds that `prepare.for_model` stands for; keys given beside it stay.

    Raises InputError for a model that is not on this machine, or whose settings tell no bounds.
    """
    policy = declaration.prepare
    if not policy.for_model:
        return declaration
    bounds = _of_folder(_folder(policy.for_model, file), policy.for_model, file)
    found = {key: value for key, value in bounds.items() if key not in policy.model_fields_set}
    return declaration.model_copy(update={"prepare": policy.model_copy(update=found)})


def _folder(name: str, file: Path) -> Path:
    """Return the model's folder: relative to the declaration, built in, or in the hub's local cache."""
    beside = file.parent / name
    ref = resolve(str(beside) if beside.is_dir() else name, file=str(file), key=KEY, weights=False)
    if not (folder := Path(ref.path)).is_dir():
        raise _problem(f"{name} is not in the local cache: run `hf download {name}`, or {BY_HAND}", file)
    return folder


def _of_folder(folder: Path, name: str, file: Path) -> Bounds:
    if (path := next((folder / one for one in SETTINGS if (folder / one).is_file()), None)) is None:
        raise _problem(f"{name} has no {SETTINGS[0]}: {BY_HAND}", file)
    try:
        settings = json.loads(path.read_text("utf-8"))
    except ValueError:
        raise _problem(f"{name}: {path.name} is not JSON; {BY_HAND}", file) from None
    settings = settings.get("image_processor", settings) if isinstance(settings, dict) else {}
    if (bounds := bounds_of(settings)) is None:
        kind = settings.get("image_processor_type", "its image processor")
        raise _problem(f"{name}: the settings of {kind} tell no bounds that are understood here; {BY_HAND}", file)
    return bounds


def _problem(text: str, file: Path) -> InputError:
    return InputError.one(text, file=str(file), key=KEY)


def bounds_of(settings: dict[str, Any]) -> Bounds | None:
    """Return the bounds within which an image processor takes an image as it is, or at least loses no detail; None: unknown.

    Qwen's: sides are multiples of what one token covers, and pixels at most `max_pixels` (`size.longest_edge` in newer
    files; transformers' `smart_resize` then changes nothing but tiny images). Others: the longest side that fits, over all
    tiles where a model cuts images into some.
    """
    size = settings.get("size")
    size = size if isinstance(size, dict) else {}
    if "merge_size" in settings:
        return _qwen(settings, size)
    grids = settings.get("image_grid_pinpoints")
    sides = [side for grid in grids for side in grid] if grids else [size.get(k) for k in ("height", "width")]
    longest = [size["longest_edge"]] if "longest_edge" in size else [side for side in sides if side]
    if not longest or not all(_count(side) for side in longest):
        return None
    tiles = settings.get("max_image_tiles") or (settings.get("max_patches") if settings.get("crop_to_patches") else 1)
    return {"max_side": max(longest) * (tiles if _count(tiles) else 1), "max_pixels": None, "multiple_of": 1}


def _qwen(settings: dict[str, Any], size: dict[str, Any]) -> Bounds | None:
    """Return Qwen's bounds. Other processors that merge patches count pixels by other rules, over frames for instance."""
    most = settings.get("max_pixels") or size.get("longest_edge") or size.get("max_pixels")
    patch, merge = settings.get("patch_size"), settings["merge_size"]
    if "Qwen" not in str(settings.get("image_processor_type")) or not all(map(_count, (most, patch, merge))):
        return None
    return {"max_side": None, "max_pixels": most, "multiple_of": patch * merge}


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
