from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image

from vlmrecipes.models import attention
from vlmrecipes.models.catalog import ModelRef
from vlmrecipes.models.load import load_model

ONE = ((320, 32),)
EQUAL = ((320, 32), (320, 32), (320, 32))
MIXED = ((320, 32), (90, 40), (600, 41), (320, 32), (64, 64), (90, 40))


def packed(lengths: tuple[int, ...], seed: int = 0) -> tuple[list[Any], Any]:
    torch.manual_seed(seed)
    rows = [torch.randn(1, 2, sum(lengths), 8, requires_grad=True) for _ in range(3)]
    return rows, torch.tensor([0, *lengths]).cumsum(0).int()


def loop(rows: list[Any], bounds: Any) -> Any:
    cut = [row.tensor_split(bounds[1:-1].long(), dim=2) for row in rows]
    done = [torch.nn.functional.scaled_dot_product_attention(*part) for part in zip(*cut, strict=True)]
    return torch.cat(done, dim=2).transpose(1, 2)


@pytest.mark.parametrize("lengths", [(5,), (4, 4, 4), (3, 7, 3, 1, 7, 2), (1, 1, 2)])
def test_same_as_one_call_a_segment(lengths: tuple[int, ...]) -> None:
    rows, bounds = packed(lengths)
    expected = loop(rows, bounds)
    found, weights = attention.attend(None, *rows, cu_seq_lens_q=bounds, max_length_q=max(lengths))
    assert weights is None
    assert torch.allclose(found, expected, atol=1e-6)
    signal = torch.randn_like(expected)
    for one, two in zip(*(torch.autograd.grad(out, rows, signal) for out in (found, expected)), strict=True):
        assert torch.allclose(one, two, atol=1e-6)


def test_a_layout_made_in_generation_serves_training() -> None:
    rows, bounds = packed((11, 6, 11))
    with torch.inference_mode():
        attention.attend(None, *rows, cu_seq_lens_q=bounds.clone(), max_length_q=11)
    found, _ = attention.attend(None, *rows, cu_seq_lens_q=bounds, max_length_q=11)
    found.sum().backward()
    assert rows[0].grad is not None


def test_bounds_changed_in_place_are_seen() -> None:
    rows, bounds = packed((6, 2))
    attention.attend(None, *rows, cu_seq_lens_q=bounds, max_length_q=6)
    bounds[1] = 3
    found, _ = attention.attend(None, *rows, cu_seq_lens_q=bounds, max_length_q=5)
    assert torch.allclose(found, loop(rows, bounds), atol=1e-6)


@pytest.fixture(scope="module")
def sdpa(reader: ModelRef) -> Any:
    return load_model(reader, init="config", seed=1, attention="sdpa")


def chosen(config: Any) -> str:
    return config._attn_implementation  # noqa: SLF001


def test_only_the_vision_tower_is_switched(model: Any, sdpa: Any) -> None:
    assert chosen(model.config.vision_config) == chosen(model.model.visual.config) == attention.NAME
    assert chosen(model.config.text_config) == chosen(model.config) == "sdpa"
    assert chosen(sdpa.config.vision_config) == "sdpa"


def test_other_models_are_left_alone() -> None:
    assert not attention.use_varlen(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("sizes", [ONE, EQUAL, MIXED])
def test_model_gives_the_loops_loss_and_gradients(
    processor: Any, model: Any, sdpa: Any, sizes: tuple[tuple[int, int], ...]
) -> None:
    batch = processor(
        text=["<|vision_start|><|image_pad|><|vision_end|>Read."] * len(sizes),
        images=[Image.effect_noise(size, 60).convert("RGB") for size in sizes],
        padding=True,
        return_tensors="pt",
    )
    found, expected = (loss_and_gradients(each, batch) for each in (model, sdpa))
    assert abs(found[0] - expected[0]) < 1e-5
    for one, two in zip(found[1], expected[1], strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def loss_and_gradients(model: Any, batch: Any) -> tuple[float, Any]:
    loss = model(**batch, labels=batch["input_ids"]).loss
    return loss.item(), torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])


def towers() -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield small vision towers of every family that is switched."""
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen25
    from transformers.models.qwen2_vl import modeling_qwen2_vl as qwen2
    from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen3

    shape = {"depth": 2, "hidden_size": 32, "num_heads": 2, "patch_size": 2, "hidden_act": "silu"}
    wide = shape | {"intermediate_size": 48, "out_hidden_size": 24}
    windows = {"window_size": 8, "fullatt_block_indexes": [1]}
    deep = {"deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    yield qwen2.Qwen2VisionTransformerPretrainedModel, shape | {"embed_dim": 32, "hidden_size": 24, "mlp_ratio": 2}
    yield qwen25.Qwen2_5_VisionTransformerPretrainedModel, wide | windows
    yield qwen3.Qwen3VLVisionModel, wide | deep


@pytest.mark.parametrize("family", [0, 1, 2])
def test_every_family_and_windows(family: int) -> None:
    kind, shape = list(towers())[family]
    grids = torch.tensor([[1, 4, 12], [1, 8, 6], [1, 4, 12], [2, 2, 2]])
    torch.manual_seed(0)
    patches = torch.randn(int(grids.prod(1).sum()), 3 * 2 * 2 * 2)
    tower = kind(kind.config_class(**shape, attn_implementation="sdpa")).eval()
    expected = tower(patches, grid_thw=grids).pooler_output
    assert attention.use_varlen(tower)
    assert torch.allclose(tower(patches, grid_thw=grids).pooler_output, expected, atol=1e-6)
