"""A store with two real runs on the same samples."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import vlmrecipes
from vlmrecipes.scaffolding import scaffold


@dataclass
class Scored:
    """The built-in model as it is, and cut off after a few tokens."""

    store: str
    whole: str
    cut: str

    def folder(self, run: str = "") -> Path:
        return Path(self.store) / "runs" / (run or self.whole)


def made(project: Path) -> Scored:
    """Make a project in `project`, bring in its data and score the built-in model twice."""
    scaffold(project)
    store = str(project / "store")
    vlmrecipes.ingest(project / "datasets" / "example.toml", store=store, workers=1)
    recipe = project / "recipes" / "example.toml"
    with mock.patch.dict(os.environ, VLMRECIPES_OPENLINEAGE=str(project / "store" / "openlineage.jsonl")):
        runs = [
            vlmrecipes.evaluate_model(recipe, "builtin:reader", store=store, overrides=given)["run"]
            for given in ((), ("eval.max_new_tokens=5",))
        ]
    return Scored(store, *runs)
