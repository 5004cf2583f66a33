import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vlmrecipes.errors import InputError
from vlmrecipes.fingerprint import sha256
from vlmrecipes.models.catalog import ModelRef, resolve

HUB = "acme/tiny-vl"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def problem(*args: Any, **kwargs: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        resolve(*args, **kwargs)
    return [found.problem for found in caught.value.problems]


def folder_of(path: Path, **files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("__", "-").replace("_DOT_", ".")).write_text(text)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "mine", config_DOT_json="{}", model_DOT_safetensors="w", notes_DOT_md="no")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    repository = tmp_path / "hub" / "models--acme--tiny-vl"
    folder_of(repository / "refs", main=COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return folder_of(repository / "snapshots" / COMMIT, config_DOT_json="{}", model_DOT_safetensors="w")


def test_builtin(reader: ModelRef) -> None:
    assert reader.id == "builtin:reader"
    assert reader.path.endswith("reader")
    assert reader.revision == ""
    assert {"config.json", "tokenizer.json", "chat_template.jinja"} <= reader.files.keys()
    assert not any(name.endswith(".safetensors") for name in reader.files)


@pytest.mark.parametrize("name", ["builtin:raeder", "reader", "buildin:reader"])
def test_a_slip_is_answered_with_the_name(name: str) -> None:
    assert "did you mean `builtin:reader`?" in problem(name)[0]


def test_unknown_builtin_lists_what_there_is() -> None:
    assert problem("builtin:zzz") == ["no built-in model 'zzz': There is builtin:reader"]


@pytest.mark.parametrize("name", ["", "qwen", "/no/such/folder", "./missing", "a/b/c", "acme/ti ny"])
def test_wrong_form(name: str) -> None:
    assert "a hub id such as" in problem(name)[0]


def test_problem_carries_file_and_key() -> None:
    with pytest.raises(InputError) as caught:
        resolve("qwen", file="recipes/a.toml", key="model.id")
    assert (caught.value.problems[0].file, caught.value.problems[0].key) == ("recipes/a.toml", "model.id")


def test_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = resolve(str(folder))
    assert ref.files == {"config.json": sha256(b"{}"), "model.safetensors": sha256(b"w")}
    assert resolve(str(folder), weights=False).files == {"config.json": sha256(b"{}")}
    monkeypatch.chdir(folder.parent)
    assert resolve("mine").path == ref.path
    assert resolve("./mine").path == ref.path


def test_a_file_is_no_model(folder: Path) -> None:
    assert "is a file" in problem(str(folder / "config.json"))[0]


def test_every_problem_of_a_folder_at_once(tmp_path: Path) -> None:
    found = problem(str(tmp_path), "main")
    assert len(found) == 3
    assert "no revision" in found[0]
    assert "no config.json" in found[1]
    assert "no weights" in found[2]


def test_adapter_folder(tmp_path: Path) -> None:
    folder_of(tmp_path, adapter_config_DOT_json="{}", adapter_model_DOT_safetensors="w")
    assert "name its base model" in problem(str(tmp_path))[0]


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, config_DOT_json="{}", pytorch_model_DOT_bin="w")
    assert "pytorch_model.bin is pickled" in problem(str(tmp_path))[0]
    assert resolve(str(tmp_path), weights=False).path


def test_missing_shards_are_named(tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    files = {
        "config_DOT_json": "{}",
        "model__1_DOT_safetensors": "w",
        "model_DOT_safetensors_DOT_index_DOT_json": index,
    }
    folder_of(tmp_path, **files)
    assert "weights model-2.safetensors are missing" in problem(str(tmp_path))[0]


def test_hub_id_in_the_cache(hub_cache: Path) -> None:
    ref = resolve(HUB)
    assert (ref.path, ref.revision, ref.files) == (str(hub_cache), COMMIT, {})
    assert resolve(HUB, COMMIT) == ref


@pytest.mark.usefixtures("hub_cache")
def test_hub_id_not_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert f"hf download acme/other --revision {COMMIT}" in problem("acme/other", COMMIT)[0]
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    ref = resolve("acme/other", COMMIT)
    assert (ref.path, ref.revision) == ("acme/other", COMMIT)


def test_half_downloaded_hub_id(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (hub_cache / "model.safetensors").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "incomplete in the local cache (no weights" in problem(HUB)[0]
    assert resolve(HUB, weights=False).path == str(hub_cache)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert resolve(HUB).path == HUB


def test_catalog_and_load_import_nothing_heavy() -> None:
    code = "import sys, vlmrecipes.models.catalog, vlmrecipes.models.load; print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert not {"torch", "transformers", "huggingface_hub", "numpy"} & set(done.stdout.split())
