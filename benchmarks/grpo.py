"""What rewards teach the built-in model: easy-VQA before and after `recipes/easy-vqa-grpo.toml`.

python benchmarks/grpo.py [--limit 300] [--store FOLDER] [--run RUN] [--name grpo-cpu]

Ingests, scores the model as it is, trains by rewards, scores again and compares the two sample by sample. `--run` takes a
training that the store holds already, with the same `--limit`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import vlmrecipes
from vlmrecipes.records import ledger, record

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "easy-vqa-grpo.toml"
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "trl", "peft")


def measured(store: str, limit: int, run: str) -> dict[str, Any]:
    """Return scores before and after, their difference with its interval, and the curve of the reward."""
    overrides = (f"eval.limit={limit}", "eval.baseline=false")
    if not run:
        vlmrecipes.ingest(ROOT / "datasets" / "easy-vqa.toml", store=store)
    before = vlmrecipes.evaluate_model(RECIPE, "builtin:reader", store=store, overrides=overrides)["run"]
    run = run or vlmrecipes.run_recipe(RECIPE, store=store, overrides=overrides)["run"]
    found = record.read(ledger.find(ledger.home(store), run))
    compared = vlmrecipes.compare_runs([before, run], store=store)
    resolved = found["recipe"]["resolved"]
    return {
        "recipe": found["recipe"]["name"],
        "settings": {name: resolved[name] for name in ("lora", "train", "grpo")},
        "snapshot": [part["fingerprint"] for part in found["data"]],
        "rewards": found["train"]["rewards"],
        "exact": compared["metrics"]["exact"],
        "n": compared["n"],
    }


def main() -> None:
    """Measure, print and write."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--limit", type=int, default=300)
    options.add_argument("--store", default="")
    options.add_argument("--run", default="")
    options.add_argument("--name", default="grpo-cpu")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(given.store or folder, given.limit, given.run)
    about = {
        "command": f"python benchmarks/grpo.py --limit {given.limit}" + (" --run RUN" if given.run else ""),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }
    text = json.dumps(about | figures, indent=1)
    (RESULTS / f"{given.name}.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
