"""`snapshots show` on a snapshot of a million samples: seconds and memory. `python benchmarks/show.py [--samples N]`.

The store is written column by column (ingesting a million images would take hours): texts are of 40 to 400 letters, prompts
and answers nearly all distinct, four samples an image. Each verb is a process of its own, so start-up counts; the floor is
a process that only reads the same columns as an Arrow table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vlmrecipes.data.declaration import Declaration
from vlmrecipes.data.manifests import create_manifest
from vlmrecipes.data.sample import drop_schema, file_schema, image_schema, sample_schema
from vlmrecipes.data.store import Store, tagged
from vlmrecipes.fingerprint import PREFIX

RESULT = Path(__file__).parent / "results" / "show.json"
SAMPLES_AN_IMAGE = 4
DROPS = 1000
PIECE = 50_000
FLOOR = """
import sys
from vlmrecipes.data.snapshot import open_snapshot
snapshot = open_snapshot(sys.argv[1], "many")
snapshot.columns("samples", ("images", "messages", "references", "group", "split", "source"))
snapshot.columns("images", ("key", "width", "height", "format"))
"""


def names(start: int, count: int, length: int) -> list[str]:
    """Return distinct hexadecimal names."""
    return [f"{number * 2654435761 % 2**64:0{length}x}" for number in range(start, start + count)]


def images(random: np.random.Generator, start: int, count: int) -> pa.Table:
    """Return rows of the images table; their bytes are a few letters."""
    keys = names(start, count, 64)
    width, height = random.integers(200, 1000, (2, count))
    given = {
        "key": keys, "data": [b"bytes"] * count, "width": width, "height": height,
        "format": ["JPEG"] * count, "pixels": keys, "phash": random.integers(0, 2**63, count),
    }  # fmt: skip
    schema = image_schema()
    columns = [
        pa.array(given[name], schema.field(name).type) if name in given else pa.nulls(count, schema.field(name).type)
        for name in schema.names
    ]
    return pa.table(columns, schema=schema)


def samples(random: np.random.Generator, start: int, count: int) -> pa.Table:
    """Return rows of the samples table."""
    ids = names(start, count, 32)
    letters = "".join(random.choice(list("abcdefgh ijklmnop qrstuvwxyz äöü "), 100_000))
    places, lengths = random.integers(0, 99_000, (2, count)), random.integers(40, 400, (2, count))
    texts = [
        [letters[at : at + size] for at, size in zip(*pair, strict=True)] for pair in zip(places, lengths, strict=True)
    ]
    shape = '[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "%s"}]}]'
    keys = names(start // SAMPLES_AN_IMAGE, count // SAMPLES_AN_IMAGE, 64)
    own = [[keys[place // SAMPLES_AN_IMAGE]] for place in range(count)]
    columns = {
        "id": ids, "digest": ids, "images": own, "messages": [shape % text for text in texts[0]],
        "references": [[text] for text in texts[1]], "group": [keys[0] for keys in own],
        "split": np.where(random.integers(0, 10, count) == 0, "eval", "train").tolist(),
        "source": ["jsonl-0"] * count, "metadata": ["{}"] * count, "duplicates": [""] * count, "key": ids,
    }  # fmt: skip
    return pa.table(columns, schema=sample_schema())


def make(uri: str, count: int) -> None:
    """Write the snapshot `many@1`."""
    random = np.random.default_rng(0)
    tables = Store(uri).named("many")
    for start in range(0, count, PIECE):
        tables["samples"].add(samples(random, start, PIECE))
        tables["images"].add(images(random, start // SAMPLES_AN_IMAGE, PIECE // SAMPLES_AN_IMAGE))
    drop = {
        "source": "jsonl-0",
        "key": "x",
        "reason": "undecodable",
        "message": "not an image",
        "twin": "",
        "images": [],
    }
    tables["drops"].add(pa.Table.from_pylist([drop] * DROPS, schema=drop_schema()))
    tables["files"].add(pa.Table.from_pylist([], schema=file_schema()))
    declaration = {"name": "many", "source": [{"type": "jsonl", "path": "x", "prompt": "?", "answer": "{a}"}]}
    manifest: dict[str, Any] = {
        "version": 1, "snapshot": "many@1", "name": "many", "number": 1, "fingerprint": PREFIX + "0" * 64,
        "created": "2026-01-01T00:00:00+00:00", "tool": "benchmark", "license": "", "parent": None, "sources": [],
        "declaration": Declaration.model_validate(declaration).model_dump(mode="json"), "samples": count,
        "rows": {"read": count + DROPS, "samples": count, "dropped": DROPS}, "drops": {"undecodable": DROPS},
        "images": count // SAMPLES_AN_IMAGE, "duplicates": {"exact": 0, "near": 0, "near_images": 0},
        "splits": {"train": count, "eval": 0}, "leaks": {"images": 0, "duplicate_groups": 0, "groups": 0},
        "contradictions": {"count": 0, "examples": []}, "largest_group": 4, "moves": {"to_eval": 0, "to_train": 0},
        "contaminated": 0, "brought_to_eval": 0,
        "tables": {role: tagged(table, "many-1") for role, table in tables.items()},
    }  # fmt: skip
    create_manifest(uri, manifest)


def measured(*words: str) -> dict[str, float]:
    """Return seconds and the most memory of a Python process."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{words} failed")
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": round(used.ru_maxrss / 1024),
    }


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    count = parser.parse_args().samples
    show = ("-m", "vlmrecipes", "snapshots", "show", "many@1", "--store")
    with tempfile.TemporaryDirectory() as folder:
        store = f"{folder}/store"
        make(store, count)
        runs = {
            "floor": ("-c", FLOOR, store),
            "show": (*show, store),
            "html": (*show, store, "--html", f"{folder}/page.html"),
        }
        found = {
            name: min((measured(*words) for _ in range(1)), key=lambda run: run["seconds"])
            for name, words in runs.items()
        }
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("lancedb", "pyarrow")}},
        "samples": count,
        **found,
        "show_against_floor": round(found["show"]["seconds"] / found["floor"]["seconds"], 2),
    }
    print(json.dumps(result, indent=1))
    RESULT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
