from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command import inside, one_object
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.errors import InputError
from vlmrecipes.ingestion import ingest
from vlmrecipes.lineage.trace import _redo, lineage_of, touched_by
from vlmrecipes.records import predictions, record
from vlmrecipes.records.graph import KINDS, Graph, add_run

if TYPE_CHECKING:
    from scored import Scored


def kinds(view: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for node in view["nodes"]:
        found.setdefault(node["kind"], []).append(node)
    return found


def rows_file(scored: Scored) -> Path:
    """Return the file of rows that the project's declaration names."""
    (path,) = Path(scored.store).parent.rglob("rows.jsonl")
    return path


def test_one_prediction_is_traced_to_the_hash_of_its_file_and_picture_and_back(scored_store: Scored) -> None:
    row = predictions.read(scored_store.folder() / predictions.NAME).to_pylist()[0]
    view = one_object(inside("lineage", f"{scored_store.whole}:{row['id']}", "--store", scored_store.store, "--json"))
    found = kinds(view)
    digest = hashlib.sha256(rows_file(scored_store).read_bytes()).hexdigest()
    assert digest in {node["sha256"] for node in found["file"]}
    (sample,) = found["sample"]
    name, _, line = sample["row"].partition(":")
    assert name == "rows.jsonl"
    written = json.loads(rows_file(scored_store).read_text().splitlines()[int(line) - 1])
    assert row["references"][0] in written.values(), "the row's key leads to the line that holds its answer"
    assert [node["key"] for node in found["image"]] == row["images"]
    original = {node["sha256"] for node in found["file"] if node["label"] == "original image"}
    files = {hashlib.sha256(path.read_bytes()).hexdigest() for path in rows_file(scored_store).parent.rglob("*.png")}
    assert original <= files
    assert found["prediction"][0]["predictions"] == {"tuned": row["prediction"]}
    back = lineage_of(digest, store=scored_store.store)
    assert {node["run"] for node in kinds(back)["run"]} == {scored_store.whole, scored_store.cut}


def test_a_picture_tells_on_which_side_it_was_seen_and_by_whom(scored_store: Scored) -> None:
    snapshot = open_snapshot(scored_store.store, "example")
    for side, runs in (("eval", {scored_store.whole, scored_store.cut}), ("train", set())):
        key = snapshot.samples(side)[0].images[0]  # type: ignore[arg-type]
        for name in (key, key[:12], snapshot.pixels()[key]):
            seen = lineage_of(name, store=scored_store.store)["seen"]
            assert seen["snapshots"] == [{"snapshot": "example@1", "split": side, "samples": 1}]
            assert {run["run"] for run in seen["runs"]} == runs, "a picture to learn from was not scored"


def test_a_run_and_a_snapshot_are_traced_both_ways(scored_store: Scored) -> None:
    run, snapshot = (lineage_of(name, store=scored_store.store) for name in (scored_store.whole[:20], "example"))
    assert {"file", "source", "snapshot", "recipe", "model", "plan", "run", "predictions", "metric"} == set(kinds(run))
    assert [node["run"] for node in kinds(run)["run"]] == [scored_store.whole]
    assert {node["run"] for node in kinds(snapshot)["run"]} == {scored_store.whole, scored_store.cut}
    values = {node["id"]: node["value"] for node in kinds(run)["metric"]}
    recorded = record.read(scored_store.folder())["metrics"]["tuned"]
    assert values == {f"metric:{scored_store.whole}/tuned/{name}": told["value"] for name, told in recorded.items()}
    ids = {node["id"] for node in run["nodes"]}
    assert all({edge["from"], edge["to"]} <= ids for edge in run["edges"])
    assert one_object(inside("runs", "lineage", scored_store.whole, "--store", scored_store.store, "--json")) == run
    shown = inside("lineage", scored_store.whole, "--store", scored_store.store).stdout
    assert shown.index("made from") < shown.index("rows.jsonl") < shown.index("went into") < shown.index("metric cer")


def test_a_withdrawn_source_names_what_must_be_done_again(scored_store: Scored) -> None:
    digest = hashlib.sha256(rows_file(scored_store).read_bytes()).hexdigest()
    for name in ("jsonl-0", "example/jsonl-0", "example@1/jsonl-0", "rows.jsonl", digest):
        found = touched_by(name, store=scored_store.store)
        assert [each["snapshot"] for each in found["snapshots"]] == ["example@1"]
        assert set(found["runs"]) == {scored_store.whole, scored_store.cut}
        assert f"vlmrecipes rerun {scored_store.whole} --data latest" in found["redo"]
    assert touched_by("jsonl-0", store=scored_store.store)["snapshots"][0]["samples"] == 40
    with pytest.raises(InputError, match="no source 'nothing'; there is: example/jsonl-0"):
        touched_by("nothing", store=scored_store.store)


def test_an_export_is_traced_to_its_run(scored: Scored) -> None:
    folder = scored.folder() / "exports"
    folder.mkdir()
    (folder / "one.json").write_text(json.dumps({"format": "merged_16bit", "path": "/models/merged"}))
    (folder / "cut.json").write_text('{"format"')
    view = lineage_of("/models/merged", store=scored.store)
    assert kinds(view)["run"][0]["run"] == scored.whole
    assert "file" in kinds(view)
    assert touched_by("jsonl-0", store=scored.store)["exports"] == ["/models/merged"]


def test_every_file_that_was_prepared_as_one_image_is_known_and_what_was_left_out_is_told(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "a.png")
    Image.open(tmp_path / "a.png").save(tmp_path / "b.bmp")
    rows = [{"image": name, "text": "teal"} for name in ("a.png", "b.bmp")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = 'type = "jsonl"\npath = "rows.jsonl"\nimage = "{image}"\nprompt = "?"\nanswer = "{text}"\n'
    (tmp_path / "set.toml").write_text(f'name = "set"\n[[source]]\n{source}')
    store = str(tmp_path / "store")
    assert ingest(tmp_path / "set.toml", store=store, workers=1)["images"] == 1
    digests = [hashlib.sha256((tmp_path / row["image"]).read_bytes()).hexdigest() for row in rows]
    for digest in digests:
        view = lineage_of(digest, store=store)
        assert {node["sha256"] for node in kinds(view)["file"] if node["label"] == "original image"} == set(digests)
        assert [each["snapshot"] for each in view["seen"]["snapshots"]] == ["set@1"]
        (drop,) = view["seen"]["left_out"]
        assert (drop["snapshot"], drop["source"], drop["reason"]) == ("set@1", "jsonl-0", "duplicate")
        assert drop["row"] in {"rows.jsonl:1", "rows.jsonl:2"}
    assert (
        f"left out of set@1: jsonl-0 {drop['row']}: duplicate: " in inside("lineage", digest, "--store", store).stdout
    )


def test_samples_of_a_source_whose_name_has_a_slash_are_counted(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": f"{name} {n}"}) + "\n" for n in range(3)))
    source = '[[source]]\nname = "{0}"\ntype = "jsonl"\npath = "{1}.jsonl"\nprompt = "?"\nanswer = "{{text}}"\n'
    sources = source.format("scans/2019", "a") + source.format("2019", "b")
    (tmp_path / "set.toml").write_text(f'name = "set"\n{sources}')
    store = str(tmp_path / "store")
    ingest(tmp_path / "set.toml", store=store, workers=1)
    for name in ("scans/2019", "set/scans/2019", "set@1/scans/2019"):
        assert touched_by(name, store=store)["snapshots"] == [{"snapshot": "set@1", "samples": 3}]
    with pytest.raises(InputError, match="there is: set/2019, set/scans/2019"):
        touched_by("scans", store=store)


def test_what_is_not_there_is_wrong_input(scored_store: Scored) -> None:
    for name in ("nothing", "deadbeefdeadbeef", "example@7", f"{scored_store.whole}:{'0' * 32}", "' OR 1=1"):
        assert one_object(inside("lineage", name, "--store", scored_store.store, "--json"), 2)["problems"]
    assert one_object(inside("lineage", "--store", scored_store.store, "--json"), 2)["problems"]


def test_a_run_that_cannot_be_read_is_left_out_and_told(scored: Scored, capsys: pytest.CaptureFixture[str]) -> None:
    (scored.folder(scored.cut) / record.NAME).write_text("{")
    assert {node["run"] for node in kinds(lineage_of("example", store=scored.store))["run"]} == {scored.whole}
    assert scored.cut in capsys.readouterr().err


def trained(run: str, snapshot: str, **more: Any) -> dict[str, Any]:
    part = {"role": "train", "snapshot": snapshot, "sources": [{"source": "scans", "type": "jsonl"}]}
    told = {"value": 0.1, "spec": "cer/ws@1"}
    empty: dict[str, Any] = {"kind": "train", "status": "complete", "recipe": {}, "model": {"id": "m"}, "data": [part]}
    outputs = [{"path": path, "sha256": "0"} for path in ("adapter/a.safetensors", "predictions.parquet")]
    results = {"metrics": {"tuned": {"cer": told}}, "outputs": outputs}
    return empty | results | {"run": run, "plan": {"fingerprint": f"sha256:{run:0<64}"}} | more


def test_who_scored_the_weights_of_a_run_depends_on_its_data_too() -> None:
    graph = Graph()
    add_run(graph, trained("a", "lines@1"))
    other = [{"role": "eval", "snapshot": "other@1"}]
    add_run(graph, trained("b", "", data=other, kind="evaluate", outputs=[], parents=[{"run": "a", "as": "model"}]))
    add_run(graph, trained("c", "", data=other))
    after = graph.after(["source:lines@1/scans"])
    add_run(graph, trained("d", "", data=other, parents=[{"run": "a", "as": "rerun"}]))
    assert {"run:a", "weights:a", "metric:a/tuned/cer", "run:b"} <= after
    assert graph.nodes["run:d"]["rerun_of"] == "a"
    assert "run:d" not in graph.after(["run:a"]), "the same recipe again has learned nothing from the run before it"
    assert "run:c" not in after
    assert _redo(graph, ["lines@1"], ["a", "b"])[1:] == [
        "vlmrecipes rerun a --data latest",
        "vlmrecipes rerun b --data latest --model RERUN_OF_a",
    ]
    assert graph.before(["metric:a/tuned/cer"]) >= {"source:lines@1/scans", "model:m"}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda edge: edge[0] < edge[1]), max_size=25))
def test_before_and_after_are_each_others_mirror(edges: list[tuple[int, int]]) -> None:
    graph = Graph()
    for number in range(10):
        graph.add(KINDS[0], str(number), str(number))
    for source, target in edges:
        graph.link(f"file:{source}", f"file:{target}", "x")
    for one in graph.nodes:
        for other in graph.nodes:
            assert (other in graph.after([one])) == (one in graph.before([other]))
    assert graph.part(set(graph.nodes)).to_json() == graph.to_json()
