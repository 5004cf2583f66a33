"""What rewards teach the built-in model: easy-VQA before and after `recipes/easy-vqa-grpo.toml`, or another recipe.

    python benchmarks/grpo.py [--recipe easy-vqa-grpo] [--set KEY=VALUE …] [--limit 300] [--store FOLDER] [--run RUN]
                              [--name grpo-cpu]

Ingests what is not there, scores the model as it is, trains by rewards, scores again and compares the two sample by sample.
`--set` changes the recipe (`train.method=gspo`, `train.backend=unsloth`), `--limit 0` scores the whole eval side, `--run` takes
a training that the store holds already. Prints one JSON object and writes it to benchmarks/results/NAME.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import vlmrecipes
from vlmrecipes.records import ledger, record

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "trl", "peft", "unsloth")


def trained(recipe: Path, store: str, overrides: Sequence[str]) -> str:
    """Run the recipe on its data, brought in where it is not there yet, and return the run."""
    there = {found["name"] for found in vlmrecipes.list_snapshots(store)}
    for part in vlmrecipes.read_recipe(recipe).data.parts():
        if part.snapshot not in there:
            vlmrecipes.ingest(ROOT / "datasets" / f"{part.snapshot}.toml", store=store)
    return str(vlmrecipes.run_recipe(recipe, store=store, overrides=overrides)["run"])


def measured(store: str, run: str) -> dict[str, Any]:
    """Return scores before and after, their difference with its interval, and the curve of the reward."""
    found = record.read(ledger.find(ledger.home(store), run))
    compared = vlmrecipes.compare_runs([f"{run}:base", run], store=store)
    resolved, around = found["recipe"]["resolved"], found["environment"]
    devices = [device["name"] for device in around["accelerators"]]
    return {
        "date": found["created"][:10],
        "machine": devices[0] if devices else f"{around['cpu']['count']} cores {platform.machine()}",
        "python": around["python"],
        "packages": {name: around["packages"][name] for name in PACKAGES if name in around["packages"]},
        "recipe": found["recipe"]["name"],
        "run": run,
        "model": found["model"]["files"].get("model.safetensors"),
        "settings": {name: resolved[name] for name in ("lora", "train", "grpo")},
        "snapshot": [part["fingerprint"] for part in found["data"]],
        "steps": found["train"]["steps"],
        "seconds": round(found["train"]["seconds"], 1),
        "collapse": found["train"].get("collapse"),
        "rewards": found["train"]["rewards"],
        "exact": compared["metrics"]["exact"],
        "n": compared["n"],
    }


def main() -> None:
    """Measure, print and write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--recipe", default="easy-vqa-grpo")
    options.add_argument("--set", action="append", default=[], dest="overrides")
    options.add_argument("--limit", type=int, default=300)
    options.add_argument("--store", default="")
    options.add_argument("--run", default="")
    options.add_argument("--name", default="grpo-cpu")
    given = options.parse_args()
    limit = [f"eval.limit={given.limit}"] if given.limit else []
    with tempfile.TemporaryDirectory() as folder:
        store = given.store or folder
        recipe = ROOT / "recipes" / f"{given.recipe}.toml"
        figures = measured(store, given.run or trained(recipe, store, [*limit, *given.overrides]))
    text = json.dumps({"command": f"python benchmarks/grpo.py {_said(sys.argv[1:])}".strip()} | figures, indent=1)
    (RESULTS / f"{given.name}.json").write_text(text + "\n", "utf-8")
    print(text)


def _said(words: Sequence[str]) -> str:
    """Return the options without those that only name a place of this machine."""
    pairs = zip(["", *words], words, strict=False)
    return " ".join(word for before, word in pairs if "--store" not in (before, word))


if __name__ == "__main__":
    main()
