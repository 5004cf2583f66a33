"""What a record says of its recipe, its plan and its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.place import absolute
from vlmrecipes.data.sample import Split
from vlmrecipes.data.snapshot import Snapshot, open_snapshot, samples_fingerprint
from vlmrecipes.errors import InputError
from vlmrecipes.fingerprint import file_sha256, fingerprint
from vlmrecipes.masking import without_secrets
from vlmrecipes.models.catalog import ModelRef, resolve
from vlmrecipes.plan import Plan
from vlmrecipes.recipe import Recipe

if TYPE_CHECKING:
    import pyarrow as pa

PROCESSOR = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
TEMPLATES = ("chat_template.jinja", "chat_template.json")


def recipe_fields(recipe: Recipe, source_sha256: str) -> dict[str, Any]:
    """Return the record's `recipe`: name, version, and the hashes of the file and of what it was resolved to."""
    resolved = recipe.model_dump(mode="json")
    return {
        "name": recipe.name,
        "version": recipe.version,
        "fingerprint": fingerprint(resolved),
        "source_sha256": source_sha256,
        "resolved": resolved,
    }


def plan_fields(plan: Plan) -> dict[str, Any]:
    """Return the record's `plan`, `data` and `model` as they are known before the job."""
    summary = plan.summary()
    return {
        "plan": {key: summary[key] for key in ("plan", "fingerprint", "steps", "tokens", "overlong", "memory_bytes")},
        "data": _data(plan),
        "model": {
            "id": plan.model.id,
            "revision": plan.model.revision,
            "files": plan.model.files,
            "load_in": plan.recipe.model.load_in,
            "processor": _processor(plan.model),
        },
    }


def _data(plan: Plan) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    store = without_secrets(absolute(plan.store))
    used = [(role, open_snapshot(plan.store, name)) for role, name in plan.roles()]
    learned = pa.concat_arrays(
        [pa.array([], pa.string()), *(_pixels(snapshot, "train") for role, snapshot in used if role == "train")]
    )
    found = []
    for role, snapshot in used:
        part = {"role": role, "store": store} | _snapshot(snapshot)
        if role == "train":
            part["selection"] = _selection(snapshot, "train", None)
        else:
            part["selection"] = _selection(snapshot, "eval", plan.recipe.eval.limit)
            part["images_in_train"] = pc.is_in(_pixels(snapshot, "eval"), value_set=learned).true_count
        found.append(part)
    return found


def _snapshot(snapshot: Snapshot) -> dict[str, Any]:
    keys = ("samples", "splits", "rows", "drops", "license", "images", "parent", "tables")
    about = {"snapshot": snapshot.name, "fingerprint": snapshot.fingerprint}
    return about | {key: snapshot.manifest[key] for key in keys} | {"sources": snapshot.manifest.get("sources", [])}


def _selection(snapshot: Snapshot, side: Split, limit: int | None) -> dict[str, Any]:
    """Return which samples of a snapshot are used: a side, the first so many by id, and the fingerprint of just these."""
    table = snapshot.side(side, ("id", "digest"))
    chosen = sorted(zip(table["id"].to_pylist(), table["digest"].to_pylist(), strict=True))[:limit]
    return {"split": side, "limit": limit, "samples": len(chosen), "fingerprint": samples_fingerprint(chosen)}


def _pixels(snapshot: Snapshot, side: Split) -> pa.Array:
    """Return the images of one side by what they show, each once: the hash of their pixels."""
    import pyarrow.compute as pc

    return pc.unique(snapshot.pictures(side, ("pixels",))["pixels"])


def _processor(model: ModelRef) -> dict[str, Any]:
    """Return what turns pictures and chats into tokens: hashes of its files, and the pixels that it allows."""
    folder = Path(model.path)
    try:
        # A hub id has become a folder once its processor was downloaded for the plan.
        folder = folder if folder.is_dir() else Path(resolve(model.id, model.revision, weights=False).path)
    except InputError:
        return {}
    limits: dict[str, Any] = {}
    for name in PROCESSOR:
        limits = _limits(folder / name) | limits
    return {"files": _hashes(folder, PROCESSOR), "chat_template": _hashes(folder, TEMPLATES), **limits}


def _hashes(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    return {name: file_sha256(folder / name) for name in names if (folder / name).is_file()}


def _limits(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
        size = found.get("size") or {}
        ends = {"min_pixels": size.get("shortest_edge"), "max_pixels": size.get("longest_edge")}
        return {key: found.get(key) or value for key, value in ends.items() if found.get(key) or value}
    except (OSError, ValueError, AttributeError):
        return {}


def trained_fields(trained: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Return the record's `train` and `model` after training: `trained` is what the job left, `model` what was known."""
    trained = dict(trained)
    model = model | {key: trained.pop(key) for key in ("parameters", "lora_modules", "dtype", "attention")}
    return {"train": trained, "model": model}
