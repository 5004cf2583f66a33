"""How much memory a run takes, estimated from the model's configuration; no weights are loaded.

Added up are the weights, what is held for those that are trained (gradients, the optimizer's moments, adapters), and what a
batch of the longest rows takes while it is computed. What is kept of a batch for its gradients is counted a token and layer,
as Korthikanti et al. do (Reducing Activation Recomputation in Large Transformer Models, 2022, §4.1), here for gated MLPs:
multiples of the layer's width and of its inner width. With checkpointing only the border of each layer is kept, and the
inside of the one layer that is computed again; Unsloth moves the borders to the machine's memory. Image tokens count in the
language model as any other, and four patches each in the vision tower. The constants are fitted to what trainings of
12 million to 8 billion weights took on an H200 (benchmarks/results/training-memory.json, -16bit.json and -4bit.json).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from vlmrecipes.models.catalog import ModelRef
from vlmrecipes.models.load import WHOLE, device, revision
from vlmrecipes.recipe import Lora, Model, Train

QUANTISED = {"4bit": 0.516, "8bit": 1.0}
"""Bytes of a weight: 4.127 bits with NF4 and double quantisation (Dettmers et al., QLoRA, 2023, §3), or LLM.int8's eight."""
MOMENTS = {"adamw_torch": 2.0, "adamw_torch_fused": 2.0, "adamw_8bit": 0.5, "sgd": 0.0, "adafactor": 0.0}
"""What an optimizer keeps for a trained weight, over the bytes of a 32-bit one."""
KEPT, KEPT_INNER = 12, 4
"""Numbers that a layer keeps of a token, over its width and its inner width."""
AT_WORK, SEEING = 1.8, 4.3
"""The same for a layer that is computed again, in the language model and in the vision tower: what it keeps, and the
gradients of that, over the sum of both widths."""
COPIED = 5.3
"""`AT_WORK` where peft's adapters have 32-bit copies of what goes into 16-bit weights."""
TOKEN = 43_000
"""Bytes of a token whatever the model's widths: its pixels, and positions computed in 32 bits."""
WORKSPACE = 45 << 20
"""Bytes that cuBLAS takes on a GPU for itself."""
PIECE, LOGIT = 256, 6
"""Learned tokens of which logits are made at once, and bytes of a logit with its gradient."""
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


@dataclass(frozen=True, slots=True)
class _Tower:
    """Sizes of a stack of layers."""

    width: int
    inner: int
    layers: int

    @property
    def borders(self) -> int:
        """Numbers between its layers, a token."""
        return self.width * self.layers

    @property
    def kept(self) -> int:
        """Numbers that all its layers keep, a token."""
        return (KEPT * self.width + KEPT_INNER * self.inner) * self.layers

    @property
    def both(self) -> int:
        """Width and inner width."""
        return self.width + self.inner


def estimate(ref: ModelRef, model: Model, lora: Lora | None, train: Train | None, longest: int) -> int:
    """Return bytes for training with batches of rows of `longest` tokens; without `train`, for generating."""
    return sum(parts(ref, model, lora, train, longest).values())


def parts(ref: ModelRef, model: Model, lora: Lora | None, train: Train | None, longest: int) -> dict[str, int]:
    """Return what `estimate` adds up: bytes of `weights`, of what is held to be `trained`, and of a `batch`."""
    config = _config(ref, model)
    skeleton = _skeleton(config)
    size = 4 if model.load_in == "full" or device() == "cpu" else 2
    held = _weights(skeleton, model.load_in, size)
    if train is None:
        return {"weights": held}
    rows = 1 if train.batch_size == "auto" else train.batch_size
    tokens = max(rows * longest, train.batch_tokens or 0)
    trained = _adapters(skeleton, lora) * _trained_bytes(train, 4) if lora else _whole(skeleton, train, size)
    a_token = _token_bytes(config, train, size, quantised=model.load_in in QUANTISED)
    batch = int(tokens * a_token) + _fixed(config, size)
    if not train.sharded:
        return {"weights": held, "trained": int(trained), "batch": batch}
    part = held // train.devices + _gathered(config, held)
    return {"weights": part, "trained": int(trained) // train.devices, "batch": batch}


def _gathered(config: Any, held: int) -> int:
    """Return what a device that holds a part of the weights puts together at once: words in and out, and two layers."""
    text = config.get_text_config()
    words = 2 * text.vocab_size * text.hidden_size * 2
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
    spare = free * HEADROOM - trained * _trained_bytes(settings, 4)
    size = model.dtype.itemsize
    a_token = _token_bytes(model.config, settings, size, quantised=getattr(model, "is_quantized", False))
    return max(1, int((spare - _fixed(model.config, size)) / a_token))


def _weights(skeleton: Any, load_in: str, size: int) -> int:
    """Return the bytes of the weights; tables are not quantised, nor what loading leaves whole."""
    import torch

    total = sum(weight.numel() for weight in skeleton.parameters())
    if load_in not in QUANTISED:
        return int(total * size)
    linear = [(name, one) for name, one in skeleton.named_modules() if isinstance(one, torch.nn.Linear)]
    quantised = sum(one.weight.numel() for name, one in linear if not name.startswith(WHOLE))
    return int(quantised * QUANTISED[load_in] + (total - quantised) * size)


def _trained_bytes(train: Train, size: int) -> float:
    """Return the bytes of an adapter's weight of `size` bytes with its gradient and moments."""
    return size * (2 + MOMENTS[train.optimizer])


def _whole(skeleton: Any, train: Train, size: int) -> float:
    """Return the bytes of gradients and moments of all weights, and of 16-bit copies where a GPU keeps them."""
    total = sum(weight.numel() for weight in skeleton.parameters())
    copied = size == 4 and device() != "cpu" and not train.gradient_checkpointing  # noqa: PLR2004 - of 32 bits
    return float(total * (_trained_bytes(train, size) - size + (2 if copied else 0)))


def _fixed(config: Any, size: int) -> int:
    """Return what a training batch takes however small it is: logits of a piece, and words out once more in 16 bits."""
    text, on_gpu = config.get_text_config(), device() != "cpu"
    if text.vocab_size < LARGE_VOCABULARY:
        return WORKSPACE * on_gpu
    words = text.vocab_size * text.hidden_size * 2 if size == 4 else 0  # noqa: PLR2004 - bytes
    return int(text.vocab_size * PIECE * LOGIT + (WORKSPACE + words) * on_gpu)


def _token_bytes(config: Any, train: Train, size: int, *, quantised: bool) -> int:
    """Return what a token of a training batch takes: activations in both towers, and logits where all are made at once.

    `size` is that of the numbers between layers of the language model; elsewhere, a GPU computes with 2 bytes and a CPU
    with 4. The vision tower computes its layers again when those of the language model are done and their numbers gone.
    """
    text, vision, inside = _text(config), _vision(config), 4 if device() == "cpu" else 2
    if not train.gradient_checkpointing:
        layers: float = inside * (text.kept + PATCHES * vision.kept)
    else:
        kept = 0 if train.backend == "unsloth" else 1
        copied = train.backend == "trl" and size == 2 and not quantised  # noqa: PLR2004 - of 16 bits
        reading = kept * size * text.borders + inside * (COPIED if copied else AT_WORK) * text.both
        layers = kept * inside * PATCHES * vision.borders + max(reading, inside * SEEING * PATCHES * vision.both)
    vocabulary = config.get_text_config().vocab_size
    return int(layers) + TOKEN + (vocabulary * 4 * 2 if vocabulary < LARGE_VOCABULARY else 0)


def _text(config: Any) -> _Tower:
    text = config.get_text_config()
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    return _Tower(text.hidden_size, inner, text.num_hidden_layers)


def _vision(config: Any) -> _Tower:
    vision = getattr(config, "vision_config", None)
    width = getattr(vision, "embed_dim", None) or getattr(vision, "hidden_size", None) or 0
    inner = getattr(vision, "intermediate_size", None) or 4 * width
    depth = getattr(vision, "depth", None) or getattr(vision, "num_hidden_layers", None) or 0
    return _Tower(width, inner, depth)


def family(ref: ModelRef, model: Model) -> str:
    """Return the model's kind as transformers names it, such as `qwen2_5_vl`."""
    return str(_config(ref, model).model_type)


def _config(ref: ModelRef, model: Model) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(ref.path, trust_remote_code=model.trust_remote_code, **revision(ref))


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


def _skeleton(config: Any) -> Any:
    """Return the model without any numbers in it."""
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def _adapters(skeleton: Any, lora: Lora) -> int:
    """Return the number of weights of adapters on every linear layer (an upper bound)."""
    import torch

    linear = [module for module in skeleton.modules() if isinstance(module, torch.nn.Linear)]
    return sum((layer.in_features + layer.out_features) * lora.r for layer in linear)
