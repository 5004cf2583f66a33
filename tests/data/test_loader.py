"""The loader: rows of a snapshot in batches, resumed exactly, from processes too; and other forms of a snapshot."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlmrecipes.data.reader import Index
from vlmrecipes.data.snapshot import Snapshot, open_snapshot
from vlmrecipes.errors import InputError, StoreError
from vlmrecipes.ingestion import ingest

COUNT = 45


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("loader")
    rows = []
    for number in range(COUNT):
        Image.new("RGB", (20 + number % 7, 20), (number, 3, 9)).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "text": f"number {number}", "page": number})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    file = folder / "set.toml"
    file.write_text(
        'name = "set"\n[[source]]\ntype = "jsonl"\npath = "rows.jsonl"\nimage = "{image}"\nprompt = "Read."\n'
        'answer = "{text}"\nmetadata = ["page"]\n[split]\neval = 0.2\n',
        "utf-8",
    )
    ingest(file, store=str(folder / "store"), workers=1)
    return open_snapshot(str(folder / "store"), "set")


def ids(batch: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in batch]


def epoch(loader: Any) -> list[list[str]]:
    return [ids(batch) for batch in loader]


def red(row: dict[str, Any]) -> int:
    """Return what tells a picture apart; in a module, so that processes find it."""
    return int(row["images"][0].getpixel((0, 0))[0])


def test_rows_are_the_samples_with_their_pictures(snapshot: Snapshot) -> None:
    original = snapshot.torch("train")
    rows = pickle.loads(pickle.dumps(original))  # as a loader process receives it
    samples = snapshot.samples("train")
    assert len(rows) == len(samples) > 20
    for row, sample in zip(rows.__getitems__(range(len(samples))), samples, strict=True):
        assert (row["id"], row["references"]) == (sample.id, list(sample.references))
        assert row["messages"] == list(sample.messages)
        assert row["metadata"] == sample.metadata
        assert red(row) == sample.metadata["page"]
    assert rows[-1]["id"] == samples[-1].id
    with pytest.raises(IndexError):
        rows[len(rows)]


def test_images_come_in_the_form_asked_for(snapshot: Snapshot) -> None:
    encoded = snapshot.torch("eval", images="bytes")[0]["images"][0]
    picture = snapshot.torch("eval")[0]["images"][0]
    tensor = snapshot.torch("eval", images="tensor")[0]["images"][0]
    assert Image.open(io.BytesIO(encoded)).size == picture.size
    assert tuple(tensor.shape) == (3, picture.height, picture.width)
    assert (tensor.permute(1, 2, 0).numpy() == np.array(picture)).all()
    with pytest.raises(InputError, match="'jpeg'"):
        snapshot.torch(images="jpeg")  # type: ignore[arg-type]


@pytest.mark.parametrize("by_length", [False, True])
def test_a_loader_goes_on_in_the_middle_of_an_epoch_as_if_it_had_never_stopped(
    snapshot: Snapshot, *, by_length: bool
) -> None:
    rows = snapshot.torch("train", images="bytes")
    lengths = rows.lengths(snapshot.sizes()) if by_length else None

    def fresh() -> Any:
        return snapshot.torch("train", images="bytes").loader(4, seed=5, lengths=lengths)

    whole = fresh()
    first, second = epoch(whole), epoch(whole)
    assert sorted(chain(*first)) == sorted(chain(*second)) == [s.id for s in snapshot.samples("train")]
    assert first != second
    for stop in (0, 1, 3, len(first) - 1):
        begun = fresh()
        shown = [ids(batch) for batch, _ in zip(begun, range(stop), strict=False)] if stop else []
        state = json.loads(json.dumps(begun.state_dict()))
        state["batch"] = stop
        resumed = fresh()
        resumed.load_state_dict(state)
        assert shown[:stop] + epoch(resumed) == first
        assert epoch(resumed) == second


def test_processes_give_the_same_batches_and_resume_as_exactly(snapshot: Snapshot) -> None:
    rows = snapshot.torch("train", transform=red)
    alone = [list(batch) for batch in rows.loader(4, seed=2)]
    many = rows.loader(4, seed=2, workers=2)
    shown = []
    for batch in many:
        shown.append(batch)
        if len(shown) == 3:
            break
    resumed = rows.loader(4, seed=2)
    resumed.load_state_dict(many.state_dict())
    assert shown + list(resumed) == alone
    assert list(many) == alone[3:]


def test_a_state_of_other_rows_is_refused(snapshot: Snapshot) -> None:
    state = snapshot.torch("train").loader(4).state_dict()
    for other in (snapshot.torch("eval").loader(4), snapshot.torch("train").loader(5)):
        with pytest.raises(InputError, match="another loader"):
            other.load_state_dict(state)


def test_a_snapshot_as_arrow_and_polars(snapshot: Snapshot) -> None:
    for frame in (snapshot.to_arrow("eval").to_pylist(), snapshot.to_polars("eval").to_dicts()):
        assert [row["id"] for row in frame] == [sample.id for sample in snapshot.samples("eval")]
        assert [tuple(row["images"]) for row in frame] == [sample.images for sample in snapshot.samples("eval")]


def test_a_snapshot_as_a_dataset_of_hugging_face(snapshot: Snapshot, tmp_path: Path) -> None:
    found = snapshot.to_hf("train", folder=tmp_path)
    assert found["id"][:] == [sample.id for sample in snapshot.samples("train")]
    first = found[0]
    assert first["images"][0].convert("RGB").getpixel((0, 0))[0] == json.loads(first["metadata"])["page"]
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(snapshot.to_hf("train", folder=tmp_path)) == len(found)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


def test_a_key_that_is_not_there_is_told(snapshot: Snapshot) -> None:
    with pytest.raises(StoreError, match="is not in version"):
        snapshot.reader().read(["0" * 64])


def test_bytes_come_in_the_order_of_their_keys(snapshot: Snapshot) -> None:
    keys = [key for sample in snapshot.samples() for key in sample.images]
    wanted = random.Random(5).choices(keys, k=3 * len(keys))
    assert wanted[0] != min(keys)
    assert [hashlib.sha256(data).hexdigest() for data in snapshot.reader().read(wanted)] == wanted


@given(
    st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=20, unique_by=lambda key: key[:4]),
    st.binary(min_size=32, max_size=32),
    st.sampled_from([0, 12]),
)
@settings(max_examples=50, deadline=None)
def test_the_index_finds_every_key_and_no_other(keys: list[bytes], other: bytes, zeros: int) -> None:
    names = [(b"\0" * zeros + key[: 32 - zeros]).hex() for key in keys]
    index = Index("version 1", names)
    assert index.places(names[::-1]) == list(range(len(names)))[::-1]
    if other[:4] not in {key[:4] for key in keys}:
        with pytest.raises(StoreError, match="is not in version 1"):
            index.places([names[0], (b"\0" * zeros + other[: 32 - zeros]).hex()])


def test_rows_in_another_order_are_not_taken_for_what_they_are_not(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = snapshot.dataset("images").to_table(columns=["key"])["key"].to_pylist()
    monkeypatch.setattr("vlmrecipes.data.reader.Index", lambda name, keys: Index(name, keys[::-1]))
    with pytest.raises(StoreError, match="another order"):
        snapshot.reader().read(keys)


def test_a_reader_travels_light_and_reads_on_arrival(snapshot: Snapshot) -> None:
    keys = [key for sample in snapshot.samples() for key in sample.images]
    reader = snapshot.reader()
    data = reader.read(keys)
    pickled = pickle.dumps(reader)
    assert len(pickled) < 500, "loader processes start one after the other when a pipe cannot hold what they are sent"
    assert pickle.loads(pickled).read(keys) == data
