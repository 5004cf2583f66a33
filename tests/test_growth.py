"""What a grown or changed set costs: images prepared, bytes written."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlmrecipes.data.prepare.pool import prepare_batches
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.ingestion import ingest

Row = dict[str, Any]


def made(folder: Path, numbers: range) -> list[Row]:
    """Draw noise of 3 kB a picture, and return the rows."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in numbers:
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    return [{"image": f"images/{number}.png", "text": f"number {number}"} for number in numbers]


def declared(folder: Path, rows: list[Row], extra: str = "", *, sources: int = 1) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    source = (
        '[[source]]\ntype = "jsonl"\npath = "rows.jsonl"\nimage = "{image}"\nprompt = "Read {0}."\nanswer = "{text}"\n'
    )
    file = folder / "set.toml"
    texts = (source.replace("{0}", str(number)) for number in range(sources))
    file.write_text('name = "set"\n' + "".join(texts) + extra, "utf-8")
    return file


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Path], tuple[int, dict[str, Any]]]:
    """Return what ingests, and tells how many images the workers prepared for it."""
    count = 0

    def counted(*args: Any) -> Any:
        nonlocal count
        for outcome in prepare_batches(*args):
            count += len(outcome) - outcome["data"].null_count
            yield outcome

    monkeypatch.setattr(sys.modules["vlmrecipes.ingestion"], "prepare_batches", counted)

    def work(file: Path, store: Path) -> tuple[int, dict[str, Any]]:
        nonlocal count
        count = 0
        result = ingest(file, store=str(store), workers=1)
        return count, result

    return work


def size(store: Path, tables: str = "*.lance") -> int:
    return sum(path.stat().st_size for path in store.glob(f"{tables}/data/*"))


def test_one_in_a_hundred_new_rows_costs_about_that_in_work_and_bytes(tmp_path: Path, prepared: Any) -> None:
    store, rows = tmp_path / "store", made(tmp_path, range(300))
    assert prepared(declared(tmp_path, rows), store)[0] == 300
    whole, images = size(store), size(store, "images.lance")
    count, result = prepared(declared(tmp_path, rows), store)
    assert (count, result["unchanged"], size(store)) == (0, True, whole)
    count, result = prepared(declared(tmp_path, rows + made(tmp_path, range(300, 303))), store)
    assert (count, result["rows"]["samples"]) == (3, 303)
    assert size(store, "images.lance") - images < 0.02 * images
    assert size(store) - whole < 0.03 * whole
    grown = size(store, "images.lance"), size(store)
    edited = [row | {"text": row["text"] + "!"} for row in rows]
    count, result = prepared(declared(tmp_path, edited), store)
    assert (count, result["unchanged"]) == (0, False)
    assert size(store, "images.lance") == grown[0]
    assert size(store) - grown[1] < 0.3 * grown[1]


def test_what_prepares_to_bytes_that_are_there_is_prepared_once_and_not_again(tmp_path: Path, prepared: Any) -> None:
    store, rows = tmp_path / "store", made(tmp_path, range(20))
    file = declared(tmp_path, rows)
    assert prepared(file, store)[0] == 20
    images = size(store, "images.lance")
    same = declared(tmp_path, rows, "[prepare]\nmax_side = 999\n")  # nothing is so large
    assert [prepared(same, store)[0] for _ in range(2)] == [20, 0]
    for row in rows:  # another file, the same pixels, stored as the same PNG
        Image.open(tmp_path / row["image"]).save(tmp_path / row["image"].replace("png", "bmp"))
    for row in rows:
        data = io.BytesIO()
        Image.open(tmp_path / row["image"].replace("png", "bmp")).save(data, "PNG")
        assert data.getvalue() == (tmp_path / row["image"]).read_bytes()
    bitmaps = declared(tmp_path, [row | {"image": row["image"].replace("png", "bmp")} for row in rows])
    assert [prepared(bitmaps, store)[0] for _ in range(2)] == [20, 0]
    assert prepared(file, store)[0] == 0
    assert size(store, "images.lance") == images
    assert prepared(declared(tmp_path, rows, sources=2), store)[0] == 0


def test_rows_that_share_images_prepare_each_once(tmp_path: Path, prepared: Any) -> None:
    rows = [row | {"text": f"{row['text']} {turn}"} for row in made(tmp_path, range(12)) for turn in range(10)]
    count, result = prepared(declared(tmp_path, rows), tmp_path / "store")
    assert (count, result["images"], result["rows"]["samples"]) == (12, 12, 120)


FULL = """
import resource, signal, sys
from pathlib import Path
from vlmrecipes.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
sys.exit(main())
"""


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    error = process.communicate(timeout=100)[1]
    return process.returncode, error.decode()


def started(file: Path, store: Path, *before: str) -> subprocess.Popen[bytes]:
    begin = before or ("-m", "vlmrecipes")
    command = [sys.executable, *begin, "ingest", str(file), "--workers", "1", "--store", str(store)]
    path = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=path)


def test_a_disk_that_is_full_leaves_earlier_snapshots_and_the_next_call_finishes(tmp_path: Path) -> None:
    store, rows = tmp_path / "store", made(tmp_path, range(60))
    ingest(declared(tmp_path, rows[:6]), store=str(store), workers=1)
    before = open_snapshot(str(store), "set@1").samples()
    file = declared(tmp_path, rows)
    code, error = finish(started(file, store, "-c", FULL, "65536"))  # no file may be larger: 54 images are
    assert (code, "Traceback" in error) == (1, False), error
    assert "cannot be written: File too large; earlier snapshots are as they were" in error
    snapshot = open_snapshot(str(store), "set")
    assert (snapshot.name, snapshot.samples()) == ("set@1", before)
    assert len(snapshot.reader().read([key for sample in before for key in sample.images])) == 6
    result = ingest(file, store=str(store), workers=1)
    assert (result["snapshot"], result["rows"]["samples"]) == ("set@2", 60)
    assert result["fingerprint"] == ingest(file, store=str(tmp_path / "elsewhere"), workers=1)["fingerprint"]


def test_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    store, rows = tmp_path / "store", made(tmp_path, range(80))
    ingest(declared(tmp_path, rows[:20]), store=str(store), workers=1)
    before = open_snapshot(str(store), "set@1").samples()
    file = declared(tmp_path, rows)
    begun = time.monotonic()
    undisturbed = ingest(file, store=str(tmp_path / "elsewhere"), workers=1)["fingerprint"]
    longest = 1.0 + time.monotonic() - begun
    draw = random.Random(11)
    for _ in range(3):
        process = started(file, store)
        time.sleep(draw.uniform(0.2, longest))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert open_snapshot(str(store), "set@1").samples() == before
    result = ingest(file, store=str(store), workers=1)
    assert (result["snapshot"], result["fingerprint"]) == ("set@2", undisturbed)
