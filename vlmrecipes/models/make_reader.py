"""Write the folder of `builtin:reader` without its weights: `python -m vlmrecipes.models.make_reader DIR`.

The reader is a Qwen2.5-VL of 11.9 million parameters over bytes: 7.0 M see, 4.9 M write.

    image  h x w pixels, patches of 14 x 14, 2 x 2 patches merged into one token of the language model
    vision 7 blocks of width 256, every one with full attention over its image
    text   4 layers of width 320, 5 heads, one token a byte of UTF-8

Attention heads are 64 wide in both towers, because fast attention kernels exist for that width.
The weights come from this project's own recipe, which starts from this folder with `init = "config"`.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

BYTES = 256
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""The names that Qwen's models use, so that their templates, collators and servers find them."""

TOKEN = 28
"""Side in pixels of the square that becomes one token of the language model: 2 x 2 patches of 14."""
MIN_TOKENS, MAX_TOKENS = 16, 128
"""Fewest and most tokens of an image, before rounding: the fewest is rounded up, and thin strips may pass the most.

`smart_resize` of transformers rounds both sides to multiples of 28 pixels, so alone it would squeeze a line of 41
pixels into 28, with two or three letters in a token. The lower limit enlarges such crops: a line of 32 x 320 becomes
56 x 364, two rows of 13 tokens and about 15 pixels a letter; a 60-letter line of 32 x 720 stays one row, 28 x 728. The
upper limit brings scans at 300 dpi to the same scale: a line of 84 x 1836 becomes 56 x 1456.
"""
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}
{{- message.content }}
{%- else %}
{%- for part in message.content %}
{%- if part.type == 'text' %}
{{- part.text }}
{%- elif part.type in ('image', 'image_url') %}
{{- '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif part.type == 'video' %}
{{- '<|vision_start|><|video_pad|><|vision_end|>' }}
{%- else %}
{{- raise_exception('a part is text, image or video, not ' + part.type) }}
{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def token_id(token: str) -> int:
    """Return the id of a special token; a byte's id is its value. Raises ValueError for other text."""
    return BYTES + SPECIAL_TOKENS.index(token)


def byte_alphabet() -> dict[str, int]:
    """Return the printable stand-in of every byte, as GPT-2 wrote them, with the byte's value as id.

    Printable Latin-1 characters stand for themselves; the other 68 bytes take the characters from U+0100 on.
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(BYTES) if byte not in printable]
    letters = {byte: chr(BYTES + place) for place, byte in enumerate(others)} | {byte: chr(byte) for byte in printable}
    return {letters[byte]: byte for byte in range(BYTES)}


def tokenizer() -> dict[str, Any]:
    """Return `tokenizer.json`: byte-level BPE without a merge and without normalisation, so every string comes back."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": token_id(token), "content": token, **flags} for token in SPECIAL_TOKENS]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": byte_alphabet() | {token: token_id(token) for token in SPECIAL_TOKENS},
            "merges": [],
        },
    }


def tokenizer_config() -> dict[str, Any]:
    """Return `tokenizer_config.json`. The class is the plain one: Qwen's own would normalise text to NFC."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "Qwen2_5_VLProcessor",
        "model_max_length": 4096,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
    }


def preprocessor_config() -> dict[str, Any]:
    """Return `preprocessor_config.json`, which serves images and videos."""
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "size": {"shortest_edge": MIN_TOKENS * TOKEN**2, "longest_edge": MAX_TOKENS * TOKEN**2},
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    }


def vision_config() -> dict[str, Any]:
    """Return the vision tower of `config.json`."""
    depth = 7
    return {
        "model_type": "qwen2_5_vl_vision",
        "depth": depth,
        "hidden_size": 256,
        "num_heads": 4,
        "intermediate_size": 640,
        "out_hidden_size": 320,
        "hidden_act": "silu",
        "in_channels": 3,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": list(range(depth)),
        "tokens_per_second": 4,
        "initializer_range": 0.02,
    }


def text_config() -> dict[str, Any]:
    """Return the language model of `config.json`. `mrope_section` sums to half a head: time, height, width."""
    return {
        "model_type": "qwen2_5_vl_text",
        "vocab_size": BYTES + len(SPECIAL_TOKENS),
        "hidden_size": 320,
        "num_hidden_layers": 4,
        "num_attention_heads": 5,
        "num_key_value_heads": 5,
        "intermediate_size": 832,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]},
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.02,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "use_cache": True,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": token_id("<|im_end|>"),
        "pad_token_id": token_id("<|endoftext|>"),
    }


def config() -> dict[str, Any]:
    """Return `config.json`."""
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "dtype": "bfloat16",
        "tie_word_embeddings": True,
        "image_token_id": token_id("<|image_pad|>"),
        "video_token_id": token_id("<|video_pad|>"),
        "vision_start_token_id": token_id("<|vision_start|>"),
        "vision_end_token_id": token_id("<|vision_end|>"),
        "vision_config": vision_config(),
        "text_config": text_config(),
    }


def generation_config() -> dict[str, Any]:
    """Return `generation_config.json`: greedy until the end of the turn."""
    return {
        "do_sample": False,
        "eos_token_id": [token_id("<|im_end|>"), token_id("<|endoftext|>")],
        "pad_token_id": token_id("<|endoftext|>"),
    }


def files() -> dict[str, str]:
    """Return the text of every file of the folder by name."""
    tables = {
        "config.json": config(),
        "generation_config.json": generation_config(),
        "preprocessor_config.json": preprocessor_config(),
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": tokenizer_config(),
    }
    texts = {name: json.dumps(table, indent=1, ensure_ascii=False) + "\n" for name, table in tables.items()}
    return texts | {"chat_template.jinja": CHAT_TEMPLATE}


def write(folder: Path) -> None:
    """Write the files into `folder`, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def adopt(run: Path, folder: Path) -> None:
    """Put the weights of a finished run of `recipes/reader.toml` into `folder`, in bfloat16, with the run's record."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(run / "model" / "model.safetensors")
    halves = {name: weight.to(torch.bfloat16).contiguous() for name, weight in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "training").mkdir(exist_ok=True)
    shutil.copy(run / "record.json", folder / "training" / "record.json")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    if len(sys.argv) > 2:  # noqa: PLR2004 - the run is the second argument
        adopt(Path(sys.argv[2]), Path(sys.argv[1]))
