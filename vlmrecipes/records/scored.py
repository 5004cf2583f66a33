"""What a run stands for where a model is asked for: what it trained, or for an evaluation, what it scored."""

from __future__ import annotations

from pathlib import Path

from vlmrecipes.errors import InputError
from vlmrecipes.plan import read_plan
from vlmrecipes.plan.checks import EXTERNAL
from vlmrecipes.records import ledger, record

BASE = ":base"
"""After a run: its model as it was before it was tuned."""


def scored_model(name: str, store: str) -> tuple[dict[str, str], str]:
    """Return the recipe's model keys for a model id, a run or `RUN:base`, and the folder of a run's tuned weights.

    Raises InputError for a run without a result, without its weights, or answered by a program that is not loaded here.
    """
    try:
        folder = ledger.find(ledger.home(store), name.removesuffix(BASE))
    except InputError:
        return {"id": name, "revision": "", "init": "weights"}, ""
    status, plan = record.read(folder)["status"], read_plan(folder / "plan.json")
    if status != "complete":
        raise InputError.one(f"run {folder.name} is {status}: it has no result to score", key="--model")
    if plan.recipe.eval.engine in EXTERNAL and not plan.trains:
        who = f"{plan.recipe.eval.engine} ({plan.model.id})"
        way = "score that with --engine, or name a run whose model is loaded here, or a model id"
        raise InputError.one(f"run {folder.name} was answered by {who}, not by a model: {way}", key="--model")
    model = plan.recipe.model
    about = {"id": model.id, "revision": model.revision, "init": model.init, "load_in": model.load_in}
    return about, "" if name.endswith(BASE) else weights_of(folder, store)


def weights_of(folder: Path, store: str) -> str:
    """Return the folder of the tuned weights that a run made or, wherever they lie now, scored; nothing for an untuned model.

    Raises InputError for weights that are not there any more.
    """
    if own := ledger.weights(folder):
        return str(own)
    found = record.read(folder)
    if found["kind"] == "train":
        raise InputError.one(f"run {folder.name} has no adapter/ or model/ any more: train it again", key="--model")
    scored = next((parent["run"] for parent in found.get("parents") or () if parent["as"] == "model"), "")
    return weights_of(ledger.find(ledger.home(store), scored), store) if scored else ""
