"""What can be seen of the Unsloth backend without a GPU: it says what is missing, before anything is loaded."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from vlmrecipes.errors import RunError
from vlmrecipes.plan import checks
from vlmrecipes.recipe import Recipe
from vlmrecipes.train.backend import backend

ABSENT = importlib.util.find_spec("unsloth") is None
BEGIN = "from pathlib import Path; from vlmrecipes.train.backend import backend; backend('unsloth').begin(Path('run'))"


def recipe(**model: str) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "x",
            "version": "1.0.0",
            "data": {"train": "x"},
            "model": {"id": "builtin:reader"} | model,
            "train": {"backend": "unsloth", "steps": 1},
            "eval": {"metrics": ["cer"]},
        }
    )


def test_it_refuses_a_process_that_has_loaded_what_it_changes(tmp_path: Path) -> None:
    import transformers

    assert transformers.__name__ in sys.modules
    with pytest.raises(RunError, match=r"must be imported before transformers.*process of its own"):
        backend("unsloth").begin(tmp_path)


@pytest.mark.skipif(not ABSENT, reason="unsloth is installed")
def test_a_missing_unsloth_is_named_with_its_install_command() -> None:
    done = subprocess.run([sys.executable, "-c", BEGIN], check=False, capture_output=True, text=True, cwd=Path.cwd())
    assert "MissingExtraError: unsloth is needed to train with backend = 'unsloth'" in done.stderr
    assert "pip install 'vlmrecipes[unsloth]'" in done.stderr


def test_the_plan_of_a_machine_without_a_gpu_says_so() -> None:
    found = dict(checks.training(recipe()))
    assert "needs a CUDA GPU" in found["train.backend"]


def test_random_weights_are_not_for_unsloth() -> None:
    found = dict(checks.training(recipe(init="config")))
    assert found["model.init"] == "'unsloth' starts from weights: use backend = 'trl' with init = 'config'"
