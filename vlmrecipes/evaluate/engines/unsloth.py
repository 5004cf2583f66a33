"""A model loaded by Unsloth, which answers through the same loop as `hf`.

Unsloth brings its own kernels and its own `generate`, so rows that ended stay in the batch until the last one ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmrecipes import extras
from vlmrecipes.models.catalog import ModelRef
from vlmrecipes.models.load import LoadIn, load_adapter


def load(ref: ModelRef, adapter: Path | None, *, load_in: LoadIn, max_length: int) -> tuple[Any, Any]:
    """Return the model, ready for inference and with `adapter` on it, and its processor.

    Raises MissingExtraError without Unsloth, InputError for an adapter that does not fit.
    """
    unsloth = extras.need("unsloth", "generate with the engine `unsloth`")
    model, processor = unsloth.FastVisionModel.from_pretrained(
        model_name=ref.path,
        max_seq_length=max_length,
        load_in_4bit=load_in == "4bit",
        load_in_8bit=load_in == "8bit",
        full_finetuning=False,
    )
    if adapter is not None:
        model = load_adapter(model, adapter)
    unsloth.FastVisionModel.for_inference(model)
    return model, processor
