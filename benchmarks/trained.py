"""The recipes that `benchmarks/training.py` trains, their plans, and the folders that a training starts from."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from turns import STEPS, Contender

from vlmrecipes.data.order import epoch_order
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.job import LENGTHS
from vlmrecipes.models import memory
from vlmrecipes.plan import Plan, make_plan
from vlmrecipes.recipe import Recipe

HERE = Path(__file__).parent
CONTENDERS = ("hand", "ours", "auto", "trl", "keep")
ON_CPU = ("trl", "auto", "keep")
PATCH = 14
SEED = 3407
TRAIN: Mapping[str, Any] = {
    "backend": "unsloth",
    "batch_size": 2,
    "gradient_accumulation": 4,
    "steps": STEPS,
    "learning_rate": 2e-4,
    "warmup_steps": 5,
    "weight_decay": 0.01,
    "optimizer": "adamw_8bit",
    "gradient_checkpointing": True,
    "group_by_length": False,
    "logging_steps": 1,
    "save_steps": 1000,
    "seed": SEED,
}
AUTO = {"batch_size": "auto", "effective_batch": 8, "gradient_accumulation": 1, "workers": 4}
DIFFERENT: Mapping[str, Mapping[str, Any]] = {
    "ours": {},
    "trl": {"backend": "trl"},
    "auto": AUTO,
    "keep": AUTO | {"batch_tokens": 2048, "gradient_checkpointing": False},
}
"""What a contender's `[train]` has that `TRAIN` has not."""
CPU = {"backend": "trl", "optimizer": "adamw_torch"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A row as a training meets it."""

    tokens: int
    patches: int


def recipe(
    model: Path, data: str, *, bits: str = "16bit", lora: bool = True, init: str = "weights", **train: Any
) -> Recipe:
    """Return a recipe with the settings of `TRAIN` but for those given."""
    return Recipe.model_validate(
        {
            "name": "measured",
            "version": "1.0.0",
            "data": {"train": data},
            "model": {"id": str(model), "load_in": bits, "max_length": 4096, "init": init},
            "lora": {"r": 16, "alpha": 16} if lora else None,
            "train": {**TRAIN, **train},
            "eval": {"metrics": ["cer"], "baseline": False},
        }
    )


def planned(model: Path, store: Path, data: str) -> Plan:
    """Return the plan of training all weights from the configuration: for it, no file of weights has to be read and hashed."""
    start = recipe(model, data, lora=False, init="config", **CPU)
    return make_plan(start, store=str(store), file="benchmarks/training.py")


def ready(plan: Plan, of: Recipe, folder: Path) -> Path:
    """Make the folder that a run's training process starts from, for another recipe over the same model and rows."""
    longest = plan.tokens["max"]
    need = memory.estimate(plan.model, of.model, of.lora, of.train, longest)
    mine = replace(plan, recipe=of, steps=of.train.steps or 0, memory_bytes=need, problems=())
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps(mine.to_json()), "utf-8")
    np.save(folder / LENGTHS, plan.lengths)
    return folder


def contender(name: str, plan: Plan, home: Path, bits: str, steps: int, *, tiny: bool) -> Contender:  # noqa: PLR0913
    """Return a contender of a measurement of speed."""
    folder, model = home / name, Path(plan.model.path)
    if name == "hand":
        folder.mkdir()
        words = ["by_hand.py", str(model), str(home / "rows.jsonl"), str(folder), bits, str(steps)]
        return Contender(name, folder, [sys.executable, str(HERE / words[0]), *words[1:]])
    train = {**DIFFERENT[name], **(CPU if tiny else {}), "steps": steps}
    if tiny and "workers" in train:
        train["workers"] = 1
    ready(plan, recipe(model, "mixed", bits=bits, **train), folder)
    command = [sys.executable, str(HERE / "clocked.py"), str(folder), "turns"]
    return Contender(name, folder, command, leads=train.get("backend", TRAIN["backend"]) == "unsloth")


def written_by_hand(plan: Plan, path: Path, epochs: int) -> Sequence[Shown]:
    """Write the rows for the script by hand, in the order in which a run shows them; return them in this order."""
    lengths = np.asarray(plan.lengths)
    snapshot = open_snapshot(plan.store, plan.train_names()[0])
    reader, sizes = snapshot.reader(), snapshot.sizes()
    orders = [epoch_order(lengths, 2, (SEED, epoch), by_length=False) for epoch in range(epochs)]
    shown, lines = [], []
    for place in np.concatenate(orders).tolist():
        row = plan.rows[place]
        (image,) = row.images
        picture = path.with_name(f"{place}.png")
        picture.write_bytes(reader.read([image])[0])
        (message,) = row.messages()
        line = {"image": str(picture), "prompt": message["content"][-1]["text"], "answer": row.answer}
        lines.append(json.dumps(line) + "\n")
        width, height = sizes[image]
        shown.append(Shown(int(lengths[place]), (width // PATCH) * (height // PATCH)))
    path.write_text("".join(lines), "utf-8")
    return shown
