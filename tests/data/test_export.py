"""Exports, read back by the tools they are made for."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from command import environment
from curated import declared, ingested, project

from vlmrecipes.data import export as exporting
from vlmrecipes.data import hub_rows
from vlmrecipes.data.export import FORMATS, export
from vlmrecipes.data.snapshot import Snapshot, open_snapshot
from vlmrecipes.errors import InputError


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("export")
    rows = project(folder / "a", 20)
    ingested(declared(folder / "a", rows, 'description = "Pages | drawn: here"'), folder / "store")
    return open_snapshot(str(folder / "store"), "pages")


@pytest.fixture(scope="module")
def exported(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "pages"
    result = export(snapshot, folder, FORMATS)
    assert result["files"] == sum(path.is_file() for path in folder.rglob("*"))
    return folder


def loaded(folder: Path, *words: str, **more: str) -> Any:
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset(*(words or (str(folder),)), cache_dir=str(folder.parent / "cache"), **more)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_datasets_loads_the_parquet_and_every_image_of_it(snapshot: Snapshot, exported: Path) -> None:
    import datasets

    found = loaded(exported)
    assert {side: len(rows) for side, rows in found.items()} == snapshot.manifest["splits"]
    assert found["train"].features["images"] == datasets.List(datasets.Image())
    assert found["train"][0]["images"][0].size == (90, 24)
    raw = found["train"].cast_column("images", datasets.List(datasets.Image(decode=False)))
    by_id = {sample.id: sample for sample in snapshot.samples("train")}
    for row in raw:
        sample = by_id.pop(row["id"])
        assert tuple(hashlib.sha256(image["bytes"]).hexdigest() for image in row["images"]) == sample.images
        assert row["references"] == list(sample.references)
        assert row["messages"][0]["content"][1]["text"] in {"Read.", "Number?"}
    assert not by_id


def test_the_croissant_file_is_valid_and_gives_the_records(snapshot: Snapshot, exported: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlcroissant

        found = mlcroissant.Dataset(str(exported / "croissant.json"))
        assert not found.metadata.ctx.issues.errors
        assert not found.metadata.ctx.issues.warnings
        records = {side: list(found.records(side)) for side in ("train", "eval")}
    assert {side: len(rows) for side, rows in records.items()} == snapshot.manifest["splits"]
    by_id = {sample.id: sample for sample in snapshot.samples()}
    first = records["train"][0]
    assert by_id[first["train/id"].decode()].answer == first["train/answer"].decode()
    for shard in json.loads((exported / "croissant.json").read_text("utf-8"))["distribution"]:
        if shard["@type"] == "cr:FileObject":
            assert shard["sha256"] == hashlib.sha256((exported / shard["contentUrl"]).read_bytes()).hexdigest()


def test_the_croissant_file_tells_where_the_snapshot_came_from(snapshot: Snapshot, exported: Path) -> None:
    import rdflib

    graph = rdflib.Graph().parse(exported / "croissant.json", format="json-ld")
    prov, name = rdflib.Namespace("http://www.w3.org/ns/prov#"), rdflib.URIRef("https://schema.org/name")
    dataset = next(graph.subjects(rdflib.RDF.type, rdflib.URIRef("https://schema.org/Dataset")))
    sources = list(graph.objects(dataset, prov.wasDerivedFrom))
    told = snapshot.manifest["sources"]
    assert {str(source) for source in sources} == {f"urn:{source['files']['fingerprint']}" for source in told}
    assert {str(graph.value(source, name)) for source in sources} == {source["source"] for source in told}
    made = graph.value(dataset, prov.wasGeneratedBy)
    assert str(graph.value(graph.value(made, prov.wasAssociatedWith), name)) == snapshot.manifest["tool"]
    assert graph.value(made, prov.endedAtTime).toPython().isoformat()[:19] == snapshot.manifest["created"][:19]
    assert str(graph.value(made, prov.used)).startswith("urn:sha256:")


def test_the_card_is_one_that_the_hub_reads(snapshot: Snapshot, exported: Path) -> None:
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(exported / "README.md")
    assert card.data.license == "cc0-1.0"
    assert card.data.configs[0]["data_files"][1] == {"split": "eval", "path": "data/eval-*.parquet"}
    sizes = {split["name"]: split["num_examples"] for split in card.data.dataset_info["splits"]}
    assert sizes == snapshot.manifest["splits"]
    assert snapshot.fingerprint in card.text
    assert "Pages | drawn: here" in card.text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("", {"license": "unknown"}),
        ("My Terms", {"license": "other", "license_name": "my-terms"}),
    ],
)
def test_a_licence_that_the_hub_does_not_know_is_named(given: str, expected: dict[str, str]) -> None:
    assert exporting.card.hub_license(given) == expected


def test_imagefolder_and_jsonl_hold_the_same_samples(snapshot: Snapshot, exported: Path) -> None:
    from PIL import Image

    found = loaded(exported, "imagefolder", data_dir=str(exported / "imagefolder"))
    assert sum(len(rows) for rows in found.values()) == 40
    assert {row["id"] for rows in found.values() for row in rows} == {sample.id for sample in snapshot.samples()}
    for side in ("train", "eval"):
        for line in (exported / "jsonl" / f"{side}.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            data = (exported / "jsonl" / row["images"][0]).read_bytes()
            assert Image.open(io.BytesIO(data)).size == (90, 24)
            assert hashlib.sha256(data).hexdigest() == Path(row["images"][0]).stem


def test_several_images_and_none_in_a_row(tmp_path: Path) -> None:
    project(tmp_path / "a", 3)
    lines = [
        {"images": ["0.png", "1.png"], "text": "two"},
        {"images": [], "text": "none"},
        {"images": ["2.png"], "text": "one"},
    ]
    (tmp_path / "a" / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    source = (
        'type = "jsonl"\npath = "rows.jsonl"\nimage = "{images}"\nprompt = "?"\nanswer = "{text}"\nsplit = "train"\n'
    )
    (tmp_path / "a" / "set.toml").write_text(f'name = "mixed"\n[[source]]\n{source}', "utf-8")
    ingested(tmp_path / "a" / "set.toml", tmp_path / "store")
    export(open_snapshot(str(tmp_path / "store"), "mixed"), tmp_path / "out", ["parquet", "imagefolder"])
    counts = {row["answer"]: len(row["images"]) for row in loaded(tmp_path / "out")["train"]}
    assert counts == {"two": 2, "none": 0, "one": 1}
    folder = loaded(tmp_path / "out", "imagefolder", data_dir=str(tmp_path / "out" / "imagefolder"))
    assert {row["answer"]: len(row["images"]) for row in folder["train"]} == counts


def test_an_export_is_the_same_byte_for_byte(snapshot: Snapshot, exported: Path, tmp_path: Path) -> None:
    export(snapshot, tmp_path / "again", FORMATS)
    assert hashes(tmp_path / "again") == hashes(exported)


def test_large_sets_are_cut_into_shards(snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting.parquet, "SHARD_BYTES", 4000)
    monkeypatch.setattr(hub_rows, "GROUP_ROWS", 4)
    export(snapshot, tmp_path / "out", ["parquet"])
    names = sorted(path.name for path in (tmp_path / "out" / "data").iterdir())
    count = sum(name.startswith("train") for name in names)
    assert count > 1
    assert f"train-00000-of-{count:05}.parquet" in names
    assert len(loaded(tmp_path / "out")["train"]) == snapshot.manifest["splits"]["train"]


def test_what_is_there_is_not_overwritten(snapshot: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already and not empty"):
        export(snapshot, tmp_path / "full", ["parquet"])
    with pytest.raises(InputError, match="no format tfrecord; there are: parquet"):
        export(snapshot, tmp_path / "new", ["parquet", "tfrecord"])
    (tmp_path / "empty").mkdir()
    export(snapshot, tmp_path / "empty", ["jsonl"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_a_killed_export_leaves_no_folder_of_that_name(snapshot: Snapshot, tmp_path: Path) -> None:
    target = tmp_path / "out"
    words = [
        "snapshots",
        "export",
        snapshot.name,
        "-o",
        str(target),
        "--format",
        "imagefolder",
        "--store",
        snapshot.uri,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "vlmrecipes", *words], env=environment(), stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not any(tmp_path.glob(".out.*.tmp/**/*.png")):
        time.sleep(0.002)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not target.exists() or (target / "README.md").exists()
    if not target.exists():
        export(snapshot, target, ["imagefolder"])
    assert (target / "README.md").exists()


def test_the_working_folder_is_a_place_when_it_is_empty(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    export(snapshot, Path(), ["parquet"])
    assert (tmp_path / "out" / "README.md").is_file()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is there already and not empty"):
        export(snapshot, Path(), ["parquet"])
    with pytest.raises(InputError, match="give a folder with a name"), exporting.aside(Path("/")):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
