"""A tiny model of every family that people tune, with random weights: made here, saved as a folder, loaded like any other.

Sizes are small, shapes are the family's own: its towers, projector, processor, special tokens and kind of chat template.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

HIDDEN, HEADS, LAYERS, WIDE = 64, 4, 2, 96
PATCH = 14

CHATML = """{%- for message in messages -%}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{%- if part.type == 'text' %}{{ part.text }}{% else %}IMAGE{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LLAMA = """{{- '<|begin_of_text|>' }}{%- for message in messages -%}
<|start_header_id|>{{ message.role }}<|end_header_id|>

{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{%- if part.type == 'text' %}{{ part.text }}{% else %}IMAGE{% endif %}{% endfor %}{% endif %}<|eot_id|>
{%- endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""
MISTRAL = """{{- '<s>' }}{%- for message in messages -%}{%- if message.role == 'user' %}[INST]
{%- for part in message.content -%}{%- if part.type == 'text' %}{{ part.text }}{% else %}IMAGE{% endif %}{% endfor -%}
[/INST]{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}</s>{% endif %}{% endfor %}"""
GEMMA = """{{- '<bos>' }}{%- for message in messages -%}<start_of_turn>
{{- 'model' if message.role == 'assistant' else message.role }}
{% for part in message.content -%}
{%- if part.type == 'text' %}{{ part.text }}{% else %}IMAGE{% endif %}{% endfor %}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""
VICUNA = """{%- for message in messages -%}{{ message.role.upper() }}: {% for part in message.content -%}
{%- if part.type == 'text' %}{{ part.text }}{% else %}IMAGE
{% endif %}{% endfor %}{{ '</s>' if message.role == 'assistant' else ' ' }}{%- endfor %}
{%- if add_generation_prompt %}ASSISTANT: {% endif %}"""


def make(family: str, folder: Path, seed: int = 0) -> Path:
    """Write the tiny model of `family` into `folder`, which is made, and return it."""
    import torch
    from transformers import AutoModelForImageTextToText

    processor, config = FAMILIES[family]()
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    for name, weight in model.named_parameters():
        if name.endswith("gate"):  # closed at first in Llama 3.2 Vision: no picture would come through
            weight.data.fill_(0.5)
        if name.endswith("mm_input_projection_weight"):  # zeros at first in Gemma 3
            weight.data.normal_(std=0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _tokenizer(*special: str, pad: str, eos: str, bos: str | None = None, **names: str) -> Any:
    """Return a tokenizer of single bytes, and of the `special` tokens, which come behind them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({char: place for place, char in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    every = dict.fromkeys((pad, eos, *([bos] if bos else []), *special))
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in every])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=pad, eos_token=eos, bos_token=bos, extra_special_tokens=names or None
    )


def _text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer) + 8,
        "hidden_size": HIDDEN,
        "intermediate_size": WIDE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "tie_word_embeddings": False,
    } | more


def _vision(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": HIDDEN,
        "intermediate_size": WIDE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
    } | more


def _qwen(kind: str) -> tuple[Any, Any]:
    import transformers

    prefix = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[kind]
    patch = 16 if kind == "qwen3_vl" else PATCH
    marks = ("<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = _tokenizer(*marks, pad="<|endoftext|>", eos="<|im_end|>")
    images = transformers.Qwen2VLImageProcessor(
        patch_size=patch,
        merge_size=2,
        size={"shortest_edge": 4 * patch * patch, "longest_edge": 64 * 4 * patch * patch},
    )
    videos = transformers.Qwen3VLVideoProcessor if kind == "qwen3_vl" else transformers.Qwen2VLVideoProcessor
    processor = getattr(transformers, f"{prefix}Processor")(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=videos(patch_size=patch),
        chat_template=CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    text = _text(tokenizer, rope_parameters=rope)
    vision: dict[str, Any] = {
        "qwen2_vl": {"embed_dim": HIDDEN, "hidden_size": HIDDEN, "depth": LAYERS, "num_heads": HEADS, "mlp_ratio": 2},
        "qwen2_5_vl": _vision(depth=LAYERS, num_heads=HEADS, out_hidden_size=HIDDEN, fullatt_block_indexes=[1]),
        "qwen3_vl": _vision(
            depth=LAYERS,
            num_heads=HEADS,
            out_hidden_size=HIDDEN,
            num_position_embeddings=64,
            deepstack_visual_indexes=[0],
        ),
    }[kind]
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in _QWEN_IDS.items()}
    return processor, getattr(transformers, f"{prefix}Config")(
        text_config=text, vision_config=vision | {"patch_size": patch, "spatial_merge_size": 2}, **ids
    )


_QWEN_IDS = {
    "image_token_id": "image_pad",
    "video_token_id": "video_pad",
    "vision_start_token_id": "vision_start",
    "vision_end_token_id": "vision_end",
}


def _mllama() -> tuple[Any, Any]:
    from transformers import MllamaConfig, MllamaImageProcessor, MllamaProcessor

    marks = ("<|start_header_id|>", "<|end_header_id|>", "<|image|>", "<|python_tag|>")
    tokenizer = _tokenizer(*marks, pad="<|finetune_right_pad_id|>", eos="<|eot_id|>", bos="<|begin_of_text|>")
    processor = MllamaProcessor(
        image_processor=MllamaImageProcessor(size={"height": 56, "width": 56}, max_image_tiles=4),
        tokenizer=tokenizer,
        chat_template=LLAMA.replace("IMAGE", "<|image|>"),
    )
    vision = {
        "hidden_size": HIDDEN,
        "intermediate_size": WIDE,
        "num_hidden_layers": LAYERS,
        "num_global_layers": 1,
        "attention_heads": HEADS,
        "image_size": 56,
        "patch_size": PATCH,
        "max_num_tiles": 4,
        "intermediate_layers_indices": [0],
        "vision_output_dim": 2 * HIDDEN,
        "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
    }
    image = tokenizer.convert_tokens_to_ids("<|image|>")
    text = _text(tokenizer, num_hidden_layers=3, cross_attention_layers=[1])
    text["vocab_size"] = image  # as in the real ones, the image token has an embedding and no logit
    return processor, MllamaConfig(vision_config=vision, text_config=text, image_token_index=image)


def _mistral(kind: str) -> tuple[Any, Any]:
    """Pixtral is LLaVA with Pixtral's tower on Mistral; Ministral 3 is Mistral 3's frame on its own language model."""
    from transformers import LlavaConfig, Mistral3Config, PixtralImageProcessor, PixtralProcessor

    marks = ("[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]")
    tokenizer = _tokenizer(*marks, pad="<pad>", eos="</s>", bos="<s>")
    merge = 1 if kind == "pixtral" else 2
    processor = PixtralProcessor(
        image_processor=PixtralImageProcessor(size={"longest_edge": 112}, patch_size=PATCH * merge),
        tokenizer=tokenizer,
        patch_size=PATCH,
        spatial_merge_size=merge,
        chat_template=MISTRAL.replace("IMAGE", "[IMG]"),
    )
    vision = _vision(model_type="pixtral", image_size=112, patch_size=PATCH, head_dim=HIDDEN // HEADS)
    text = _text(tokenizer, head_dim=HIDDEN // HEADS)
    image = tokenizer.convert_tokens_to_ids("[IMG]")
    if kind == "pixtral":
        return processor, LlavaConfig(
            vision_config=vision,
            text_config=text | {"model_type": "mistral"},
            image_token_index=image,
            vision_feature_select_strategy="full",
            vision_feature_layer=-1,
        )
    return processor, Mistral3Config(
        vision_config=vision,
        text_config=text | {"model_type": "ministral3"},
        image_token_index=image,
        spatial_merge_size=merge,
    )


def _llava(kind: str) -> tuple[Any, Any]:
    import transformers

    prefix = {"llava": "Llava", "llava_next": "LlavaNext"}[kind]
    tokenizer = _tokenizer("<image>", pad="<pad>", eos="</s>", bos="<s>")
    size = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    images = (
        transformers.CLIPImageProcessor(**size)
        if kind == "llava"
        else transformers.LlavaNextImageProcessor(**size, image_grid_pinpoints=[[56, 112], [112, 56], [112, 112]])
    )
    processor = getattr(transformers, f"{prefix}Processor")(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=VICUNA.replace("IMAGE", "<image>"),
    )
    vision = _vision(model_type="clip_vision_model", image_size=56, patch_size=PATCH, projection_dim=HIDDEN)
    more = {"image_grid_pinpoints": [[56, 112], [112, 56], [112, 112]]} if kind == "llava_next" else {}
    return processor, getattr(transformers, f"{prefix}Config")(
        vision_config=vision,
        text_config=_text(tokenizer, model_type="llama"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        **more,
    )


def _gemma() -> tuple[Any, Any]:
    from transformers import Gemma3Config, Gemma3ImageProcessor, Gemma3Processor

    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = _tokenizer(
        "<start_of_turn>", "<end_of_turn>", *names.values(), pad="<pad>", eos="<eos>", bos="<bos>", **names
    )
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=GEMMA.replace("IMAGE", "<start_of_image>"),
    )
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    return processor, Gemma3Config(
        text_config=_text(
            tokenizer, head_dim=16, sliding_window=64, layer_types=["sliding_attention", "full_attention"]
        ),
        vision_config=_vision(image_size=56, patch_size=PATCH),
        mm_tokens_per_image=4,
        boi_token_index=ids["boi_token"],
        eoi_token_index=ids["eoi_token"],
        image_token_index=ids["image_token"],
    )


def _idefics(kind: str) -> tuple[Any, Any]:
    import transformers

    prefix = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}[kind]
    grid = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
    marks = ("<image>", "<fake_token_around_image>", "<global-img>", *grid)
    tokenizer = _tokenizer(*marks, pad="<|endoftext|>", eos="<end_of_utterance>", bos="<|im_start|>")
    images = getattr(transformers, f"{prefix}ImageProcessor")(
        size={"longest_edge": 112}, max_image_size={"longest_edge": 56}
    )
    videos = {"video_processor": transformers.SmolVLMVideoProcessor()} if kind == "smolvlm" else {}
    processor = getattr(transformers, f"{prefix}Processor")(
        image_processor=images,
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=CHATML.replace("IMAGE", "<image>").replace("<|im_end|>", "<end_of_utterance>"),
        **videos,
    )
    return processor, getattr(transformers, f"{prefix}Config")(
        vision_config=_vision(image_size=56, patch_size=PATCH),
        text_config=_text(tokenizer, model_type="llama"),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=2,
    )


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2_vl": lambda: _qwen("qwen2_vl"),
    "qwen2_5_vl": lambda: _qwen("qwen2_5_vl"),
    "qwen3_vl": lambda: _qwen("qwen3_vl"),
    "mllama": _mllama,
    "pixtral": lambda: _mistral("pixtral"),
    "llava": lambda: _llava("llava"),
    "llava_next": lambda: _llava("llava_next"),
    "gemma3": _gemma,
    "ministral3": lambda: _mistral("ministral3"),
    "idefics3": lambda: _idefics("idefics3"),
    "smolvlm": lambda: _idefics("smolvlm"),
}
"""The families, by the names that transformers gives their configurations."""
