"""Workers that prepare images: limits that hold, and workers that are lost."""

from __future__ import annotations

import io
import os
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from vlmrecipes.data.declaration import Prepare
from vlmrecipes.data.prepare import Prepared, pool, prepare_image
from vlmrecipes.data.prepare.batch import Origins, Task, outcome_schema, prepare_batch, task_batch
from vlmrecipes.data.prepare.pool import prepare_batches

if TYPE_CHECKING:
    import pyarrow as pa

PLAIN = Prepare()
DATA = Path(os.environ.get("VLMRECIPES_DATA", "/nowhere"))


def encoded(seed: int, size: tuple[int, int] = (60, 40), kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def endless_jpeg() -> bytes:
    """Return a progressive JPEG of few bytes that asks for thousands of passes over 64 million pixels.

    The last scan, which refines what is there already, is repeated: what libjpeg calls bogus, and does.
    """
    buffer = io.BytesIO()
    Image.new("L", (8000, 8000), 128).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    scan = data.rindex(b"\xff\xda")
    return data[:scan] + data[scan:-2] * 3000 + data[-2:]


def greedy_jpeg() -> bytes:
    """Return a progressive JPEG whose coefficients alone, 2 bytes for each of four colours, take 0.8 GB."""
    buffer = io.BytesIO()
    Image.new("CMYK", (64, 64)).save(buffer, "JPEG", progressive=True)
    data = bytearray(buffer.getvalue())
    frame = data.index(b"\xff\xc2")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 10_000, 10_000)
    return bytes(data)


def rows(*images: bytes | str, root: Path = Path()) -> pa.RecordBatch:
    return task_batch([Task((image,), root, None) for image in images])


def prepared(*batches: pa.RecordBatch, workers: int = 2) -> list[dict[str, Any]]:
    return [row for outcome in prepare_batches(batches, PLAIN, (), workers) for row in outcome.to_pylist()]


def test_a_batch_gives_the_same_in_this_process_and_in_workers() -> None:
    images = [encoded(seed) for seed in range(6)]
    tasks = [
        Task((images[0], images[1]), Path(), (1.0, 2.0, 30.0, 30.0)),
        Task((), Path(), None),
        Task((b"no picture",), Path(), None),
        Task((images[2], b"no picture"), Path(), None),
        Task(({"bytes": images[3], "path": "x.png"},), Path(), None),
    ]
    batch = task_batch(tasks)
    alone = prepare_batch(batch, PLAIN, Origins(()))
    assert alone.schema == outcome_schema()
    assert [row["row"] for row in alone.to_pylist()] == [0, 0, 2, 3, 4]
    assert [row["reason"] for row in alone.to_pylist()] == [None, None, "undecodable", "undecodable", None]
    assert alone.to_pylist() == prepared(batch)
    assert prepared(task_batch([])) == []


def test_an_image_that_is_known_is_only_named() -> None:
    batch = rows(encoded(1), encoded(2))
    first, second = prepared(batch)
    again = prepare_batch(batch, PLAIN, Origins([first["origin"]])).to_pylist()
    assert again[0] == dict.fromkeys(first) | {"row": 0, "origin": first["origin"]}
    assert again[1] == second


def test_results_come_in_the_order_of_the_batches_whatever_each_takes() -> None:
    batches = [rows(encoded(seed, (900, 900) if seed % 5 == 0 else (20, 20))) for seed in range(20)]
    found = prepared(*batches)
    wanted = [row for batch in batches for row in prepare_batch(batch, PLAIN, Origins(())).to_pylist()]
    assert found == wanted


def test_an_image_is_prepared_once_however_often_it_stands_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    work: list[bytes] = []

    def counted(raw: bytes, *rest: Any) -> Prepared:
        work.append(raw)
        return prepare_image(raw, *rest)

    monkeypatch.setattr("vlmrecipes.data.prepare.batch.prepare_image", counted)
    one, two, bad = encoded(1), encoded(2), b"no picture"
    tasks = [Task(images, Path(), None) for images in ((one, bad), (one, one), (two,), (one, two), (one,))]
    outcome = prepare_batch(task_batch(tasks), PLAIN, Origins(())).to_pylist()
    assert work == [one, bad, one, two]  # again where the first row was refused, and gave nothing
    assert [row["row"] for row in outcome] == [0, 1, 1, 2, 3, 3, 4]
    assert [row["row"] for row in outcome if row["data"]] == [1, 2]
    alone = {
        row["origin"]: row for raw in (one, two) for row in prepare_batch(rows(raw), PLAIN, Origins(())).to_pylist()
    }
    assert all(row["origin"] in alone for row in outcome if row["row"])
    assert all(row["key"] == alone[row["origin"]]["key"] for row in outcome if row["data"])


def test_a_page_is_read_and_decoded_once_for_all_its_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.png").write_bytes(encoded(1, (90, 300)))
    tasks = [Task(("page.png",), tmp_path, (0, 5 * line, 90, 5 * line + 5)) for line in range(60)]
    work: list[str] = []
    reading, decoding = Path.read_bytes, Image.open
    monkeypatch.setattr(Path, "read_bytes", lambda path: work.append("read") or reading(path))
    monkeypatch.setattr(Image, "open", lambda *args, **more: work.append("decode") or decoding(*args, **more))
    together = prepare_batch(task_batch(tasks), PLAIN, Origins(())).to_pylist()
    assert work == ["read", "decode"]
    apart = [prepare_batch(task_batch([task]), PLAIN, Origins(())).to_pylist()[0] for task in tasks]
    assert together == [row | {"row": line} for line, row in enumerate(apart)]


class Sleeper:
    """An image that takes its time, and no processor's."""

    def render(self) -> bytes:
        time.sleep(60)
        return b""


def test_an_image_that_waits_for_ever_is_dropped_in_time_with_all_rows_that_want_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "WALL_SECONDS", 1.0)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    tasks = [Task((image,), Path(), None) for image in (encoded(1), Sleeper(), Sleeper(), encoded(2))]
    begun = time.monotonic()
    found = prepared(task_batch(tasks), workers=1)
    assert [row["reason"] for row in found] == [None, "timeout", "timeout", None]
    assert found[1]["message"] == "not ready after 1 s"
    assert time.monotonic() - begun < 20


def test_the_time_an_image_may_take_grows_with_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for load, wanted in ((0.5, 1), (2, 1), (7, 3.5)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert pool.overload() == wanted


def test_an_endless_image_is_dropped_in_time_and_the_rest_of_its_batch_is_done() -> None:
    good = encoded(1)
    begun = time.monotonic()
    found = prepared(rows(good, endless_jpeg(), encoded(2)), rows(encoded(3)), workers=1)
    assert [row["reason"] for row in found] == [None, "timeout", None, None]
    assert "processor time" in found[1]["message"]
    assert time.monotonic() - begun < 40


def test_a_greedy_image_is_dropped_and_its_worker_lives() -> None:
    found = prepared(rows(greedy_jpeg(), encoded(1)), workers=1)
    assert [row["reason"] for row in found] == ["too_large", None]


def worker_processes() -> list[int]:
    """Return the ids of this process's workers."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and b"vlmrecipes.data.prepare.worker" in command:
            found.append(int(status.parent.name))
    return found


def test_workers_that_are_killed_are_replaced_and_no_row_is_lost() -> None:
    batches = [rows(*(encoded(8 * number + seed, (300, 300)) for seed in range(8))) for number in range(10)]

    def murdered() -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(batches):
            yield batch
            if number == 6:  # once: an image that is at work when two workers end would be to blame
                for worker in worker_processes():
                    os.kill(worker, signal.SIGKILL)

    found = [outcome.to_pylist() for outcome in prepare_batches(murdered(), PLAIN, (), 2)]
    assert found == [prepare_batch(batch, PLAIN, Origins(())).to_pylist() for batch in batches]
    assert worker_processes() == []


def test_workers_end_with_the_one_who_wants_their_results() -> None:
    outcomes = prepare_batches((rows(encoded(seed)) for seed in range(9)), PLAIN, (), 2)
    next(outcomes)
    assert worker_processes()
    outcomes.close()
    assert worker_processes() == []


@pytest.mark.skipif(not (DATA / "hostile_images").is_dir(), reason="needs $VLMRECIPES_DATA/hostile_images")
def test_every_hostile_file_is_a_sample_or_a_drop_and_no_worker_is_lost() -> None:
    root = DATA / "hostile_images"
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    batches = [rows(*files[start : start + 64], root=root) for start in range(0, len(files), 64)]
    with_workers: set[int] = set()
    found = []
    for outcome in prepare_batches(batches, PLAIN, (), 2):
        with_workers.update(worker_processes())
        found += outcome.to_pylist()
    assert len(found) == len(files)
    assert len(with_workers) == 2
    reasons = {row["reason"] for row in found}
    assert reasons == {None, "undecodable", "too_large", "too_small"}
