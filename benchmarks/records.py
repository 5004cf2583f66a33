"""What recipes for the built-in model did to it: every finished run's scores before and after, in one file.

    python benchmarks/records.py STORE|FILE … [-o benchmarks/results/reader-recipes.json]

Every complete training run of a STORE that scored the model before and after is held sample by sample against itself; its
predictions must still be there. A FILE is what this wrote before, on another machine perhaps: its runs are taken over. Of
several runs of a recipe all are listed, with what was set otherwise than the recipe says in `command`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import vlmrecipes
from vlmrecipes.errors import VlmRecipesError
from vlmrecipes.records import ledger, record

RESULTS = Path(__file__).parent / "results" / "reader-recipes.json"
PACKAGES = ("torch", "transformers", "trl", "peft", "unsloth")
VALUES = ("value", "low", "high")
CHANGE = ("difference", "low", "high", "p", "verdict", "better", "worse", "equal")


def summary(store: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return what a run's record says, and each metric's gain with its interval."""
    run, resolved, around = found["run"], found["recipe"]["resolved"], found["environment"]
    compared = vlmrecipes.compare_runs([f"{run}:base", run], store=store)
    devices = [device["name"] for device in around["accelerators"]]
    rewards = found["train"].get("rewards")
    return {
        "run": run,
        "date": found["created"][:10],
        "recipe": f"{found['recipe']['name']} {found['recipe']['version']}",
        "command": " ".join(found["command"]),
        "model": {"id": found["model"]["id"], "files": found["model"]["files"]},
        "data": [{key: part[key] for key in ("role", "snapshot", "fingerprint")} for part in found["data"]],
        "machine": {"gpu": devices[0] if devices else None, "cpu": around["cpu"]},
        "packages": {name: version for name in PACKAGES if (version := around["packages"].get(name))},
        "train": {
            **{key: resolved["train"][key] for key in ("backend", "method", "batch_size", "learning_rate", "seed")},
            **{key: found["train"][key] for key in ("steps", "samples_seen", "loss_first", "loss_last")},
            "seconds": round(found["train"]["seconds"], 1),
        },
        "seconds": round(found["seconds"], 1),
        "n": compared["n"],
        "metrics": {name: _metric(found, compared, name) for name in compared["metrics"]},
        "rewards": {key: rewards[key] for key in ("first", "last")} if rewards else None,
        "warnings": [warning["code"] for warning in found.get("warnings") or []],
        "seal": found["seal"],
    }


def _metric(found: dict[str, Any], compared: dict[str, Any], name: str) -> dict[str, Any]:
    sides = {word: found["metrics"][side][name] for word, side in (("before", "base"), ("after", "tuned"))}
    told = {word: {key: side[key] for key in VALUES} for word, side in sides.items()}
    return told | {"change": {key: compared["metrics"][name][key] for key in CHANGE}}


def told_by(source: Path) -> list[dict[str, Any]]:
    """Return the summaries in a file, or of the runs in a store."""
    if source.is_file():
        return list(json.loads(source.read_text("utf-8")))
    folder = ledger.home(str(source))
    lines = [line for line in ledger.runs(folder) if line["status"] == "complete"]
    found = [record.read(ledger.find(folder, line["run"])) for line in lines]
    both = [one for one in found if {"base", "tuned"} <= one["metrics"].keys()]
    return [told for one in both if (told := _told(str(source), one))]


def _told(store: str, found: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return summary(store, found)
    except VlmRecipesError as error:
        print(f"{found['run']} left out: {error}", file=sys.stderr)
        return None


def main() -> None:
    """Gather, print one line a run, and write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("sources", nargs="+", type=Path)
    options.add_argument("-o", "--output", type=Path, default=RESULTS)
    given = options.parse_args()
    runs = {one["run"]: one for source in given.sources for one in told_by(source)}
    ordered = sorted(runs.values(), key=lambda one: (one["recipe"], one["run"]))
    given.output.write_text(json.dumps(ordered, indent=1) + "\n", "utf-8")
    for one in ordered:
        print(f"{one['recipe']} {one['run']} n={one['n']}", *map(_line, one["metrics"].items()), sep="\n  ")


def _line(item: tuple[str, dict[str, Any]]) -> str:
    name, metric = item
    before, after = (metric[side]["value"] for side in ("before", "after"))
    change = metric["change"]
    words = f"{change['difference']:+.4f} [{change['low']:+.4f}, {change['high']:+.4f}] {change['verdict']}"
    return f"{name}: {before:.4f} -> {after:.4f} ({words})"


if __name__ == "__main__":
    main()
