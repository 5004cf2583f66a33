from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import environment, inside, one_object
from trained import Trained

import vlmrecipes
from vlmrecipes.errors import InputError, MissingExtraError, RunError
from vlmrecipes.exports import note
from vlmrecipes.exports.formats import Settings
from vlmrecipes.records import exports, record

FEW = Settings(samples=2)
READER = Path(vlmrecipes.__file__).parent / "models" / "reader"


@pytest.fixture(scope="module")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the run as adapter and as merged model in shards."""
    output = tmp_path_factory.mktemp("exported") / "out"
    words = ("--format", "adapter,merged_16bit", "--max-shard-size", "10MB", "--samples", 2, "-o", output)
    found = one_object(inside("export", trained.run, *words, "--store", trained.store, "--json"))
    assert [each["format"] for each in found["exports"]] == ["adapter", "merged_16bit"]
    assert (found["path"], found["parity"]) == (found["exports"][0]["path"], found["exports"][0]["parity"])
    return output


def flip(file: Path) -> None:
    """Change some weights."""
    data = bytearray(file.read_bytes())
    start = len(data) // 2
    data[start : start + 4000] = bytes(value ^ 0x41 for value in data[start : start + 4000])
    file.write_bytes(data)


def test_export_says_what_the_run_says_and_tells_so(trained: Trained, exported: Path) -> None:
    for name in ("adapter", "merged_16bit"):
        note = json.loads((exported / name / "export.json").read_text())
        parity = note["parity"]
        assert parity["ok"]
        assert parity["samples"] == 2
        assert parity["token_agreement"] >= 0.98
        assert (parity["dtype"], parity["problems"]) == ("float32", [])
        assert parity["tokens"]["n"] > 4
        assert parity["recorded"] == {"same": 2, "tied": 0, "different": 0, "problems": []}
        assert set(parity["metrics"]) == {"wer", "cer"}
        assert note["run"] == trained.run
        assert note["seal"] == record.read(trained.folder)["seal"]
    assert parity["weights"]["compared"] > 100


def test_merged_weights_are_sharded_with_every_processor_file(exported: Path) -> None:
    names = {path.name for path in (exported / "merged_16bit").iterdir()}
    assert len([name for name in names if name.endswith(".safetensors")]) > 1
    index = json.loads((exported / "merged_16bit" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {name for name in names if name.endswith(".safetensors")}
    assert {"config.json", "generation_config.json", "README.md", "export.json"} <= names
    assert {"tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "chat_template.jinja"} <= names
    config = json.loads((exported / "merged_16bit" / "config.json").read_text())
    assert {config["dtype"], config["text_config"]["dtype"], config["vision_config"]["dtype"]} == {"bfloat16"}


def test_merged_weights_differ_from_the_base(exported: Path) -> None:
    from safetensors.torch import load_file

    base = load_file(READER / "model.safetensors")
    merged: dict[str, object] = {}
    for file in (exported / "merged_16bit").glob("*.safetensors"):
        merged |= load_file(file)
    assert set(merged) == set(base)
    assert any((merged[name] != weight).any() for name, weight in base.items())


def test_card_names_data_base_scores_and_licences(trained: Trained, exported: Path) -> None:
    import huggingface_hub

    found = record.read(trained.folder)
    card = huggingface_hub.ModelCard.load(exported / "merged_16bit" / "README.md")
    assert (card.data.library_name, card.data.license) == ("transformers", "apache-2.0")
    results = {result.metric_name: result for result in card.data.eval_results}
    assert set(results) == {"wer/ws@1", "cer/ws@1"}
    cer = found["metrics"]["tuned"]["cer"]
    assert results["cer/ws@1"].metric_value == cer["value"]
    assert results["cer/ws@1"].metric_args == {key: cer[key] for key in ("low", "high", "n")}
    assert results["cer/ws@1"].dataset_revision == found["data"][0]["fingerprint"]
    for told in (found["data"][0]["fingerprint"], found["recipe"]["fingerprint"], found["seal"], "licence CC0-1.0"):
        assert told in card.text


def test_record_stays_sealed_and_lists_its_exports(trained: Trained, exported: Path, tmp_path: Path) -> None:
    assert record.check_seal(trained.folder) == []
    paths = [entry["path"] for entry in exports.listed(trained.folder)]
    assert [str(exported / name) for name in ("adapter", "merged_16bit")] == paths[:2]
    report = vlmrecipes.report([trained.run], tmp_path / "page.html", store=trained.store)
    assert report["runs"][0]["exports"][0]["path"] == paths[0]
    page = (tmp_path / "page.html").read_text()
    assert "tokens as the adapter on builtin:reader, weights in 16bit (0 ties)" in page
    assert paths[1] in page


def test_a_copy_that_was_changed_is_told_by_its_hashes_and_by_its_answers(
    trained: Trained, exported: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(exported / "merged_16bit", copy)
    assert note.changes(copy, note.read(copy)) == []
    flip(min(copy.glob("*.safetensors")))
    (copy / "merges.txt").touch()
    found = vlmrecipes.verify_export(copy, store=trained.store)
    assert not found["ok"]
    assert found["problems"][0].endswith(".safetensors: changed since the export")
    assert found["problems"][1] == "merges.txt: added since the export"
    assert any("agrees on" in problem for problem in found["problems"]), "its answers tell it, too"


def test_weights_that_change_between_writing_and_checking_fail_the_export(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    corrupt = (
        "import glob,json,sys\n"
        "folder=json.load(open(sys.argv[1]))['folder']\n"
        "file=glob.glob(folder+'/*.safetensors')[0]\n"
        "data=bytearray(open(file,'rb').read())\n"
        "data[-2]^=1\n"
        "open(file,'wb').write(data)\n"
    )
    (tmp_path / "corrupt.py").write_text(corrupt)
    python.write_text(f'#!/bin/sh\n{sys.executable} {tmp_path}/corrupt.py "$3" && exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(RunError, match="1 weights are not what was merged"):
        vlmrecipes.export_run(trained.run, ["merged_16bit"], tmp_path / "out", store=trained.store, settings=FEW)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name], "nothing is left"


def test_killed_export_leaves_nothing_under_its_name(trained: Trained, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ["export", trained.run, "--format", "merged_16bit", "-o", str(output), "--store", trained.store]
    with subprocess.Popen(
        [sys.executable, "-m", "vlmrecipes", *words], env=environment(), stderr=subprocess.DEVNULL
    ) as work:
        end = time.monotonic() + 120
        while not list(tmp_path.glob(".out.*/*.safetensors")) and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(work.pid, signal.SIGKILL)
    assert list(tmp_path.glob(".out.*"))
    assert not output.exists()


def test_wrong_settings_are_told_at_once(trained: Trained) -> None:
    settings = Settings(max_shard_size="big", outtype="q3")
    with pytest.raises(InputError) as told:
        vlmrecipes.export_run(trained.run, ["onnx"], store=trained.store, settings=settings)
    text = str(told.value)
    assert "no format 'onnx'; there is: adapter, merged_16bit, merged_4bit, gguf" in text
    assert "expected a size such as 500MB or 5GB, found 'big'" in text
    assert "no type 'q3'" in text


def test_folder_that_is_not_empty_is_refused(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = ("--format", "adapter", "-o", tmp_path, "--store", trained.store, "--json")
    problem = one_object(inside("export", trained.run, *words), 2)["problems"][0]
    assert problem["key"] == str(tmp_path)
    assert problem["problem"] == "is there already and not empty; give a folder that is empty or not there yet"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_another_base_is_refused_by_its_hashes(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(READER, tmp_path / "reader")
    flip(tmp_path / "reader" / "model.safetensors")
    base = str(tmp_path / "reader")
    with pytest.raises(InputError, match=r"trained on another base: model\.safetensors of .* is another file"):
        vlmrecipes.export_run(trained.run, ["adapter"], tmp_path / "out", store=trained.store, base=base)


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Trained:
    """Return a copy of the run, to be tampered with."""
    shutil.copytree(trained.store, tmp_path / "store")
    return Trained(str(tmp_path / "store"), trained.run, trained.recipe)


def test_adapter_that_is_not_the_sealed_one_is_refused(copied: Trained, tmp_path: Path) -> None:
    flip(copied.folder / "adapter" / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"adapter/adapter_model\.safetensors is not the file that was sealed"):
        vlmrecipes.export_run(copied.run, ["adapter"], tmp_path / "out", store=copied.store)


def test_base_at_another_revision_is_refused(copied: Trained, tmp_path: Path) -> None:
    path = copied.folder / "record.json"
    found = json.loads(path.read_text())
    found["model"]["id"] = "some/model"
    path.write_text(json.dumps(found))
    with pytest.raises(InputError, match="the adapter names builtin:reader as its base, the record some/model"):
        vlmrecipes.export_run(copied.run, ["adapter"], tmp_path / "out", store=copied.store)


def test_unfinished_run_is_refused(copied: Trained, tmp_path: Path) -> None:
    path = copied.folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "failed"}))
    with pytest.raises(InputError, match="is failed: only a complete run is exported"):
        vlmrecipes.export_run(copied.run, ["adapter"], tmp_path / "out", store=copied.store)


def test_four_bits_need_a_gpu(trained: Trained, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="merged_4bit needs a CUDA GPU, and there is none here"):
        vlmrecipes.export_run(trained.run, ["merged_4bit"], tmp_path / "out", store=trained.store)


def test_missing_converter_is_told_with_the_way_to_get_it(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match=r"convert_hf_to_gguf\.py of llama\.cpp was not found: git clone"):
        vlmrecipes.export_run(trained.run, ["gguf"], tmp_path / "out", store=trained.store)
    assert not (tmp_path / "out").exists()


def test_verb_wants_a_run_or_a_folder() -> None:
    told = one_object(inside("export", "--json"), 2)["error"]
    assert told == "give either a RUN with --format, or --verify DIR"
