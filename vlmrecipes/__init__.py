"""Versioned image-text data, TOML recipes, and honest scores for tuning vision-language models.

The public names; each is imported when it is first used, so that `import vlmrecipes` is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from vlmrecipes import version

__version__ = version.VERSION

_HOMES = {
    "InputError": "vlmrecipes.errors",
    "MissingExtraError": "vlmrecipes.errors",
    "RunError": "vlmrecipes.errors",
    "StoreError": "vlmrecipes.errors",
    "TooManyDropsError": "vlmrecipes.errors",
    "VlmRecipesError": "vlmrecipes.errors",
    "Declaration": "vlmrecipes.data.declaration",
    "Recipe": "vlmrecipes.recipe",
    "Sample": "vlmrecipes.data.sample",
    "Snapshot": "vlmrecipes.data.snapshot",
    "compare_runs": "vlmrecipes.compare.work",
    "describe": "vlmrecipes.data.statistics",
    "difference": "vlmrecipes.data.difference",
    "evaluate_model": "vlmrecipes.run",
    "export": "vlmrecipes.data.export",
    "export_run": "vlmrecipes.exports.work",
    "hand_over": "vlmrecipes.records.handover",
    "ingest": "vlmrecipes.ingestion",
    "ledger": "vlmrecipes.records.frames",
    "lineage_of": "vlmrecipes.lineage.trace",
    "list_runs": "vlmrecipes.records.frames",
    "list_snapshots": "vlmrecipes.data.snapshot",
    "open_snapshot": "vlmrecipes.data.snapshot",
    "planned": "vlmrecipes.run",
    "prune_snapshots": "vlmrecipes.prune",
    "read_declaration": "vlmrecipes.data.declaration",
    "read_recipe": "vlmrecipes.recipe",
    "prune_runs": "vlmrecipes.records.prune",
    "report": "vlmrecipes.records.report",
    "rescore": "vlmrecipes.records.rescore",
    "reproduce": "vlmrecipes.again.reproduction",
    "rerun": "vlmrecipes.again.rerun",
    "resume_run": "vlmrecipes.run",
    "run_recipe": "vlmrecipes.run",
    "scaffold": "vlmrecipes.scaffolding",
    "score": "vlmrecipes.evaluate.score",
    "score_file": "vlmrecipes.evaluate.answers_file",
    "statistics": "vlmrecipes.data.statistics",
    "search": "vlmrecipes.again.search",
    "set_label": "vlmrecipes.data.labels",
    "sweep": "vlmrecipes.again.sweep",
    "touched_by": "vlmrecipes.lineage.trace",
    "verify": "vlmrecipes.data.verify",
    "verify_export": "vlmrecipes.exports.work",
    "write_page": "vlmrecipes.data.gallery",
    "verify_run": "vlmrecipes.verification",
}
__all__ = sorted([*_HOMES, "__version__"])  # noqa: PLE0605 - sorted() of texts


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vlmrecipes' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
