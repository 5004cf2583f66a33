"""A plan of many short rows: how long `plan` takes once Python has what it imports.

    python benchmarks/plan.py [--rows 60000] [--rounds 3]

Rows of a few random words about 600 small pictures are ingested, all for training but a tenth. Then the plan of a recipe for
the built-in model is made, `--rounds` times, each from a snapshot that is opened anew; the best counts. Seconds pass on the
clock, `cpu_seconds` are those of this process with all its threads.

Prints one JSON object and writes it to `benchmarks/results/plan.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from PIL import Image, ImageDraw

from vlmrecipes.ingestion import ingest
from vlmrecipes.plan import make_plan
from vlmrecipes.recipe import read_recipe

PICTURES = 600
RESULTS = Path(__file__).parent / "results" / "plan.json"
RECIPE = """name = "rows"
version = "1.0.0"
data.train = "rows"
model.id = "builtin:reader"
lora.r = 16
train.batch_size = 16
train.epochs = 1
eval.metrics = ["cer"]
"""


def make(folder: Path, count: int) -> None:
    """Ingest `count` rows."""
    draw = random.Random(5)  # noqa: S311 - pictures and words, not secrets
    for number in range(PICTURES):
        image = Image.new("RGB", (draw.randrange(40, 400), draw.randrange(20, 60)), "white")
        ImageDraw.Draw(image).text((2, 2), f"picture {number}", fill="black")
        image.save(folder / f"{number}.png")
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randrange(2, 9))) for _ in range(3000)]
    rows = [
        {"image": f"{n % PICTURES}.png", "question": f"Line {n}?", "text": " ".join(draw.choices(words, k=5))}
        for n in range(count)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    source = 'type = "jsonl"\npath = "rows.jsonl"\nimage = "{image}"\nprompt = "{question}"\nanswer = "{text}"\n'
    (folder / "rows.toml").write_text(f'name = "rows"\nsplit.eval = 0.1\n[[source]]\n{source}', "utf-8")
    (folder / "recipe.toml").write_text(RECIPE, "utf-8")
    ingest(folder / "rows.toml", store=str(folder / "store"))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, args.rows)
        recipe, taken = read_recipe(folder / "recipe.toml"), []
        for _ in range(args.rounds + 1):
            started, used = time.perf_counter(), time.process_time()
            plan = make_plan(recipe, store=str(folder / "store"), file="recipe.toml")
            taken.append((time.perf_counter() - started, time.process_time() - used))
    best = [round(min(one[place] for one in taken[1:]), 2) for place in (0, 1)]  # the first imports torch
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "load": round(os.getloadavg()[0], 1),
        "versions": {package: version(package) for package in ("lancedb", "pyarrow", "tokenizers", "transformers")},
        "rows": args.rows,
        "training_rows": plan.train[0].samples,
        "seconds": best[0],
        "cpu_seconds": best[1],
    }
    text = json.dumps(result, indent=1)
    RESULTS.write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
