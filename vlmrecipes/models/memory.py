"""How much memory a run takes, estimated from the model's configuration; no weights are loaded.

Weights, adapters with their gradients and AdamW's two moments, activations, and the logits of the longest batch. Activations
follow Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models (2022), §4.1: about 34 bytes a token,
layer and hidden unit at 16 bits, and 2 with checkpointing. Image tokens count in the language model as any other, and four
patches each in the vision tower.
"""

from __future__ import annotations

import os
from typing import Any

from vlmrecipes.models.catalog import ModelRef
from vlmrecipes.recipe import Lora, Model, Train

WEIGHT_BYTES = {"4bit": 0.56, "8bit": 1.06, "16bit": 2.0, "full": 4.0}
TRAINED_BYTES = 16
"""A trained weight in 32 bits, its gradient, two moments."""
ACTIVATION_BYTES, CHECKPOINT_BYTES = 34, 2
PATCHES = 4
CPU_TOKENS = 16_384
"""Tokens of a batch that is generated on a CPU: more rows no longer make it faster."""
GPU_TOKENS = 262_144
LAYER_VALUES = 16
"""Intermediate values a hidden unit in the one layer that computes while generating."""


def estimate(ref: ModelRef, model: Model, lora: Lora | None, train: Train | None, longest: int) -> int:
    """Return bytes for training with batches of rows of `longest` tokens; without `train`, for generating."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(ref.path, trust_remote_code=model.trust_remote_code)
    weights, adapters = _counts(config, lora)
    held = weights * WEIGHT_BYTES[model.load_in]
    if train is None:
        return int(held)
    trained = adapters if lora else weights
    text = config.get_text_config()
    tokens = train.batch_size * longest
    each = CHECKPOINT_BYTES if train.gradient_checkpointing else ACTIVATION_BYTES
    layers = tokens * each * (text.hidden_size * text.num_hidden_layers + PATCHES * _vision_width(config))
    logits = tokens * text.vocab_size * 4 * 2
    return int(held + trained * TRAINED_BYTES + layers + logits)


def available() -> int:
    """Return the bytes of the GPU's memory, or of the machine's when there is no GPU."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def generation_tokens(model: Any) -> int:
    """Return how many tokens, those to come included, a batch may hold that `model` generates on its device.

    On a GPU, half of the free memory over what a token takes: keys and values in every layer, and what one layer computes.
    """
    import torch

    if model.device.type != "cuda":
        return CPU_TOKENS
    text, vision = model.config.get_text_config(), getattr(model.config, "vision_config", None)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    cached = 2 * text.num_hidden_layers * heads * width
    layer = LAYER_VALUES * (text.hidden_size + PATCHES * int(getattr(vision, "hidden_size", 0)))
    computed = layer + 3 * int(getattr(text, "intermediate_size", 0))
    free, _ = torch.cuda.mem_get_info(model.device)
    return min(GPU_TOKENS, max(1, int(free / 2 / (model.dtype.itemsize * (cached + computed)))))


def _vision_width(config: Any) -> int:
    vision = getattr(config, "vision_config", None)
    depth = getattr(vision, "depth", None) or getattr(vision, "num_hidden_layers", None) or 0
    return int(depth) * int(getattr(vision, "hidden_size", 0))


def _counts(config: Any, lora: Lora | None) -> tuple[int, int]:
    """Return the number of weights of the model, and of adapters on every linear layer (an upper bound)."""
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    weights = sum(weight.numel() for weight in model.parameters())
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    adapters = sum((layer.in_features + layer.out_features) * lora.r for layer in linear) if lora else 0
    return weights, adapters
