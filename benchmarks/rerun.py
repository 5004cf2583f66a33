"""A re-run on changed receipts: does the comparison say what was done to the data? No speeds, only counts.

    VLMRECIPES_DATA=DIR python benchmarks/rerun.py [--pages 40] [--steps 20]

Takes the lines of `DIR/sroie_receipts`, leaves out 200 of them, ingests and runs the built-in model; then ingests the lines
with those 200, with 30 texts corrected and 10 lines withdrawn, and runs `rerun --data latest`. What the comparison must say
is counted here from the two files of lines and from the stored predictions alone, with a Levenshtein distance of its own.
Then, on copies of the store, one prediction, image, record and recipe are tampered with, and the levels of `runs verify`
that notice are listed; one prediction is traced to the hash of the file of lines and back; and the re-run is reproduced.

Prints one JSON object and writes it to `benchmarks/results/rerun.json`; fails when a count differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import vlmrecipes
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.records import predictions

ADDED, CORRECTED, WITHDRAWN = 200, 30, 10
RESULTS = Path(__file__).parent / "results" / "rerun.json"
DECLARATION = """\
name = "receipts"
license = "CC-BY-4.0"
[[source]]
type = "jsonl"
path = "lines.jsonl"
root = "{root}"
explode = "lines"
image = "{{image}}"
crop = "{{bbox}}"
prompt = "Read the text."
answer = "{{text}}"
group = "{{image}}"
[prepare]
max_side = 640
[split]
eval = 0.2
"""
RECIPE = """\
name = "receipts"
version = "1.0.0"
[data]
train = "receipts"
[model]
id = "builtin:reader"
[lora]
r = 8
[train]
batch_size = 8
steps = {steps}
learning_rate = 1e-3
[eval]
metrics = ["cer", "wer"]
baseline = false
"""
Line = dict[str, Any]


def pages(root: Path, most: int) -> list[Line]:
    """Return pages of lines, every bounding box of a page once."""
    found = [json.loads(text) for text in (root / "manifest.jsonl").read_text("utf-8").splitlines()[:most]]
    for page in found:
        page["lines"] = list({tuple(line["bbox"]): line for line in page["lines"]}.values())
    return found


def write(path: Path, found: list[Line], leave_out: set[tuple[str, int]], texts: dict[tuple[str, int], str]) -> None:
    """Write pages without some lines and with some texts replaced; a line is (page, place)."""
    rows = []
    for page in found:
        lines = [
            line | {"text": texts.get((page["image"], place), line["text"])}
            for place, line in enumerate(page["lines"])
            if (page["image"], place) not in leave_out
        ]
        rows.append(json.dumps(page | {"lines": lines}, ensure_ascii=False))
    path.write_text("\n".join(rows) + "\n", "utf-8")


def distance(one: str, other: str) -> int:
    """Return the Levenshtein distance, by the textbook table."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def cer(pairs: list[tuple[str, str]]) -> float:
    """Return edits over characters of the references; white space is folded on both sides."""
    folded = [(" ".join(said.split()), " ".join(reference.split())) for said, reference in pairs]
    return sum(distance(*pair) for pair in folded) / sum(len(reference) for _, reference in folded)


def said(store: Path, run: str) -> dict[str, tuple[str, str]]:
    """Return (prediction, reference) of a run by image key: every line has a picture of its own."""
    rows = predictions.read(store / "runs" / run / predictions.NAME).to_pylist()
    found = {row["images"][0]: (row["prediction"] or "", row["references"][0]) for row in rows}
    if len(found) != len(rows):
        sys.exit("two samples share a picture: they cannot be told apart by it")
    return found


def expected(store: Path, before: str, after: str) -> dict[str, float]:
    """Return the steps of cer by hand."""
    a, b = said(store, before), said(store, after)
    kept = a.keys() & b.keys()
    stations = [
        list(a.values()),
        [a[key] for key in kept],
        [(a[key][0], b[key][1]) for key in kept],
        [b[key] for key in kept],
        list(b.values()),
    ]
    values = [cer(pairs) for pairs in stations]
    steps = [y - x for x, y in pairwise(values)]
    return {"a": values[0], "b": values[-1]} | dict(zip(("removed", "corrected", "model", "added"), steps, strict=True))


def on_eval(store: Path, name: str) -> set[str]:
    """Return the pages whose lines are on the eval side."""
    return {sample.group for sample in open_snapshot(str(store), name).samples("eval")}


def tampered(store: Path, run: str, change: Callable[[Path, Path], None]) -> list[str]:
    """Return the levels that notice a change made to a copy of the store and its run."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "store"
        shutil.copytree(store, copy)
        change(copy, copy / "runs" / run)
        levels = vlmrecipes.verify_run(run, store=str(copy))["levels"]
    return [level for level, told in levels.items() if not told["ok"]]


def other_prediction(_: Path, run: Path) -> None:
    """Change one text."""
    rows = predictions.read(run / predictions.NAME).to_pylist()
    rows[0]["prediction"] = "SOMETHING ELSE"
    predictions.write(run / predictions.NAME, rows, ["cer", "wer"])


def other_image(store: Path, run: Path) -> None:
    """Change a byte of one picture on disk."""
    rows = predictions.read(run / predictions.NAME).to_pylist()
    reader = open_snapshot(str(store), rows[0]["snapshot"]).reader()
    data = reader.read([rows[0]["images"][0]])[0]
    for path in (store / "images.lance").rglob("*"):
        if path.is_file() and (place := (content := path.read_bytes()).find(data)) >= 0:
            middle = place + len(data) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
            return
    raise AssertionError("the picture lies in no file of the table")


def other_record(_: Path, run: Path) -> None:
    """Change one digit of a score."""
    text = (run / "record.json").read_text("utf-8")
    (run / "record.json").write_text(text.replace('"value": 0.', '"value": 0.0', 1), "utf-8")


def other_recipe(_: Path, run: Path) -> None:
    """Change a setting."""
    text = (run / "recipe.toml").read_text("utf-8")
    (run / "recipe.toml").write_text(text.replace("r = 8", "r = 9"), "utf-8")


def traced(store: Path, run: str, lines: Path) -> dict[str, bool]:
    """Return whether one prediction leads to the hash of the file of lines, and that hash back to the run."""
    sample = predictions.read(store / "runs" / run / predictions.NAME)["id"][0].as_py()
    digest = hashlib.sha256(lines.read_bytes()).hexdigest()
    there = vlmrecipes.lineage_of(f"{run}:{sample}", store=str(store))["nodes"]
    back = vlmrecipes.lineage_of(digest, store=str(store))["nodes"]
    return {
        "back_to_file": any(node.get("sha256") == digest for node in there),
        "forward_to_run": any(node.get("run") == run for node in back),
    }


def work(folder: Path, root: Path, most: int, steps: int) -> dict[str, Any]:
    """Return what was done, what was told and what was counted."""
    store, lines, draw = folder / "store", folder / "lines.jsonl", random.Random(7)  # noqa: S311 - not a secret
    found = pages(root, most)
    every = [(page["image"], place) for page in found for place in range(len(page["lines"]))]
    picked = draw.sample(every, ADDED + CORRECTED + WITHDRAWN)
    added, corrected, gone = (
        picked[:ADDED],
        picked[ADDED : ADDED + CORRECTED],
        picked[ADDED + CORRECTED :],
    )
    there = {(page["image"], place): line["text"] for page in found for place, line in enumerate(page["lines"])}
    (folder / "receipts.toml").write_text(DECLARATION.format(root=root), "utf-8")
    (folder / "recipe.toml").write_text(RECIPE.format(steps=steps), "utf-8")
    write(lines, found, set(added), {})
    vlmrecipes.ingest(folder / "receipts.toml", store=str(store))
    first = vlmrecipes.run_recipe(folder / "recipe.toml", store=str(store))["run"]
    write(lines, found, set(gone), {line: f"{there[line]} CORRECTED" for line in corrected})
    ingested = vlmrecipes.ingest(folder / "receipts.toml", store=str(store))
    view = vlmrecipes.rerun(first, store=str(store), swaps=["latest"])
    told, sides = view["comparison"]["attribution"], [on_eval(store, f"receipts@{number}") for number in (1, 2)]
    data = {part["role"]: part for part in view["comparison"]["data"]}
    walk = told["metrics"]["cer"]
    again = vlmrecipes.reproduce(view["run"], store=str(store))
    changes = {
        "prediction": other_prediction,
        "image": other_image,
        "record": other_record,
        "recipe": other_recipe,
    }
    return {
        "lines": len(every),
        "dropped": ingested["drops"],
        "told": {
            "added": data["train"]["added"],
            "corrected": data["train"]["changed"],
            "removed": data["train"]["removed"],
            "eval": {step: told["samples"][step] for step in ("added", "corrected", "removed")},
            "cer": {step: walk[step] for step in ("a", "removed", "corrected", "model", "added", "b")},
        },
        "counted": {
            "added": ADDED,
            "corrected": CORRECTED,
            "removed": WITHDRAWN,
            "eval": {
                "added": sum(page in sides[1] for page, _ in added),
                "corrected": sum(page in sides[0] for page, _ in corrected),
                "removed": sum(page in sides[0] for page, _ in gone),
            },
            "cer": expected(store, first, view["run"]),
        },
        "model_step": {key: walk["test"][key] for key in ("difference", "low", "high", "p", "n", "verdict")},
        "tampered": {name: tampered(store, view["run"], change) for name, change in changes.items()},
        "lineage": traced(store, view["run"], lines),
        "reproduced": {key: again[key] for key in ("ok", "equal", "predictions")},
    }


def main() -> None:
    """Run, print and write the results; fail where what was told is not what was counted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pages", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    root = Path(os.environ["VLMRECIPES_DATA"]).absolute() / "sroie_receipts"
    with tempfile.TemporaryDirectory() as temporary:
        result = work(Path(temporary), root, given.pages, given.steps)
    about = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    result = {"date": datetime.now(UTC).date().isoformat(), "pages": given.pages, "steps": given.steps} | about | result
    text = json.dumps(result, indent=2)
    print(text)
    RESULTS.write_text(text + "\n", "utf-8")
    cers = [result[side].pop("cer") for side in ("told", "counted")]
    same_steps = all(math.isclose(cers[0][step], value, abs_tol=1e-12) for step, value in cers[1].items())
    if not (same_steps and result["told"] == result["counted"]):
        sys.exit("what was told is not what was counted")


if __name__ == "__main__":
    main()
