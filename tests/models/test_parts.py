from __future__ import annotations

import re

import pytest

from vlmrecipes.errors import InputError
from vlmrecipes.models.parts import choose, compressed, part_of

QWEN = [
    "model",
    "model.visual",
    "model.visual.patch_embed.proj",
    *(f"model.visual.blocks.{n}.{name}" for n in range(2) for name in ("attn.qkv", "attn.proj", "mlp.gate_proj")),
    "model.visual.merger",
    "model.visual.merger.mlp",
    "model.visual.merger.mlp.0",
    "model.visual.merger.mlp.2",
    *(f"model.language_model.layers.{n}.{name}" for n in range(2) for name in ("self_attn.q_proj", "mlp.down_proj")),
    "lm_head",
]
CONTAINERS = {
    "model",
    "model.visual",
    "model.visual.patch_embed.proj",
    "model.visual.merger",
    "model.visual.merger.mlp",
}
MODULES = [(name, name not in CONTAINERS) for name in QWEN]
ALL = {"vision": True, "language": True, "attention": True, "mlp": True, "projector": "off"}


@pytest.mark.parametrize(
    ("off", "left"),
    [
        ({"vision"}, {"model.language_model.layers.*.self_attn.q_proj", "model.language_model.layers.*.mlp.down_proj"}),
        ({"language", "mlp"}, {"model.visual.blocks.*.attn.qkv", "model.visual.blocks.*.attn.proj"}),
        ({"language", "attention"}, {"model.visual.blocks.*.mlp.gate_proj"}),
    ],
)
def test_parts_are_switched_off(off: set[str], left: set[str]) -> None:
    found = choose(MODULES, **ALL | dict.fromkeys(off, False))
    assert set(compressed(found.adapted)) == left


def test_projector_by_adapter_and_in_full() -> None:
    lora, full = choose(MODULES, **ALL | {"projector": "lora"}), choose(MODULES, **ALL | {"projector": "full"})
    assert {"model.visual.merger.mlp.0", "model.visual.merger.mlp.2"} < set(lora.adapted)
    assert full.whole == ("model.visual.merger",)
    assert not any("merger" in name for name in full.adapted)


def test_heads_are_left_alone() -> None:
    assert not {"lm_head", "model.visual.patch_embed.proj"} & set(choose(MODULES, **ALL).adapted)


def test_the_pattern_matches_what_was_chosen_and_nothing_else() -> None:
    for switches in (ALL, ALL | {"vision": False}, ALL | {"projector": "lora", "mlp": False}):
        found = choose(MODULES, **switches)
        assert {name for name in QWEN if re.fullmatch(found.pattern, name)} == set(found.adapted)


def test_the_pattern_is_exact_where_layers_differ() -> None:
    modules = [(f"model.layers.{n}.mlp.up_proj", n != 1) for n in range(3)]
    found = choose(modules, **ALL)
    assert not re.fullmatch(found.pattern, "model.layers.1.mlp.up_proj")
    assert re.fullmatch(found.pattern, "model.layers.2.mlp.up_proj")


def test_nothing_to_adapt_is_an_error() -> None:
    with pytest.raises(InputError, match="no module of this model matches"):
        choose([("model.norm", False)], **ALL)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj", "vision"),
        ("vision_model.encoder.layers.0.mlp.fc1", "vision"),
        ("model.multi_modal_projector.linear_1", "projector"),
        ("model.connector.modality_projection.proj", "projector"),
        ("model.visual.deepstack_merger_list.0.linear_fc1", "projector"),
        ("model.text_model.layers.0.self_attn.q_proj", "language"),
        ("lm_head", None),
        ("model.language_model.embed_tokens", None),
    ],
)
def test_families_name_their_parts_alike(name: str, part: str | None) -> None:
    assert part_of(name) == part
