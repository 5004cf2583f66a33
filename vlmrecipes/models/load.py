"""Processors and models by way of transformers' Auto classes: the same path for every model."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vlmrecipes import extras
from vlmrecipes.errors import InputError, MissingExtraError, RunError
from vlmrecipes.models import attention as attentions
from vlmrecipes.models import geometry

if TYPE_CHECKING:
    from vlmrecipes.models.catalog import ModelRef

Init = Literal["weights", "config"]
LoadIn = Literal["4bit", "8bit", "16bit", "full"]
WHOLE = (
    "lm_head",
    *("visual", "vision_tower", "multi_modal_projector", "connector.modality_projection"),
    *("model.visual", "model.vision_tower", "model.multi_modal_projector", "model.connector.modality_projection"),
)
"""Beginnings of the names of modules that are not quantised: those that Unsloth leaves whole (SKIP_QUANTIZATION_MODULES), so
that what it trains is what is scored and exported. Llama 3.2's and SmolVLM's vision towers are quantised by both."""


def device() -> str:
    """Return `cuda` where there is one, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_processor(ref: ModelRef, *, trust_remote_code: bool = False) -> Any:
    """Return the model's processor: tokenizer, chat template and image processor in one.

    Raises MissingExtraError where it needs a package that is not installed; the message names it.
    """
    from transformers import AutoProcessor

    _quiet()
    try:
        return AutoProcessor.from_pretrained(ref.path, trust_remote_code=trust_remote_code, **revision(ref))
    except ImportError as error:
        raise MissingExtraError(f"{ref.id}: {' '.join(str(error).split())}") from None


def load_model(  # noqa: PLR0913
    ref: ModelRef,
    *,
    init: Init = "weights",
    load_in: LoadIn = "16bit",
    device: str = "cpu",
    seed: int = 0,
    attention: str | None = None,
    stored: bool = False,
    trust_remote_code: bool = False,
    stay: bool = False,
) -> Any:
    """Return the model on `device`, in evaluation mode; with `stay`, on the CPU as it would be there.

    With `init="config"` the weights are random, the same for the same `seed`. `attention` names one of transformers'
    implementations; without it, `sdpa`, and all images of a batch in one call in vision towers that allow it. `stored`
    keeps weights in the precision of their files.
    Raises InputError for a precision that the device or the start does not allow, and MissingExtraError where
    bitsandbytes is needed and not installed.
    """
    from safetensors import SafetensorError

    _check(load_in, init, device)
    _quiet()
    options = {
        "dtype": "auto" if stored and init == "weights" else dtype(load_in, device),
        "attn_implementation": attention or "sdpa",
        "trust_remote_code": trust_remote_code,
    }
    try:
        model = _random(ref, seed, options) if init == "config" else _pretrained(ref, load_in, device, options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise RunError(f"{ref.id}: its weights cannot be loaded: {str(error).splitlines()[0]}") from error
    if load_in not in ("4bit", "8bit") and not stay:
        model = model.to(device)
    if attention is None:
        attentions.use_varlen(model)
    geometry.quicken(model)
    return model.eval()


def load_adapter(model: Any, folder: Path) -> Any:
    """Return `model` with the adapter in `folder` on it, in evaluation mode. Raises InputError when the two do not fit."""
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(folder)).eval()
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError.one(f"{folder}: this adapter does not fit {type(model).__name__}: {reason}") from None


def unapplied(model: Any, folder: Path) -> dict[str, list[str]]:
    """Return names of weights of the adapter in `folder`, which `model` has been given, that had no effect.

    `unused` are in its file and nowhere in the model: peft passes them over in silence. `absent` are in the model and not
    in the file, and so have the values that an untrained adapter starts with.
    """
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        given = set(file.keys())
    there = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    return {"unused": sorted(given - there - model.state_dict().keys()), "absent": sorted(there - given)}


def dtype(load_in: LoadIn, device: str) -> Any:
    """Return the torch dtype of the weights that are not quantised: 16 bits on a GPU unless `full`, 32 elsewhere."""
    import torch

    if load_in == "full" or not device.startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _check(load_in: LoadIn, init: Init, device: str) -> None:
    if load_in not in ("4bit", "8bit"):
        return
    if not device.startswith("cuda"):
        raise InputError.one(f"{load_in} weights need a CUDA GPU; use `16bit` on a CPU", key="model.load_in")
    if init == "config":
        raise InputError.one(f"random weights cannot start in {load_in}; use `16bit` or `full`", key="model.load_in")
    extras.need("bitsandbytes", f"load a model in {load_in}")


def _pretrained(ref: ModelRef, load_in: LoadIn, device: str, options: dict[str, Any]) -> Any:
    from transformers import AutoModelForImageTextToText

    if load_in in ("4bit", "8bit"):
        options = options | {"quantization_config": _quantised(load_in, options["dtype"]), "device_map": device}
    return AutoModelForImageTextToText.from_pretrained(ref.path, use_safetensors=True, **options, **revision(ref))


def _quantised(load_in: LoadIn, compute: Any) -> Any:
    """Return QLoRA's settings for 4 bits (NF4, double quantisation), LLM.int8's for 8; modules in WHOLE stay as they are."""
    from transformers import BitsAndBytesConfig

    kept = list(WHOLE)
    if load_in == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        llm_int8_skip_modules=kept,
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def _random(ref: ModelRef, seed: int, options: dict[str, Any]) -> Any:
    """Make the model on the CPU, so that a seed means the same weights on every device."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

    trust = options["trust_remote_code"]
    config = AutoConfig.from_pretrained(ref.path, trust_remote_code=trust, **revision(ref))
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config, **options)
    with suppress(OSError):  # the file is optional
        model.generation_config = GenerationConfig.from_pretrained(ref.path, **revision(ref))
    return model


def revision(ref: ModelRef) -> dict[str, str]:
    """Return the revision as an argument, for an id that is still to be downloaded."""
    return {"revision": ref.revision} if ref.revision and ref.path == ref.id else {}


def _quiet() -> None:
    """Keep transformers to errors: what it warns of here is decided by the recipe."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
