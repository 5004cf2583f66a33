"""What a record says of its recipe, its plan and its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmrecipes.data.snapshot import Snapshot, open_snapshot
from vlmrecipes.fingerprint import file_sha256, fingerprint
from vlmrecipes.plan import Plan
from vlmrecipes.recipe import Recipe


def recipe_fields(recipe: Recipe, file: Path) -> dict[str, Any]:
    """Return the record's `recipe`: name, version, and the hashes of the file and of what it was resolved to."""
    resolved = recipe.model_dump(mode="json")
    return {
        "name": recipe.name,
        "version": recipe.version,
        "fingerprint": fingerprint(resolved),
        "source_sha256": file_sha256(file),
        "resolved": resolved,
    }


def plan_fields(plan: Plan) -> dict[str, Any]:
    """Return the record's `plan`, `data` and `model` as they are known before the job."""
    summary = plan.summary()
    return {
        "plan": {key: summary[key] for key in ("plan", "fingerprint", "steps", "tokens", "memory_bytes")},
        "data": [_data_fields(role, open_snapshot(plan.store, name)) for role, name in plan.roles()],
        "model": {"id": plan.model.id, "revision": plan.model.revision, "files": plan.model.files},
    }


def _data_fields(role: str, snapshot: Snapshot) -> dict[str, Any]:
    keys = ("samples", "splits", "rows", "drops", "license", "images", "parent")
    return {"role": role, "snapshot": snapshot.name, "fingerprint": snapshot.fingerprint} | {
        key: snapshot.manifest[key] for key in keys
    }


def trained_fields(trained: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Return the record's `train` and `model` after training: `trained` is what the job left, `model` what was known."""
    trained = dict(trained)
    model = model | {key: trained.pop(key) for key in ("parameters", "lora_modules", "dtype", "attention")}
    return {"train": trained, "model": model}
