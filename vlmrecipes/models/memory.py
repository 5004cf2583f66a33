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
LARGE_VOCABULARY = 16_384
"""From here on a training makes logits for the learned tokens only, in pieces; below, all at once is faster."""
HEADROOM = 0.8
"""Share of the free memory that a micro-batch may take."""


def estimate(ref: ModelRef, model: Model, lora: Lora | None, train: Train | None, longest: int) -> int:
    """Return bytes for training with batches of rows of `longest` tokens; without `train`, for generating."""
    return sum(parts(ref, model, lora, train, longest).values())


def parts(ref: ModelRef, model: Model, lora: Lora | None, train: Train | None, longest: int) -> dict[str, int]:
    """Return what `estimate` adds up: bytes of `weights`, of what is `trained`, and of a `batch` while it is computed."""
    config = _config(ref, model)
    weights, adapters = _counts(config, lora)
    held = int(weights * WEIGHT_BYTES[model.load_in])
    if train is None:
        return {"weights": held}
    trained = adapters if lora else weights
    rows = 1 if train.batch_size == "auto" else train.batch_size
    tokens = max(rows * longest, train.batch_tokens or 0)
    batch = tokens * _token_bytes(config, train)
    if not train.sharded:
        return {"weights": held, "trained": trained * TRAINED_BYTES, "batch": batch}
    part = held // train.devices + _gathered(config, held)
    return {"weights": part, "trained": trained * TRAINED_BYTES // train.devices, "batch": batch}


def _gathered(config: Any, held: int) -> int:
    """Return what a device that holds a part of the weights puts together at once: words in and out, and two layers."""
    text = config.get_text_config()
    words = 2 * text.vocab_size * text.hidden_size * WEIGHT_BYTES["16bit"]
    return min(held, int(words + 2 * held / text.num_hidden_layers))


def training_tokens(model: Any, settings: Train) -> int:
    """Return how many tokens a micro-batch may hold that learns on the device of `model`, which is loaded already.

    On a GPU, most of the memory that is left over when gradients and moments of what is trained have theirs.
    """
    import torch

    if model.device.type != "cuda":
        return CPU_TOKENS
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    free, _ = torch.cuda.mem_get_info(model.device)
    spare = free * HEADROOM - trained * TRAINED_BYTES
    return max(1, int(spare / _token_bytes(model.config, settings)))


def _token_bytes(config: Any, train: Train) -> int:
    """Return what a token of a training batch takes: activations in both towers, and logits where all are made at once."""
    text = config.get_text_config()
    each = CHECKPOINT_BYTES if train.gradient_checkpointing else ACTIVATION_BYTES
    layers = each * (text.hidden_size * text.num_hidden_layers + PATCHES * _vision_width(config))
    logits = text.vocab_size * 4 * 2 if text.vocab_size < LARGE_VOCABULARY else 0
    return int(layers + logits)


def family(ref: ModelRef, model: Model) -> str:
    """Return the model's kind as transformers names it, such as `qwen2_5_vl`."""
    return str(_config(ref, model).model_type)


def _config(ref: ModelRef, model: Model) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(ref.path, trust_remote_code=model.trust_remote_code)


def available() -> int:
    """Return the bytes of the GPU's memory, or of the machine's when there is no GPU."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def forget_peak() -> None:
    """Count the most memory that this process takes on the GPU from here on."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak() -> dict[str, int] | None:
    """Return the most bytes of the GPU that this process had `allocated` for tensors, and `reserved`; None on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}


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
