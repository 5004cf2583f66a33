from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from tiny import MemoryReader, lines, model, processor
from watched import Watched

from vlmrecipes.evaluate.engines import Prediction
from vlmrecipes.evaluate.engines.hf import HfEngine
from vlmrecipes.evaluate.generate import generate
from vlmrecipes.evaluate.journal import Journal, append

pytestmark = pytest.mark.filterwarnings("ignore:.*is not writable.*:UserWarning")
ROWS = 8


def work(path: Path, kill_after: int | None = None) -> tuple[list[Prediction], list[str]]:
    """Answer eight rows, two at a time; or end the process as `kill -9` does once so many rows are done."""
    reader, engine, done = MemoryReader(), Watched(HfEngine(model(), processor(), 4, rows=2)), 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        if kill_after is not None and done >= kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    found = generate(engine, lines(reader, ROWS), reader, journal=Journal(path), probe=False, on_progress=progress)
    return found.predictions, engine.asked


def test_killed_and_gone_on_with_repeats_no_finished_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    one = multiprocessing.get_context("spawn").Process(target=work, args=(path, 4))
    one.start()
    one.join(120)
    assert one.exitcode == -signal.SIGKILL
    kept = {json.loads(line)["id"] for line in path.read_text().splitlines()}
    assert len(kept) == 4
    with path.open("a") as file:
        file.write('{"id": "cut o')
    found, asked = work(path)
    assert len(asked) == ROWS - 4
    assert not kept & set(asked)
    assert found == work(tmp_path / "other.jsonl")[0]
    assert len(Journal(path).finished(lines(MemoryReader(), ROWS))) == ROWS


def test_a_text_of_half_characters_is_read_as_what_can_be_kept(tmp_path: Path) -> None:
    path, given = tmp_path / "rows.jsonl", lines(MemoryReader(), 2)
    texts = ["a\ud800", "\ufeffb\U0001f600\udc00c"]
    rows = [
        {"id": one.id, "text": text, "tokens": 1, "truncated": False, "error": ""}
        for one, text in zip(given, texts, strict=True)
    ]
    append(path, rows)
    found = Journal(path).finished(given)
    assert [one.text for one in found.values()] == ["a\ufffd", "\ufeffb\U0001f600\ufffdc"]


def test_rows_that_failed_are_tried_again(tmp_path: Path) -> None:
    reader = MemoryReader()
    given = lines(reader, 3)
    data = reader.images[given[1].images[0]]
    reader.images[given[1].images[0]] = b"broken for now"
    journal = Journal(tmp_path / "rows.jsonl")
    engine = HfEngine(model(), processor(), 4)
    first = generate(engine, given, reader, journal=journal, probe=False)
    assert first.stats["failed"] == 1
    reader.images[given[1].images[0]] = data
    again = generate(engine, given, reader, journal=journal, probe=False)
    assert (again.stats["failed"], again.stats["resumed"]) == (0, 2)
