"""Export short runs in every format, look at each parity, spoil each export and see that it is found out.

    python benchmarks/exports.py [--runs trl:16bit,unsloth:16bit,unsloth:4bit] [--formats adapter,merged_16bit,…]
                                 [--recipe sroie-receipts] [--set KEY=VALUE …] [--samples 16] [--store FOLDER] [-o FILE]

For every `BACKEND:LOAD_IN` the recipe is run for 60 steps, scored on few rows, and exported. Prints a JSON line as soon as
something is known, `{run, backend, load_in, format, parity…}`, and writes all of them with machine and versions to FILE.
`spoiled` tells what a check of the same export says after the signs of a weight have been turned: it must find it, by the
answers too and not by the changed file alone. A format that cannot be written here (a GGUF without llama.cpp's converter)
has its message in `refused`.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import vlmrecipes
from vlmrecipes.errors import VlmRecipesError
from vlmrecipes.exports.formats import FORMATS, Settings
from vlmrecipes.records import ledger, record

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "trl", "peft", "unsloth", "bitsandbytes")
SHORT = (
    "train.steps=60",
    "train.batch_size=32",
    "train.warmup_steps=5",
    "train.save_steps=1000",
    "eval.baseline=false",
    "eval.limit=48",
)
ADDED, SPOILED = "lora_B", "mlp.down_proj.weight"
"""What the names of weights hold, or end with, whose signs are turned."""


def main() -> None:
    """Run, export, spoil; print and write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", default="trl:16bit,unsloth:16bit,unsloth:4bit")
    options.add_argument("--formats", default=",".join(FORMATS))
    options.add_argument("--recipe", default="sroie-receipts")
    options.add_argument("--set", action="append", default=[], dest="overrides")
    options.add_argument("--samples", type=int, default=16)
    options.add_argument("--store", default="")
    options.add_argument("-o", "--output", type=Path, default=RESULTS / "exports.json")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = given.store or folder
        _ingest(given.recipe, store)
        lines: list[dict[str, Any]] = []
        about: dict[str, Any] = {}
        for kind in given.runs.split(","):
            for line in _kind(given, store, kind, about):
                print(json.dumps(line), flush=True)
                lines.append(line)
                told = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "python": platform.python_version()} | about
                given.output.write_text(json.dumps(told | {"exports": lines}, indent=1) + "\n", "utf-8")


def _ingest(recipe: str, store: str) -> None:
    data = vlmrecipes.read_recipe(ROOT / "recipes" / f"{recipe}.toml").data.parts()
    there = {found["name"] for found in vlmrecipes.list_snapshots(store)}
    for part in data:
        if part.snapshot not in there:
            vlmrecipes.ingest(ROOT / "datasets" / f"{part.snapshot}.toml", store=store)


def _kind(given: argparse.Namespace, store: str, kind: str, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what is found of one kind of run; what goes wrong in it ends none but itself."""
    backend, _, load_in = kind.partition(":")
    named = {"backend": backend, "load_in": load_in}
    began = time.monotonic()
    try:
        run = _run(given, store, backend, load_in, about)
    except Exception as error:  # noqa: BLE001 - the next kind may do
        yield named | {"failed": _words(error)}
        return
    named = {"run": run} | named
    yield named | {"seconds": round(time.monotonic() - began, 1)}
    for wanted in given.formats.split(","):
        began = time.monotonic()
        try:
            found = _exported(given, store, run, wanted)
        except VlmRecipesError as error:
            found = {"refused": str(error)}
        except Exception as error:  # noqa: BLE001 - the next format may do
            found = {"failed": _words(error)}
        yield named | {"format": wanted} | found | {"seconds": round(time.monotonic() - began, 1)}


def _run(given: argparse.Namespace, store: str, backend: str, load_in: str, about: dict[str, Any]) -> str:
    more = (f"train.backend={backend}", f"model.load_in={load_in}")
    file = ROOT / "recipes" / f"{given.recipe}.toml"
    run = str(vlmrecipes.run_recipe(file, store=store, overrides=(*SHORT, *more, *given.overrides))["run"])
    around = record.read(ledger.find(ledger.home(store), run))["environment"]
    packages = {name: around["packages"].get(name) for name in PACKAGES}
    devices = [device["name"] for device in around["accelerators"]]
    about |= {"gpu": devices[0] if devices else None, "cores": around["cpu"]["count"], "packages": packages}
    return run


def _exported(given: argparse.Namespace, store: str, run: str, wanted: str) -> dict[str, Any]:
    """Return the parity of an export that was written, and what is said of it once it is spoiled."""
    settings = Settings(samples=given.samples)
    made = vlmrecipes.export_run(run, [wanted], store=store, settings=settings)["exports"][0]
    parity = made["parity"]
    told = {
        "ok": parity["ok"],
        "bytes": made["bytes"],
        **{key: parity[key] for key in ("reference", "dtype", "token_agreement", "answers", "metrics", "drift")},
        "tolerance": parity["tolerance"],
        "weights": parity["weights"],
    }
    if "trained" in parity:
        told["trained"] = {
            key: parity["trained"][key] for key in ("reference", "token_agreement", "answers", "metrics", "drift")
        }
    weights = _spoil(Path(made["path"]))
    again = vlmrecipes.verify_export(Path(made["path"]), store=store)
    by_answers = [problem for problem in again["problems"] if "changed since" not in problem]
    found = {"weights": weights, "ok": again["ok"], "found_by_answers": bool(by_answers), "problems": again["problems"]}
    return told | {"spoiled": found}


def _spoil(folder: Path) -> str:
    """Turn the signs of one weight that says much, of an adapter of all it adds, where they lie; return which."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as found:
            about, names = found.metadata(), list(found.keys())
        added = [name for name in names if ADDED in name]
        if chosen := added or [name for name in names if name.endswith(SPOILED) and "visual" not in name][:1]:
            weights = load_file(file)
            for name in chosen:
                # The codes of four bits lie around zero: turning all bits turns the signs.
                weights[name] = ~weights[name] if weights[name].dtype == torch.uint8 else -weights[name]
            save_file(weights, file, metadata=about)
            return f"all with {ADDED}" if added else chosen[0]
    raise ValueError(f"{folder} holds no {ADDED} and no {SPOILED}")


def _words(error: Exception) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


if __name__ == "__main__":
    main()
