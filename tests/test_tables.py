"""Declarations and recipes read from TOML: messages and overrides."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from vlmrecipes.data.declaration import read_declaration
from vlmrecipes.errors import InputError
from vlmrecipes.recipe import read_recipe
from vlmrecipes.tables import MAX_BYTES, override

GOLDEN = Path(__file__).parent / "golden"

BAD_DECLARATION = """
name = "My Set"
licence = "MIT"
max_dropped = 2
[[source]]
type = "jsonl"
pth = "a.jsonl"
image = 3
prompt = "Read."
limit = 0
[[source]]
type = "jason"
path = "a"
[[source]]
path = "a"
[[source]]
type = "folder"
path = "pictures"
messages = "{chat}"
prompt = "Read."
[prepare]
max_side = "big"
mode = "CMYK"
quality = 101
multiple = 28
[dedup]
exact = "yes"
[split]
eval = nan
"""

BAD_RECIPE = """
name = "x"
version = "1.0"
[data]
train = 3
evaluate = "y"
[model]
load_in = "2bit"
max_length = 1.5
[lora]
vision = false
language = false
[train]
backend = "keras"
batchsize = 8
learning_rate = 0
steps = 3
epochs = 1.0
[eval]
metrics = []
by = "shop"
limit = true
[export]
formats = ["onnx"]
"""

RECIPE = """
name = "x"
version = "1.0.0"
[data]
train = "x"
[model]
id = "builtin:reader"
[train]
steps = 3
[eval]
metrics = ["cer"]
"""


def same_as_golden(text: str, name: str) -> bool:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text + "\n", "utf-8")
    return text + "\n" == path.read_text("utf-8")


def written(folder: Path, text: str, name: str = "file.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_all_problems_of_a_declaration_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, BAD_DECLARATION, "bad.toml")
    with pytest.raises(InputError) as caught:
        read_declaration(Path("bad.toml"))
    assert all(problem.file == "bad.toml" and problem.key for problem in caught.value.problems)
    assert same_as_golden(str(caught.value), "bad_declaration.txt")


def test_all_problems_of_a_recipe_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, BAD_RECIPE, "bad.toml")
    with pytest.raises(InputError) as caught:
        read_recipe(Path("bad.toml"))
    assert all(problem.file == "bad.toml" and problem.key for problem in caught.value.problems)
    assert same_as_golden(str(caught.value), "bad_recipe.txt")


@pytest.mark.parametrize(
    ("extra", "key"),
    [
        ("[train]\nsteps = 3\nepochs = 1.0\n", "train"),
        ("[lora]\nvision = false\nlanguage = false\n[train]\nsteps = 3\n", "lora"),
        ("[train]\n", "train"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(tmp_path: Path, extra: str, key: str) -> None:
    text = RECIPE.replace("[train]\nsteps = 3\n", extra)
    with pytest.raises(InputError) as caught:
        read_recipe(written(tmp_path, text))
    assert [problem.key for problem in caught.value.problems] == [key]


def test_mixture_parts_are_read_and_their_problems_have_their_place(tmp_path: Path) -> None:
    good = RECIPE.replace('train = "x"', 'train = [{ snapshot = "a", weight = 2.0 }, { snapshot = "b@3" }]')
    assert [(part.snapshot, part.weight) for part in read_recipe(written(tmp_path, good)).data.parts()] == [
        ("a", 2.0),
        ("b@3", 1.0),
    ]
    bad = RECIPE.replace('train = "x"', 'train = [{ snapshot = "a", wait = 2.0 }, { weight = -1.0 }]')
    with pytest.raises(InputError) as caught:
        read_recipe(written(tmp_path, bad))
    keys = {problem.key for problem in caught.value.problems}
    assert keys == {"data.train[0].wait", "data.train[1].snapshot", "data.train[1].weight"}
    assert "did you mean 'weight'?" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"name = ", "not valid TOML"),
        (b'name = "\xff"', "not UTF-8 text (byte 8)"),
        (b"#" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_files_that_are_no_toml_are_told_as_such(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=told.replace("(", r"\(").replace(")", r"\)")):
        read_declaration(path)


def test_a_file_that_is_not_there_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_declaration(tmp_path / "none.toml")
    with pytest.raises(InputError, match="cannot be read"):
        read_declaration(tmp_path)


def test_overrides_change_values_and_make_tables(tmp_path: Path) -> None:
    overrides = ("train.steps=7", "lora.r=8", "data.train=y@2", 'eval.metrics=["wer", "cer"]', "eval.baseline=false")
    recipe = read_recipe(written(tmp_path, RECIPE), overrides)
    assert recipe.train.steps == 7
    assert recipe.lora is not None
    assert (recipe.lora.r, recipe.lora.alpha) == (8, 16)
    assert recipe.data.train == "y@2"
    assert recipe.eval.metrics == ("wer", "cer")
    assert not recipe.eval.baseline


def test_an_override_may_hold_an_equals_sign() -> None:
    data: dict[str, Any] = {}
    override(data, ["model.id=a=b"])
    assert data == {"model": {"id": "a=b"}}


def test_bad_overrides_are_told_all_at_once() -> None:
    with pytest.raises(InputError) as caught:
        override({"name": "x"}, ["steps", "=3", "name.first=y"])
    assert [(problem.file, problem.key) for problem in caught.value.problems] == [
        ("--set", "steps"),
        ("--set", "=3"),
        ("--set", "name.first"),
    ]


def test_an_override_of_an_unknown_key_is_refused_like_one_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'steps'"):
        read_recipe(written(tmp_path, RECIPE), ("train.stepz=3",))
