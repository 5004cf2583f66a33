"""Every shipped recipe for a large model, on a tiny checkpoint of its family: planned, and run for two steps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command import ROOT
from families import FAMILIES, make

import vlmrecipes
from vlmrecipes import job, run
from vlmrecipes.recipe import read_recipe
from vlmrecipes.records import record

if TYPE_CHECKING:
    from scored import Scored

RECIPES = {
    "qwen2.5-vl-7b-ocr": "qwen2_5_vl",
    "qwen3-vl-8b": "qwen3_vl",
    "llama-3.2-11b-vision-radiology": "mllama",
    "pixtral-12b": "pixtral",
    "llava-next-mistral-7b": "llava_next",
    "gemma-3-4b-latex-ocr": "gemma3",
    "ministral-3-3b": "ministral3",
    "qwen2.5-vl-7b-gspo": "qwen2_5_vl",
}
"""Recipe to family."""
HERE = (
    "model.load_in=16bit",
    "train.backend=trl",
    "train.optimizer=adamw_torch",
    "train.logging_steps=1",
    "eval.limit=2",
    "eval.max_new_tokens=4",
)
"""What a machine without a GPU, and with no time, needs otherwise."""


@pytest.fixture(scope="module")
def store(scored_store: Scored, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of its own with 40 lines of text."""
    folder = tmp_path_factory.mktemp("recipes") / "store"
    shutil.copytree(scored_store.store, folder, ignore=shutil.ignore_patterns("runs"))
    return str(folder)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    return {family: make(family, folder / family) for family in sorted(set(RECIPES.values()))}


def in_this_process(folder: Path) -> None:
    """Do what is left of a run without starting Python again."""
    job._Job(folder, "").work()  # noqa: SLF001


def test_every_recipe_for_a_large_model_is_here() -> None:
    large = {path.stem for path in ROOT.glob("recipes/*.toml") if read_recipe(path).model.id != "builtin:reader"}
    assert large == set(RECIPES)
    assert set(RECIPES.values()) <= set(FAMILIES)


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/*.toml")), ids=lambda path: path.stem)
def test_a_recipe_fits_a_page_and_names_a_shipped_declaration(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    page = (ROOT / "recipes" / "README.md").read_text()
    assert f"[{path.stem}]({path.name})" in page
    for part in recipe.data.parts():
        assert (ROOT / "datasets" / f"{part.snapshot}.toml").is_file()
        assert f"datasets/{part.snapshot}.toml" in text


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.filterwarnings("ignore:.hidden_state. is deprecated:FutureWarning")  # transformers' own Llama 3.2 Vision
def test_recipe(name: str, store: str, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "start", in_this_process)
    file = ROOT / "recipes" / f"{name}.toml"
    given: dict[str, Any] = {"store": store, "swaps": ["example@1"]}
    changes = [*HERE, f"model.id={checkpoints[RECIPES[name]]}", *_two_steps(file)]
    plan = vlmrecipes.planned(file, overrides=changes, **given)
    assert plan["problems"] == []
    assert plan["tokens"]["supervised_p50"] > 0
    found = vlmrecipes.run_recipe(file, overrides=changes, **given)
    assert found["status"] == "complete"
    left = record.read(Path(found["record"]).parent)
    assert left["plan"]["fingerprint"] == plan["fingerprint"]
    assert (left["train"]["steps"], left["metrics"]["tuned"].keys()) == (2, set(read_recipe(file).eval.metrics))
    assert 0 < left["model"]["parameters"]["trainable"] < left["model"]["parameters"]["total"]


def test_llama_vision_by_rewards_is_refused(store: str, checkpoints: dict[str, Path]) -> None:
    file = ROOT / "recipes" / "llama-3.2-11b-vision-radiology.toml"
    asked = ("train.method=grpo", "train.epochs=1", 'grpo.rewards=[{ name = "cer" }]')
    changes = [*HERE, *asked, f"model.id={checkpoints['mllama']}"]
    (problem,) = vlmrecipes.planned(file, overrides=changes, store=store, swaps=["example@1"])["problems"]
    assert problem["key"] == "train.method"
    assert "'grpo' cannot train Llama 3.2 Vision" in problem["problem"]


def _two_steps(file: Path) -> list[str]:
    """Return the settings that make a run short; of 26 rows, eight a step, two steps are 0.4 epochs."""
    recipe = read_recipe(file)
    steps = "train.steps=2" if recipe.train.steps else "train.epochs=0.4"
    return [steps, *(["grpo.max_completion_length=8"] if recipe.grpo else [])]
