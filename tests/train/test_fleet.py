"""Two processes on a CPU train as one: real processes, PyTorch's own launcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from training import STEADY, run

from vlmrecipes.train import fleet

SETTINGS = {
    "batch_size": "auto",
    "effective_batch": 4,
    "gradient_accumulation": 1,
    "batch_tokens": 60,
    "steps": 4,
}


def together(folder: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """Train in two processes."""
    folder.mkdir(exist_ok=True)
    command = [*fleet.command(2), "training", str(folder), json.dumps(SETTINGS | {"devices": 2} | more)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def logged(folder: Path) -> list[list[float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [[json.loads(line)[key] for key in ("step", "loss", "grad_norm")] for line in lines]


def learned(folder: Path) -> dict[str, Any]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "run"
    done = together(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_two_processes_learn_what_one_learns(tmp_path: Path, two: Path) -> None:
    result = run(tmp_path, lora=STEADY, **SETTINGS)
    assert result.samples_seen == 16
    assert logged(two) == [pytest.approx(entry, rel=2e-3) for entry in logged(tmp_path)]
    weights, expected = learned(two), learned(tmp_path)
    assert all((weights[name] - expected[name]).abs().max() < 1e-3 for name in expected)
    assert {path.name for path in two.iterdir()} == {path.name for path in tmp_path.iterdir()}


def test_killed_and_resumed_ends_with_the_same_weights(tmp_path: Path, two: Path) -> None:
    assert together(tmp_path, reads=4).returncode != 0
    assert not (tmp_path / "adapter").exists()
    checkpoint = tmp_path / "checkpoints" / "checkpoint-2"
    assert {path.name for path in checkpoint.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    done = together(tmp_path, resume=True)
    assert done.returncode == 0, done.stderr
    weights, whole = learned(tmp_path), learned(two)
    assert all(bool((weights[name] == whole[name]).all()) for name in whole)
    assert logged(tmp_path) == logged(two)


SHARDED = {"sharded": True, "batch_size": 2, "effective_batch": None, "batch_tokens": None}


def test_sharded_weights_learn_what_whole_ones_learn(tmp_path: Path, two: Path) -> None:
    done = together(tmp_path, **SHARDED)
    assert done.returncode == 0, done.stderr
    assert logged(tmp_path) == [pytest.approx(entry, rel=2e-3) for entry in logged(two)]
    weights, expected = learned(tmp_path), learned(two)
    assert weights.keys() == expected.keys()
    assert all((weights[name] - expected[name]).abs().max() < 1e-3 for name in expected)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in two.iterdir()}


def test_all_weights_sharded_killed_and_resumed_are_those_of_one_process(tmp_path: Path) -> None:
    more = SHARDED | {"whole": True, "gradient_checkpointing": True}
    assert together(tmp_path / "two", **more, reads=4).returncode != 0
    assert not (tmp_path / "two" / "model").exists()
    done = together(tmp_path / "two", **more, resume=True)
    assert done.returncode == 0, done.stderr
    run(tmp_path / "one", lora=None, **SETTINGS)
    assert logged(tmp_path / "two") == [pytest.approx(entry, rel=2e-3) for entry in logged(tmp_path / "one")]
    two, one = (whole(tmp_path / name / "model") for name in ("two", "one"))
    assert two.keys() == one.keys()
    assert all((two[name] - one[name]).abs().max() < 1e-3 for name in one)


def whole(folder: Path) -> dict[str, Any]:
    """Load a model as anyone would."""
    from transformers import AutoModelForImageTextToText

    return dict(AutoModelForImageTextToText.from_pretrained(folder).state_dict())
