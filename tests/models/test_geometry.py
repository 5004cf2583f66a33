"""Positions worked out at once equal transformers' own, image by image and row by row."""

from __future__ import annotations

import random

import pytest
import torch
from PIL import Image

from vlmrecipes.models.catalog import resolve
from vlmrecipes.models.load import load_model, load_processor

READER = "builtin:reader"


def batch(rows: list[list[tuple[int, int]]], side: str) -> dict[str, torch.Tensor]:
    processor = load_processor(resolve(READER, weights=False))
    messages = [
        [{"role": "user", "content": [*({"type": "image"} for _ in sizes), {"type": "text", "text": "x" * n}]}]
        for n, sizes in enumerate(rows, 3)
    ]
    return processor(
        text=[processor.apply_chat_template(one, add_generation_prompt=True) for one in messages],
        images=[Image.effect_noise(size, 60).convert("RGB") for sizes in rows for size in sizes],
        padding=True,
        padding_side=side,
        return_tensors="pt",
    )


def sizes(seed: int) -> list[list[tuple[int, int]]]:
    draw = random.Random(seed)
    return [[(draw.randint(20, 600), draw.randint(12, 90)) for _ in range(count)] for count in (1, 2, 0, 3)]


@pytest.mark.parametrize("side", ["left", "right"])
def test_token_positions_are_those_of_transformers(side: str) -> None:
    model = load_model(resolve(READER, weights=False), init="config", load_in="full").model
    inputs = batch(sizes(1), side)
    known = {key: inputs[key] for key in ("input_ids", "mm_token_type_ids", "image_grid_thw", "attention_mask")}
    ours = model.get_rope_index(**known)
    theirs = type(model).get_rope_index(model, **known)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1].reshape(-1), theirs[1].reshape(-1))


def test_outputs_are_those_of_transformers() -> None:
    model = load_model(resolve(READER, weights=False), init="config", load_in="full", attention="sdpa")
    inputs = batch(sizes(2), "right")
    with torch.no_grad():
        quick = model(**inputs).logits
        model.model.visual._forward_pre_hooks.clear()  # noqa: SLF001
        model.model.visual._forward_pre_hooks_with_kwargs.clear()  # noqa: SLF001
        del model.model.get_rope_index
        slow = model(**inputs).logits
    assert torch.equal(quick, slow)
