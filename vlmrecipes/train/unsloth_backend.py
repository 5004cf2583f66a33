"""Unsloth: its models, adapters, kernels and checkpointing under the same trainer, order of rows and batches as plain TRL.

Unsloth's own collator is not used: it is slower, works in the training process, and shrinks images unless told otherwise.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from vlmrecipes.models import unsloth
from vlmrecipes.models.catalog import ModelRef
from vlmrecipes.recipe import Recipe
from vlmrecipes.train import trl_backend
from vlmrecipes.train.backend import TrainResult


def begin(run: Path) -> None:
    """Import Unsloth before all that it changes; see `Backend`."""
    unsloth.begin(run / "compiled")


def load(ref: ModelRef, recipe: Recipe) -> Any:
    """Return the model of the recipe as Unsloth loads it; see `Backend`. The process must have begun with Unsloth."""
    return unsloth.load(ref, recipe)


def train(**given: Any) -> TrainResult:
    """Train as `trl_backend.train` does, see `Backend`, with Unsloth's adapters and loss."""
    settings = given["settings"]
    attach = partial(unsloth.attach, checkpointing=settings.gradient_checkpointing, seed=settings.seed)
    return trl_backend.train(**given, attach=attach)
