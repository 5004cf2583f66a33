"""`snapshots verify` against SHA-256 of the same image bytes on one thread: from loose files, and held in memory.

A store of `--images` pictures of noise is made, then all are run in turn, `--rounds` times each; the best of each counts.
Verifying does more: it reads the tables, recomputes every sample's digest and the counts. It uses all cores.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import random
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from PIL import Image

from vlmrecipes import ingest, open_snapshot, verify
from vlmrecipes.fingerprint import file_sha256

RESULT = Path(__file__).parent / "results" / "verify.json"


def make(folder: Path, images: int) -> str:
    """Ingest pictures of 500 × 400 pixels, stored byte for byte; return the store."""
    rows = []
    for number in range(images):
        pixels = random.Random(number).randbytes(500 * 400 * 3)  # noqa: S311 - noise
        file = io.BytesIO()
        Image.frombytes("RGB", (500, 400), pixels).save(file, "JPEG", quality=95)
        (folder / f"{number}.jpg").write_bytes(file.getvalue())
        rows.append({"image": f"{number}.jpg", "text": str(number)})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    source = 'type = "jsonl"\npath = "rows.jsonl"\nimage = "{image}"\nprompt = "Which?"\nanswer = "{text}"\n'
    (folder / "set.toml").write_text(f'name = "noise"\n[[source]]\n{source}', "utf-8")
    ingest(folder / "set.toml", store=str(folder / "store"))
    return str(folder / "store")


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    ours, files, plain = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        store = make(Path(folder), args.images)
        snapshot = open_snapshot(store, "noise")
        keys = [key for sample in snapshot.samples() for key in sample.images]
        data = snapshot.reader().read(keys)
        size = sum(map(len, data))
        paths = sorted(Path(folder).glob("*.jpg"))
        for _ in range(args.rounds):
            started = time.perf_counter()
            found = verify(open_snapshot(store, "noise"))
            ours.append(time.perf_counter() - started)
            if not found["ok"] or found["images"] != args.images:
                raise SystemExit(f"{found}")
            started = time.perf_counter()
            there = {file_sha256(path) for path in paths}
            files.append(time.perf_counter() - started)
            started = time.perf_counter()
            hashes = [hashlib.sha256(each).hexdigest() for each in data]
            plain.append(time.perf_counter() - started)
            if hashes != keys or there != set(keys):
                raise SystemExit("hashlib and the keys differ")
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("lancedb", "pylance", "pyarrow")},
        },
        "images": args.images,
        "bytes": size,
        "seconds": {
            name: round(min(times), 3) for name, times in (("verify", ours), ("files", files), ("memory", plain))
        },
        "speed_against_sha256_of_files": round(min(files) / min(ours), 3),
        "speed_against_sha256_in_memory": round(min(plain) / min(ours), 3),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
