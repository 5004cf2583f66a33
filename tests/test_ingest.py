"""Ingest from files to a snapshot."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from vlmrecipes.data.snapshot import list_snapshots, open_snapshot
from vlmrecipes.data.store import Store, columns
from vlmrecipes.data.verify import verify
from vlmrecipes.errors import StoreError, TooManyDropsError
from vlmrecipes.ingestion import ingest
from vlmrecipes.prune import prune_snapshots

Row = dict[str, Any]
ROOT = Path(__file__).parents[1]


def drawn(path: Path, text: str, kind: str = "PNG", **options: Any) -> str:
    image = Image.new("RGB", (90, 24), "white")
    ImageDraw.Draw(image).text((4, 4), text, fill="black")
    image.save(path, kind, **options)
    return path.name


def project(folder: Path, count: int = 24, *, name: str = "pages") -> list[Row]:
    """Draw `count` pictures with two questions each, and return the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        image = drawn(folder / f"{number}.png", f"{name} {number}")
        rows += [{"image": image, "q": "Read.", "text": f"{name} {number}"}]
        rows += [{"image": image, "q": "Number?", "text": str(number)}]
    return rows


def declared(folder: Path, rows: list[Row], extra: str = "", *, name: str = "pages", source: str = "") -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    file = folder / "set.toml"
    file.write_text(
        f'name = "{name}"\n{extra}\n[[source]]\ntype = "jsonl"\npath = "rows.jsonl"\nimage = "{{image}}"\n'
        f'prompt = "{{q}}"\nanswer = "{{text}}"\n{source}\n[split]\neval = 0.3\n',
        "utf-8",
    )
    return file


def ingested(file: Path, store: Path, workers: int = 1) -> dict[str, Any]:
    return ingest(file, store=str(store), workers=workers)


def started(file: Path, store: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "vlmrecipes",
        "ingest",
        str(file),
        "--workers",
        "1",
        "--store",
        str(store),
        "--json",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=file.parent)


def image_keys(store: Path) -> list[str]:
    keys: list[str] = columns(Store(str(store)).images(), ("key",))["key"].to_pylist()
    return keys


def test_every_row_becomes_a_sample_or_a_drop(tmp_path: Path) -> None:
    rows = project(tmp_path / "a")
    (tmp_path / "a" / "bad.png").write_bytes(b"no picture")
    bad = [
        {"image": "bad.png", "q": "Read.", "text": "x"},
        {"image": "none.png", "q": "Read.", "text": "x"},
        {"image": "../../x.png", "q": "Read.", "text": "x"},
        {"image": "0.png", "q": "Read.", "text": ""},
        {"image": "0.png", "q": "Read."},
    ]
    result = ingested(declared(tmp_path / "a", [*rows, *bad, rows[0]], "max_dropped = 0.5"), tmp_path / "store")
    assert result["rows"] == {"read": 54, "samples": 48, "dropped": 6}
    reasons = ("undecodable", "missing_image", "outside_root", "no_answer", "missing_column", "duplicate")
    assert result["drops"] == dict.fromkeys(sorted(reasons), 1)
    assert result["images"] == 24
    assert sum(result["splits"].values()) == 48
    snapshot = open_snapshot(str(tmp_path / "store"), "pages")
    samples = snapshot.samples()
    assert len({sample.id for sample in samples}) == 48
    sides = {image: {s.split for s in samples if image in s.images} for sample in samples for image in sample.images}
    assert all(len(both) == 1 for both in sides.values())
    assert set(sides) == set(image_keys(tmp_path / "store"))


def test_the_fingerprint_depends_on_the_data_alone(tmp_path: Path) -> None:
    rows = project(tmp_path / "a", 70)
    first = ingested(declared(tmp_path / "a", rows), tmp_path / "store")
    again = project(tmp_path / "b" / "deep", 70)
    random.Random(1).shuffle(again)
    assert again != rows
    file = declared(tmp_path / "b" / "deep", again)
    for workers in (1, 4):
        other = ingested(file, tmp_path / f"store-{workers}", workers)
        assert other["fingerprint"] == first["fingerprint"]
        assert other["splits"] == first["splits"]


@pytest.mark.parametrize(("exact", "same_bytes"), [("true", False), ("false", True)])
@pytest.mark.parametrize("sides", [("", ""), ("train", "eval"), ("", "train")])
def test_twins_do_not_make_the_order_of_rows_matter(
    tmp_path: Path, exact: str, sides: tuple[str, str], *, same_bytes: bool
) -> None:
    folder, rows = tmp_path / "a", []
    folder.mkdir()
    for number in range(4):
        one = drawn(folder / f"{number}.png", f"page {number}")
        two = one if same_bytes else drawn(folder / f"twin-{number}.png", f"page {number}", compress_level=0)
        rows += [
            {"image": image, "q": "?", "text": "x", "side": side} for image, side in zip((one, two), sides, strict=True)
        ]
    extra = f'split = "{{side}}"\n[dedup]\nexact = {exact}'
    found = [
        ingested(declared(folder, order, source=extra), tmp_path / f"store-{turn}")["fingerprint"]
        for turn, order in enumerate((rows, rows[::-1]))
    ]
    assert found[0] == found[1]


def test_nothing_new_makes_no_new_snapshot(tmp_path: Path) -> None:
    file = declared(tmp_path / "a", project(tmp_path / "a"))
    first = ingested(file, tmp_path / "store")
    again = ingested(file, tmp_path / "store")
    assert (first["unchanged"], again["unchanged"]) == (False, True)
    assert {key: first[key] for key in first if key not in {"seconds", "unchanged"}} == {
        key: again[key] for key in again if key not in {"seconds", "unchanged"}
    }
    assert [manifest["snapshot"] for manifest in list_snapshots(str(tmp_path / "store"))] == ["pages@1"]


def test_nothing_new_is_seen_from_another_working_directory_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = declared(tmp_path / "a", [*project(tmp_path / "a", 4), {"image": "gone.png", "q": "?", "text": "x"}])
    file.write_text("max_dropped = 0.5\n" + file.read_text("utf-8"), "utf-8")
    ingested(file, tmp_path / "store")
    monkeypatch.chdir(file.parent)
    assert ingested(Path(file.name), Path("../store"))["unchanged"]


def test_a_row_that_is_newly_left_out_is_told_though_no_sample_changes(tmp_path: Path) -> None:
    store, rows, extra = tmp_path / "store", project(tmp_path / "a", 4), "max_dropped = 0.5"
    first = ingested(declared(tmp_path / "a", rows, extra), store)
    images = image_keys(store)
    gone = {"image": "gone.png", "q": "Read.", "text": "x"}
    second = ingested(declared(tmp_path / "a", [*rows, gone], extra), store)
    assert (second["snapshot"], second["unchanged"], second["fingerprint"]) == ("pages@2", False, first["fingerprint"])
    assert second["rows"] == {"read": 9, "samples": 8, "dropped": 1}
    assert second["drops"] == {"missing_image": 1}
    newest = open_snapshot(str(store), "pages")
    assert newest.manifest["parent"] == "pages@1"
    assert newest.files() != open_snapshot(str(store), "pages@1").files()
    assert image_keys(store) == images
    assert ingested(declared(tmp_path / "a", [*rows, gone], extra), store)["unchanged"]


def test_a_corrected_licence_makes_a_new_snapshot_of_the_same_samples(tmp_path: Path) -> None:
    store, rows = tmp_path / "store", project(tmp_path / "a", 4)
    first = ingested(declared(tmp_path / "a", rows), store)
    second = ingested(declared(tmp_path / "a", rows, 'license = "CC0-1.0"'), store)
    assert (second["snapshot"], second["fingerprint"]) == ("pages@2", first["fingerprint"])
    assert open_snapshot(str(store), "pages").manifest["license"] == "CC0-1.0"
    assert open_snapshot(str(store), "pages@1").manifest["license"] == ""


@pytest.mark.parametrize("table", ["images", "samples-pages"])
def test_a_lost_table_of_an_unchanged_set_is_written_again(
    tmp_path: Path, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file, store = declared(tmp_path / "a", project(tmp_path / "a", 4)), tmp_path / "store"
    ingested(file, store)
    shutil.rmtree(store / f"{table}.lance")
    assert not verify(open_snapshot(str(store), "pages"))["ok"]
    assert ingested(file, store)["unchanged"]
    assert "the store had lost tables or images of pages@1: they are written again" in capsys.readouterr().err
    assert verify(open_snapshot(str(store), "pages"))["problems"] == []
    ingested(file, store)
    assert "had lost" not in capsys.readouterr().err


@pytest.mark.parametrize("store", ["file/store", "/proc/store"])
def test_where_no_store_can_be_it_is_told_in_one_line(tmp_path: Path, store: str) -> None:
    (tmp_path / "file").touch()
    uri = str(tmp_path / store)
    with pytest.raises(StoreError, match="store: cannot be written: "):
        ingest(declared(tmp_path / "a", project(tmp_path / "a", 1)), store=uri, workers=1)
    with pytest.raises(StoreError, match="store: cannot be written: "):
        prune_snapshots(uri, yes=True)


def test_an_edited_text_makes_a_child_snapshot_and_no_new_image(tmp_path: Path) -> None:
    store, rows = tmp_path / "store", project(tmp_path / "a")
    ingested(declared(tmp_path / "a", rows), store)
    before, images = open_snapshot(str(store), "pages@1").samples(), image_keys(store)
    rows[5]["text"] = "mended"
    result = ingested(declared(tmp_path / "a", rows), store)
    assert (result["snapshot"], result["unchanged"]) == ("pages@2", False)
    assert open_snapshot(str(store), "pages").manifest["parent"] == "pages@1"
    assert image_keys(store) == images
    assert open_snapshot(str(store), "pages@1").samples() == before
    after = open_snapshot(str(store), "pages@2").samples()
    old, new = ({sample.digest() for sample in samples} for samples in (before, after))
    assert (len(old - new), len(new - old)) == (1, 1)


def test_too_many_drops_stop_the_ingest_and_leave_no_snapshot(tmp_path: Path) -> None:
    rows = project(tmp_path / "a", 5)
    file = declared(tmp_path / "a", [*rows, {"image": "none.png", "q": "Read.", "text": "x"}])
    with pytest.raises(TooManyDropsError, match=r"1 of 11 rows dropped.*missing_image 1[\s\S]*rows.jsonl:11"):
        ingested(file, tmp_path / "store")
    assert list_snapshots(str(tmp_path / "store")) == []
    file = declared(tmp_path / "a", [*rows, *rows, *rows])
    assert ingested(file, tmp_path / "store")["duplicates"]["exact"] == 20


def test_duplicates_are_kept_when_they_are_told_to_be(tmp_path: Path) -> None:
    rows = project(tmp_path / "a", 4)
    file = declared(tmp_path / "a", [*rows, *rows], source="[dedup]\nexact = false")
    result = ingested(file, tmp_path / "store")
    assert result["rows"] == {"read": 16, "samples": 16, "dropped": 0}
    assert len({sample.id for sample in open_snapshot(str(tmp_path / "store"), "pages").samples()}) == 16


def test_declared_sides_are_kept_and_training_rows_with_images_of_eval_are_dropped(tmp_path: Path) -> None:
    rows = [
        row | {"side": "eval" if place % 4 == 0 else "train"} for place, row in enumerate(project(tmp_path / "a", 8))
    ]
    result = ingested(declared(tmp_path / "a", rows, source='split = "{side}"'), tmp_path / "store")
    assert result["splits"] == {"train": 8, "eval": 4}
    assert result["drops"] == {"contaminated": 4}
    assert result["leaks"] == {"images": 0, "duplicate_groups": 0, "groups": 0}


def test_a_duplicate_that_comes_later_never_moves_a_text_from_eval_to_train(tmp_path: Path) -> None:
    rows = [{"q": f"Question {number}?", "text": "yes", "group": f"g{number}"} for number in range(60)]
    text_only, store = 'group = "{group}"', tmp_path / "store"
    (tmp_path / "a").mkdir()

    def evals(rows: list[Row]) -> set[str]:
        file = declared(tmp_path / "a", rows, source=text_only)
        file.write_text(file.read_text("utf-8").replace('image = "{image}"\n', ""), "utf-8")
        ingested(file, store)
        samples = open_snapshot(str(store), "pages").samples("eval")
        return {sample.messages[0]["content"][0]["text"] for sample in samples}

    before = evals(rows)
    assert 0 < len(before) < 60
    assert before <= evals([*rows, *(row | {"group": f"h{place}"} for place, row in enumerate(rows))])


MOMENTS = (
    "locks/*.new",  # never comes: the kill comes by its delay, while images are prepared
    "images.lance/_versions/*.manifest",
    "samples-pages.lance/data/*.lance",
    "drops-pages.lance/_versions/*.manifest",
    "*.lance/_refs/tags/pages-2-*.json",
)
"""What a new file of is waited for before the kill, in the order in which an ingest writes."""


def killed_at(file: Path, store: Path, pattern: str, longest: float) -> bool:
    """Kill an ingest when a file that fits `pattern` comes, or after `longest` seconds; tell whether it was still at work."""
    there = set(store.glob(pattern))
    process = started(file, store)
    until = time.monotonic() + longest
    while process.poll() is None and set(store.glob(pattern)) <= there and time.monotonic() < until:
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def test_a_killed_ingest_leaves_the_old_snapshot_and_the_next_finishes_the_work(tmp_path: Path) -> None:
    store, rows = tmp_path / "store", project(tmp_path / "a", 40)
    ingested(declared(tmp_path / "a", rows[:40]), store)
    old = open_snapshot(str(store), "pages")
    before, keys = old.samples(), [key for sample in old.samples() for key in sample.images]
    rows[3]["text"] = "mended"
    file = declared(tmp_path / "a", rows)
    undisturbed = ingested(file, tmp_path / "elsewhere")
    kills = 0
    for place, pattern in enumerate(MOMENTS):
        kills += killed_at(file, store, pattern, longest=30 if place else 1.0)
        again = open_snapshot(str(store), "pages@1")
        assert (again.samples(), again.fingerprint) == (before, old.fingerprint)
        assert len(again.reader().read(keys)) == len(before)
    assert kills >= 3
    assert ingested(file, store)["fingerprint"] == undisturbed["fingerprint"]
    newest, other = open_snapshot(str(store), "pages"), open_snapshot(str(tmp_path / "elsewhere"), "pages")
    assert (newest.name, newest.manifest["parent"]) == ("pages@2", "pages@1")
    assert newest.samples() == other.samples()
    assert sorted(image_keys(store)) == sorted(image_keys(tmp_path / "elsewhere"))


def finished(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    result: dict[str, Any] = json.loads(out)
    return result


def test_two_processes_that_ingest_the_same_set_at_once_make_one_snapshot(tmp_path: Path) -> None:
    store, file = tmp_path / "store", declared(tmp_path / "a", project(tmp_path / "a", 40))
    results = [finished(process) for process in [started(file, store), started(file, store)]]
    assert sorted(result["unchanged"] for result in results) == [False, True]
    assert {result["fingerprint"] for result in results} == {ingested(file, tmp_path / "elsewhere")["fingerprint"]}
    assert Counter(image_keys(store)) == Counter(image_keys(tmp_path / "elsewhere"))
    assert len(open_snapshot(str(store), "pages").samples()) == 80


def test_two_processes_that_ingest_sets_of_the_same_pictures_at_once_lose_and_double_none(tmp_path: Path) -> None:
    store = tmp_path / "store"
    files = []
    for name in ("one", "two"):
        rows = [
            *project(tmp_path / name, 40),
            *({"image": drawn(tmp_path / name / "own.png", name), "q": "?", "text": name},),
        ]
        files.append(declared(tmp_path / name, rows, name=name))
    results = [finished(process) for process in [started(file, store) for file in files]]
    assert [result["rows"]["samples"] for result in results] == [81, 81]
    keys = image_keys(store)
    assert len(keys) == len(set(keys)) == 42
    for name in ("one", "two"):
        snapshot = open_snapshot(str(store), name)
        wanted = [key for sample in snapshot.samples() for key in sample.images]
        assert len(snapshot.reader().read(wanted)) == 81
