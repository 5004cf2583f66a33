"""A store with one short run of the built-in model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import vlmrecipes
from vlmrecipes.scaffolding import scaffold

SETTINGS = (
    "train.steps=3",
    "train.learning_rate=2e-3",
    "train.warmup_steps=0",
    "eval.baseline=false",
    "eval.limit=2",
    'export.formats=["adapter", "merged_16bit"]',
)


@dataclass
class Trained:
    """The store, its run, and the recipe that was run."""

    store: str
    run: str
    recipe: Path

    @property
    def folder(self) -> Path:
        return Path(self.store) / "runs" / self.run


def made(project: Path) -> Trained:
    """Make a project in `project`, bring in its data and tune the built-in model a little."""
    scaffold(project)
    store, recipe = str(project / "store"), project / "recipes" / "example.toml"
    vlmrecipes.ingest(project / "datasets" / "example.toml", store=store, workers=1)
    return Trained(store, vlmrecipes.run_recipe(recipe, store=store, overrides=SETTINGS)["run"], recipe)
