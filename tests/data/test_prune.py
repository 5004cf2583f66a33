"""Pruning frees space and breaks nothing that is kept."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import environment, one_object, vlmrecipes
from curated import declared, ingested, project

from vlmrecipes.data.labels import set_label
from vlmrecipes.data.snapshot import list_snapshots, open_snapshot
from vlmrecipes.data.verify import verify
from vlmrecipes.errors import InputError
from vlmrecipes.prune import prune_snapshots
from vlmrecipes.records import ledger, record


def noisy(folder: Path, seed: int, count: int = 12) -> Path:
    """Declare pictures of noise, 30 kB each."""
    import random

    from PIL import Image

    rows = project(folder, count)
    for number in range(count):
        pixels = random.Random(seed * 1000 + number).randbytes(100 * 100 * 3)
        Image.frombytes("RGB", (100, 100), pixels).save(folder / f"{number}.png")
    return declared(folder, rows)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with pages@1 to @3, no image shared, and another set beside it."""
    folder = tmp_path_factory.mktemp("prune")
    for seed in range(3):
        ingested(noisy(folder / "a", seed), folder / "store")
    ingested(declared(folder / "b", project(folder / "b", 4), name="other"), folder / "store")
    return folder / "store"


@pytest.fixture
def store(grown: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(grown, tmp_path / "store"))


def size(store: Path) -> int:
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file())


def names(store: Path) -> list[str]:
    return [manifest["snapshot"] for manifest in list_snapshots(str(store))]


def whole(store: Path) -> None:
    for name in names(store):
        assert verify(open_snapshot(str(store), name))["problems"] == []


def test_pruning_only_tells_until_it_is_told_to(store: Path) -> None:
    before = size(store)
    found = prune_snapshots(str(store))
    assert found["snapshots"] == ["pages@1", "pages@2"]
    assert found["images"] == 24
    assert (found["removed"], found["bytes_freed"]) == (False, 0)
    assert len(names(store)) == 4
    assert size(store) == before


def test_what_only_removed_snapshots_held_is_freed(store: Path) -> None:
    before = size(store)
    found = one_object(vlmrecipes("snapshots", "prune", "--yes", "--store", store, "--json"))
    assert names(store) == ["other@1", "pages@3"]
    whole(store)
    assert found["bytes_freed"] > 24 * 30_000
    assert size(store) < before - found["bytes_freed"] * 0.95
    assert prune_snapshots(str(store), yes=True)["bytes_freed"] < 10_000


def test_an_ingest_after_pruning_takes_the_next_number(store: Path) -> None:
    prune_snapshots(str(store), yes=True)
    result = ingested(noisy(store.parent / "a", 0), store)
    assert result["snapshot"] == "pages@4"
    whole(store)


def test_labels_runs_and_the_newest_are_kept(store: Path) -> None:
    uri = str(store)
    set_label(uri, "pages", 1, "paper")
    folder = ledger.home(uri) / "one"
    record.start(folder, run="one", kind="evaluate", recipe={}, data=[{"role": "eval", "snapshot": "pages@2"}])
    with pytest.raises(InputError, match="one: still going on"):
        prune_snapshots(uri)
    record.finish(folder, "complete")
    found = prune_snapshots(uri, yes=False)
    assert found["snapshots"] == []
    assert {"snapshot": "pages@2", "why": "run one"} in found["kept"]
    assert {"snapshot": "pages@1", "why": "label paper"} in found["kept"]
    prune_snapshots(uri, yes=True)
    assert open_snapshot(uri, "pages@paper").name == "pages@1"
    whole(store)
    assert prune_snapshots(uri, keep=3)["snapshots"] == []
    with pytest.raises(InputError, match="keep at least the newest"):
        prune_snapshots(uri, keep=0)


@pytest.mark.parametrize("turn", range(3))
def test_a_killed_prune_breaks_nothing_and_is_finished_by_the_next(store: Path, turn: int) -> None:
    words = ["snapshots", "prune", "--yes", "--store", str(store)]
    process = subprocess.Popen(
        [sys.executable, "-m", "vlmrecipes", *words],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and (store / "snapshots" / "pages" / "1.json").exists():
        time.sleep(0.001)
    time.sleep(0.02 * turn)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    whole(store)
    prune_snapshots(str(store), yes=True)
    assert names(store) == ["other@1", "pages@3"]
    assert size(store) < 16 * 35_000 + 200_000
    whole(store)


def test_images_of_rows_left_out_are_kept(tmp_path: Path) -> None:
    rows = project(tmp_path / "a", 4)
    ingested(declared(tmp_path / "a", [*rows, rows[0]]), tmp_path / "store")
    uri = str(tmp_path / "store")
    dropped = {key for drop in open_snapshot(uri, "pages").drops() for key in drop["images"]}
    assert dropped
    prune_snapshots(uri, yes=True)
    assert dropped <= set(open_snapshot(uri, "pages").sizes())


def holding(store: Path, needles: list[bytes]) -> list[str]:
    """Return the files of a store that hold any of these bytes."""
    files = [path for path in store.rglob("*") if path.is_file()]
    return [path.name for path in files if any(needle in path.read_bytes() for needle in needles)]


def images_of(store: Path, name: str) -> dict[str, bytes]:
    """Return the bytes of a snapshot's images by their key."""
    snapshot = open_snapshot(str(store), name)
    keys = [key for sample in snapshot.samples() for key in sample.images]
    return dict(zip(keys, snapshot.reader().read(keys), strict=True))


def test_the_bytes_of_a_removed_image_are_in_no_file_whatever_kept_snapshots_name(tmp_path: Path) -> None:
    store, rows = tmp_path / "store", project(tmp_path / "a", 40)
    ingested(declared(tmp_path / "a", rows[:20], name="a"), store)
    other = project(tmp_path / "b", 52)[100:]
    ingested(declared(tmp_path / "b", other, name="b"), store)
    ingested(declared(tmp_path / "a", rows[10:], name="a"), store)
    old, new = images_of(store, "a@1"), images_of(store, "a@2")
    gone = [old[key] for key in old.keys() - new.keys()]
    assert len(gone) == 5
    assert holding(store, gone)
    assert prune_snapshots(str(store), yes=True)["images"] == 5
    assert holding(store, gone) == []
    assert names(store) == ["a@2", "b@1"]
    whole(store)
    assert images_of(store, "a") == new


def test_a_single_removed_image_of_many_leaves_no_bytes_behind(tmp_path: Path) -> None:
    store, rows = tmp_path / "store", project(tmp_path / "a", 30)
    ingested(declared(tmp_path / "a", rows), store)
    ingested(declared(tmp_path / "a", rows[2:]), store)
    old = images_of(store, "pages@1")
    gone = [old[key] for key in old.keys() - images_of(store, "pages@2").keys()]
    prune_snapshots(str(store), yes=True)
    assert (len(gone), holding(store, gone)) == (1, [])
    whole(store)
