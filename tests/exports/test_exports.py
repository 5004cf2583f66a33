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
from vlmrecipes.exports import note, weights
from vlmrecipes.exports.formats import Settings
from vlmrecipes.exports.source import open_source
from vlmrecipes.fingerprint import file_sha256
from vlmrecipes.records import exports, record
from vlmrecipes.records.prune import prune_runs

FEW = Settings(samples=2)
READER = Path(vlmrecipes.__file__).parent / "models" / "reader"


@pytest.fixture(scope="module")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of the adapter, as the verb writes it, and of the merged model, which the recipe asked for."""
    output = tmp_path_factory.mktemp("exported") / "out"
    words = ("--to", "adapter", "--samples", 2, "-o", output, "--hub", "me/example", "--dry-run")
    found = one_object(inside("export", trained.run, *words, "--store", trained.store, "--json"))
    assert [each["format"] for each in found["exports"]] == ["adapter"]
    assert (found["path"], found["parity"]["ok"], found["hub"]) == (str(output), True, None)
    return {"adapter": output, "merged_16bit": trained.folder / "exports" / "merged_16bit"}


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Trained:
    """Return a copy of the run, to be tampered with."""
    shutil.copytree(trained.store, tmp_path / "store")
    return Trained(str(tmp_path / "store"), trained.run, trained.recipe)


def flip(file: Path) -> None:
    """Change some weights."""
    data = bytearray(file.read_bytes())
    start = len(data) // 2
    data[start : start + 4000] = bytes(value ^ 0x41 for value in data[start : start + 4000])
    file.write_bytes(data)


def test_export_says_what_the_run_says_and_tells_so(trained: Trained, exported: dict[str, Path]) -> None:
    for folder in exported.values():
        told = note.read(folder)
        parity = told["parity"]
        assert parity["ok"]
        assert parity["samples"] == 2
        assert parity["token_agreement"] >= 0.98
        assert (parity["dtype"], parity["problems"]) == ("float32", [])
        assert parity["tokens"]["n"] > 4
        assert parity["recorded"] == {"same": 2, "tied": 0, "different": 0, "problems": []}
        assert set(parity["metrics"]) == {"wer", "cer"}
        assert told["run"] == trained.run
        assert told["seal"] == record.read(trained.folder)["seal"]
        assert parity["weights"]["compared"] == (141 if told["format"] == "merged_16bit" else 0)


def test_a_dry_run_writes_the_card_that_the_hub_would_get(exported: dict[str, Path]) -> None:
    text = (exported["adapter"] / "README.md").read_text()
    assert 'model = PeftModel.from_pretrained(model, "me/example")' in text
    assert "library_name: peft" in text


def test_merged_model_comes_with_every_file_that_loads_it(exported: dict[str, Path]) -> None:
    names = {path.name for path in exported["merged_16bit"].iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "README.md", "export.json"} <= names
    assert {"tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "chat_template.jinja"} <= names
    config = json.loads((exported["merged_16bit"] / "config.json").read_text())
    assert {config["dtype"], config["text_config"]["dtype"], config["vision_config"]["dtype"]} == {"bfloat16"}


def test_merged_weights_are_written_in_shards_and_differ_from_the_base(
    trained: Trained, exported: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    whole = load_file(exported["merged_16bit"] / "model.safetensors")
    base = load_file(READER / "model.safetensors")
    assert set(whole) == set(base)
    assert any((whole[name] != weight).any() for name, weight in base.items())
    weights.write_merged(open_source(trained.run, store=trained.store), tmp_path, "10MB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {path.name for path in shards}
    merged = {name: weight for path in shards for name, weight in load_file(path).items()}
    assert all((merged[name] == weight).all() for name, weight in whole.items())


def test_a_run_that_trained_all_weights_is_exported_as_they_are(
    copied: Trained, exported: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    model = copied.folder / "model"
    shutil.rmtree(copied.folder / "adapter")
    shutil.copytree(exported["merged_16bit"], model)
    found = json.loads((copied.folder / "record.json").read_text())
    outputs = [{"path": f"model/{path.name}", "sha256": file_sha256(path)} for path in model.iterdir()]
    (copied.folder / "record.json").write_text(json.dumps(found | {"outputs": outputs}))
    with pytest.raises(InputError, match="this run trained all weights and has no adapter; use merged_16bit"):
        vlmrecipes.export_run(copied.run, ["adapter"], tmp_path / "out", store=copied.store)
    weights.write_merged(open_source(copied.run, store=copied.store), tmp_path / "whole", "5GB")
    written, trained = load_file(tmp_path / "whole" / "model.safetensors"), load_file(model / "model.safetensors")
    assert set(written) == set(trained)
    assert all((written[name] == weight).all() for name, weight in trained.items())
    assert (tmp_path / "whole" / "chat_template.jinja").is_file()


def test_card_names_data_base_scores_and_licences(trained: Trained, exported: dict[str, Path]) -> None:
    import huggingface_hub

    found = record.read(trained.folder)
    card = huggingface_hub.ModelCard.load(exported["merged_16bit"] / "README.md")
    assert (card.data.library_name, card.data.license) == ("transformers", "apache-2.0")
    results = {result.metric_name: result for result in card.data.eval_results}
    assert set(results) == {"wer/ws@1", "cer/ws@1"}
    cer = found["metrics"]["tuned"]["cer"]
    assert results["cer/ws@1"].metric_value == cer["value"]
    assert results["cer/ws@1"].metric_args == {key: cer[key] for key in ("low", "high", "n")}
    assert results["cer/ws@1"].dataset_revision == found["data"][0]["fingerprint"]
    for told in (found["data"][0]["fingerprint"], found["recipe"]["fingerprint"], found["seal"], "licence CC0-1.0"):
        assert told in card.text


def test_record_stays_sealed_and_lists_its_exports(trained: Trained, exported: dict[str, Path], tmp_path: Path) -> None:
    assert record.check_seal(trained.folder) == []
    paths = [entry["path"] for entry in exports.listed(trained.folder)]
    assert paths[:2] == [str(exported[name]) for name in ("merged_16bit", "adapter")]
    report = vlmrecipes.report([trained.run], tmp_path / "page.html", store=trained.store)
    assert report["runs"][0]["exports"][0]["path"] == paths[0]
    page = (tmp_path / "page.html").read_text()
    assert "tokens as the adapter on builtin:reader, weights in 16bit (0 ties)" in page
    assert paths[1] in page


def test_a_copy_that_was_changed_is_told_by_its_hashes_and_by_its_answers(
    trained: Trained, exported: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(exported["merged_16bit"], copy)
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


def test_killed_export_leaves_nothing_under_its_name_and_what_is_left_is_pruned(copied: Trained) -> None:
    output = copied.folder / "exports" / "merged_16bit"
    shutil.rmtree(output)
    words = ["export", copied.run, "--format", "merged_16bit", "--store", copied.store]
    with subprocess.Popen(
        [sys.executable, "-m", "vlmrecipes", *words], env=environment(), stderr=subprocess.DEVNULL
    ) as work:
        end = time.monotonic() + 120
        while not (left := list(output.parent.glob(".*/*.safetensors"))) and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(work.pid, signal.SIGKILL)
    assert left
    assert not output.exists()
    pruned = prune_runs(store=copied.store, yes=True)["paths"]
    assert [(each["path"], each["why"]) for each in pruned] == [(str(left[0].parent), "half exported")]
    assert not left[0].parent.exists()
    assert record.check_seal(copied.folder) == []


def test_wrong_settings_are_told_at_once(trained: Trained) -> None:
    settings = Settings(max_shard_size="big", outtype="q3")
    with pytest.raises(InputError) as told:
        vlmrecipes.export_run(trained.run, ["onnx"], store=trained.store, settings=settings)
    text = str(told.value)
    assert "no format 'onnx'; there is: adapter, merged_16bit, merged_4bit, gguf" in text
    assert "expected a size such as 500MB or 5GB, found 'big'" in text
    assert "no type 'q3'" in text


def test_a_recipe_whose_exports_cannot_be_written_fails_its_plan(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    asked = ('export.formats=["gguf", "merged_4bit"]',)
    found = vlmrecipes.planned(trained.recipe, store=trained.store, overrides=asked)["problems"]
    told = [each["problem"] for each in found if each["key"] == "export.formats"]
    assert told[-1].startswith(f"{tmp_path}: convert_hf_to_gguf.py of llama.cpp was not found")
    if not torch.cuda.is_available():
        assert told[0] == "merged_4bit needs a CUDA GPU, and there is none here"


def test_a_complete_run_gets_the_exports_that_it_has_not_yet(trained: Trained, exported: dict[str, Path]) -> None:
    before = exports.listed(trained.folder)
    view = vlmrecipes.resume_run(trained.run, store=trained.store)
    assert exports.listed(trained.folder) == before, "it has them"
    assert str(exported["merged_16bit"]) in [each["path"] for each in view["exports"]]


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


def test_code_from_a_repository_is_run_only_when_it_is_allowed(copied: Trained, tmp_path: Path) -> None:
    path = copied.folder / "plan.json"
    path.write_text(path.read_text().replace('"trust_remote_code": false', '"trust_remote_code": true'))
    with pytest.raises(InputError, match="say --trust-remote-code to allow it"):
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


@pytest.mark.skipif("LLAMA_CPP" not in os.environ, reason="set LLAMA_CPP to a folder of llama.cpp")
def test_gguf_holds_every_weight_and_answers_the_same(trained: Trained, tmp_path: Path) -> None:
    output = tmp_path / "out"
    parity = vlmrecipes.export_run(trained.run, ["gguf"], output, store=trained.store, settings=FEW)["parity"]
    assert {path.name for path in output.glob("*.gguf")} == {"example-bf16.gguf", "mmproj-example-bf16.gguf"}
    tensors = parity["gguf"]["tensors"]
    assert (tensors["exact"], tensors["other"]) == (tensors["n"], 0)
    if answers := parity["gguf"]["answers"]:
        assert answers["same"] == answers["rows"] == FEW.samples
    assert not list(tmp_path.glob(".*")), "the merged model in between is gone"


def test_verb_wants_a_run_or_a_folder() -> None:
    told = one_object(inside("export", "--json"), 2)["error"]
    assert told == "give either a RUN with --format, or --verify DIR"
