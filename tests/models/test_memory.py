"""What is estimated, beside what was measured on a GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlmrecipes.models import make_reader, memory
from vlmrecipes.models.catalog import ModelRef, resolve
from vlmrecipes.recipe import Lora, Model, Train

GIB = 2**30
RESULTS = Path(__file__).parents[2] / "benchmarks/results"
MEASURED = [
    case for case in json.loads((RESULTS / "training-memory.json").read_text("utf-8"))["cases"] if "measured" in case
]
"""Peaks of trainings of random weights on an H200, as `python benchmarks/training.py memory` printed them."""


def peaks() -> list[tuple[str, str, float]]:
    """Return backend, bits and GiB of 7B as `python benchmarks/training.py 16bit` and `4bit` printed them.

    With LoRA of rank 16 and two rows at a time, of which the longest is a page of 840 x 1120 pixels with 600 letters.
    """
    told = {bits: json.loads((RESULTS / f"training-{bits}.json").read_text("utf-8")) for bits in ("16bit", "4bit")}
    by = {"unsloth": "hand", "trl": "trl"}
    return [
        (backend, bits, found["contenders"][name]["memory_gib"]["peak"])
        for bits, found in told.items()
        for backend, name in by.items()
    ]


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
TEXT_2B = TEXT | {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
VISION = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, "out_hidden_size": 3584}


def shaped(folder: Path, text: dict[str, Any], tied: bool) -> ModelRef:
    """Return a model of these sizes, without weights."""
    make_reader.write(folder)
    config = make_reader.config() | {"tie_word_embeddings": tied}
    config["text_config"] |= text
    config["vision_config"] |= VISION | {"out_hidden_size": text["hidden_size"]}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return resolve(str(folder), weights=False)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """Return a model of Qwen2.5-VL-7B's shape."""
    return shaped(tmp_path_factory.mktemp("7b"), TEXT, tied=False)


@pytest.fixture(scope="module")
def refs(large: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelRef]:
    """Return models of the shapes that were measured; `2b` is Qwen2-VL-2B's language model under Qwen2.5-VL's tower."""
    reader = resolve("builtin:reader", weights=False)
    return {"7b": large, "2b": shaped(tmp_path_factory.mktemp("2b"), TEXT_2B, tied=True), "12m": reader}


def train(**settings: Any) -> Train:
    given = {"steps": 1, "batch_size": 2, "optimizer": "adamw_8bit", "gradient_checkpointing": True} | settings
    return Train.model_validate(given)


@pytest.mark.parametrize("case", MEASURED, ids=lambda case: case["case"])
def test_the_estimate_is_within_a_tenth_of_what_an_h200_took(
    refs: dict[str, ModelRef], case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "device", lambda: "cuda")
    shape, bits, _, backend, *keep = case["case"].split()
    load_in, lora = bits.removesuffix("-whole"), None if bits.endswith("-whole") else Lora()
    model = Model.model_validate({"id": refs[shape].id, "load_in": load_in})
    optimizer = "adamw_8bit" if lora else "adamw_torch"
    settings = train(backend=backend, batch_size=case["rows"], gradient_checkpointing=not keep, optimizer=optimizer)
    found = memory.estimate(refs[shape], model, lora, settings, case["longest"])
    assert found == pytest.approx(case["measured"], rel=0.1)


@pytest.mark.parametrize(("backend", "load_in", "measured"), peaks())
def test_the_estimate_for_7b_is_within_a_tenth_of_what_an_h200_took(
    large: ModelRef, backend: str, load_in: str, measured: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "device", lambda: "cuda")
    model = Model.model_validate({"id": large.id, "load_in": load_in})
    found = memory.estimate(large, model, Lora(), train(backend=backend), 1825)
    assert found / GIB == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("part", ["one", "two"])
def test_the_estimate_holds_for_trainings_that_it_was_not_fitted_to(
    refs: dict[str, ModelRef], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 rows at a time on one H200 and on each of two, as `python benchmarks/devices.py` printed it; same rows as above."""
    monkeypatch.setattr(memory, "device", lambda: "cuda")
    found = json.loads((RESULTS / "devices-h200.json").read_text("utf-8"))["parts"][part]
    model = Model.model_validate({"id": refs["2b"].id, "load_in": "16bit"})
    settings = train(backend="trl", optimizer="adamw_torch", batch_size=8, devices=found["devices"])
    assert memory.estimate(refs["2b"], model, Lora(), settings, 1825) / GIB == pytest.approx(
        max(found["peak_gib"]), rel=0.1
    )


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
    more, most = (memory.parts(large, model, Lora(), train(batch_size=rows), 1000)["batch"] for rows in (4, 6))
    assert most - more == pytest.approx(more - again["batch"])
