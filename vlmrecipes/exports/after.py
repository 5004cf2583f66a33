"""The exports that a recipe asks for, made when its run is complete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlmrecipes.errors import MissingExtraError, Problem
from vlmrecipes.exports.formats import ADAPTER, GGUF, MERGED_4BIT
from vlmrecipes.records import exports

if TYPE_CHECKING:
    from vlmrecipes.plan import Plan


def asked(plan: Plan) -> tuple[str, ...]:
    """Return the formats that are to be written after the run; the adapter is what the run itself leaves."""
    return tuple(name for name in plan.recipe.export.formats if plan.trains and name != ADAPTER)


def problems(plan: Plan, file: str) -> list[Problem]:
    """Return what would keep them from being written here, told before anything is trained."""
    from vlmrecipes.exports import gguf
    from vlmrecipes.models.load import device

    found = []
    if MERGED_4BIT in asked(plan) and device() != "cuda":
        found.append(f"{MERGED_4BIT} needs a CUDA GPU, and there is none here")
    if GGUF in asked(plan):
        try:
            gguf.find("")
        except MissingExtraError as error:
            found.append(str(error))
    return [Problem(file, "export.formats", text) for text in found]


def export_asked(run: Path, plan: Plan) -> None:
    """Write those exports that the run in `run` does not have yet; see `work.export_run`."""
    there = {entry.get("path") for entry in exports.listed(run)}
    missing = [name for name in asked(plan) if str((exports.folder_of(run) / name).absolute()) not in there]
    if missing:
        from vlmrecipes.exports.work import export_run

        export_run(run.name, missing, store=plan.store, trust_remote_code=plan.recipe.model.trust_remote_code)
