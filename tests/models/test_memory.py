"""What is estimated, beside what was measured on a GPU."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vlmrecipes.models import make_reader, memory
from vlmrecipes.models.catalog import ModelRef, resolve
from vlmrecipes.recipe import Lora, Model, Train

GIB = 2**30
TEXT = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
VISION = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, "out_hidden_size": 3584}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """Return a model of Qwen2.5-VL-7B's shape, without weights."""
    folder = tmp_path_factory.mktemp("7b")
    make_reader.write(folder)
    config = make_reader.config() | {"tie_word_embeddings": False}
    config["text_config"] |= TEXT
    config["vision_config"] |= VISION
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return resolve(str(folder), weights=False)


def train(**settings: Any) -> Train:
    given = {"steps": 1, "batch_size": 2, "optimizer": "adamw_8bit", "gradient_checkpointing": True} | settings
    return Train.model_validate(given)


@pytest.mark.parametrize(
    ("backend", "load_in", "measured"),
    [("unsloth", "16bit", 17.0), ("trl", "16bit", 19.0), ("unsloth", "4bit", 8.1), ("trl", "4bit", 8.6)],
)
def test_the_estimate_is_within_a_tenth_of_what_an_h200_took(
    large: ModelRef, backend: str, load_in: str, measured: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured with LoRA of rank 16 and two rows, of which the longest is a page of 840 x 1120 pixels with 600 letters."""
    monkeypatch.setattr(memory, "device", lambda: "cuda")
    if backend == "trl":  # that script quantised what sees too; we do not
        monkeypatch.setattr(memory, "WHOLE", ("lm_head",))
    model = Model.model_validate({"id": large.id, "load_in": load_in})
    found = memory.estimate(large, model, Lora(), train(backend=backend), 1825)
    assert found / GIB == pytest.approx(measured, rel=0.1)


def test_a_tower_that_loading_leaves_whole_is_counted_whole(large: ModelRef, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "device", lambda: "cuda")
    model = Model(id=large.id, load_in="4bit")
    ours = memory.parts(large, model, Lora(), train(backend="trl"), 100)["weights"]
    assert ours == memory.parts(large, model, Lora(), train(backend="unsloth"), 100)["weights"]
    monkeypatch.setattr(memory, "WHOLE", ("lm_head",))
    assert ours - memory.parts(large, model, Lora(), train(backend="trl"), 100)["weights"] > 0.6e9 * (2 - 0.516)


def test_all_weights_are_counted_once_with_gradients_and_moments() -> None:
    reader = resolve("builtin:reader", weights=False)
    model = Model(id="builtin:reader", load_in="full")
    weights = memory.parts(reader, model, None, None, 0)["weights"]
    found = memory.parts(reader, model, None, train(optimizer="adamw_torch"), 100)
    assert found["weights"] == weights == pytest.approx(4 * 11.9e6, rel=0.01)
    assert found["trained"] == 3 * weights
    assert memory.parts(reader, model, None, train(optimizer="sgd"), 100)["trained"] == weights


def test_what_is_kept_takes_more_than_what_is_computed_again(large: ModelRef) -> None:
    model = Model(id=large.id)
    again, kept = (
        memory.parts(large, model, Lora(), train(gradient_checkpointing=flag), 1000) for flag in (True, False)
    )
    assert kept["batch"] > 2 * again["batch"]
    assert kept["weights"] == again["weights"]
    assert memory.parts(large, model, Lora(), train(batch_size=4), 1000)["batch"] == 2 * again["batch"]
