"""The door to Unsloth: its models and adapters, and nothing of its trainer or collator.

Unsloth rewrites classes of transformers, peft and trl for the whole process, and must be imported before them. So a
process trains with it and does nothing else, and `begin` comes first.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.errors import RunError
from vlmrecipes.extras import need

if TYPE_CHECKING:
    from vlmrecipes.models.catalog import ModelRef
    from vlmrecipes.models.parts import Targets
    from vlmrecipes.recipe import Lora, Recipe

PATCHED = ("transformers", "peft", "trl")


def begin(cache: Path) -> None:
    """Import Unsloth into this process; what it compiles goes to the folder `cache`.

    Raises MissingExtraError where it is not installed, RunError where it would come too late.
    """
    if "unsloth" in sys.modules:
        return
    if early := [name for name in PATCHED if name in sys.modules]:
        raise RunError(f"unsloth must be imported before {', '.join(early)}: it needs a process of its own")
    os.environ["UNSLOTH_COMPILE_LOCATION"] = str(cache.absolute())
    os.environ["UNSLOTH_DISABLE_STATISTICS"] = "1"  # it would otherwise tell the hub of every load
    need("unsloth", "train with backend = 'unsloth'")


def load(ref: ModelRef, recipe: Recipe, *, trains: bool = True) -> Any:
    """Return the model as Unsloth loads it: exactly the one named, never a quantised twin of it from the hub.

    `trains` makes it ready for training; otherwise it is ready to answer, see `answering`.
    """
    from unsloth import FastVisionModel

    from vlmrecipes.models import attention, geometry
    from vlmrecipes.models.load import dtype

    whole = trains and recipe.lora is None
    model, _ = FastVisionModel.from_pretrained(
        ref.path,
        revision=ref.revision or None if ref.path == ref.id else None,
        max_seq_length=recipe.model.max_length,
        dtype=dtype(recipe.model.load_in, "cuda"),
        load_in_4bit=recipe.model.load_in == "4bit" and not whole,
        load_in_8bit=recipe.model.load_in == "8bit" and not whole,
        load_in_16bit=recipe.model.load_in in ("16bit", "full") and not whole,
        full_finetuning=whole,
        use_gradient_checkpointing="unsloth" if trains and recipe.train.gradient_checkpointing else False,
        use_exact_model_name=True,
        trust_remote_code=recipe.model.trust_remote_code,
        random_state=recipe.train.seed,
    )
    attention.use_varlen(model)
    geometry.quicken(model)
    return model


def answering(model: Any) -> Any:
    """Return `model` switched to Unsloth's kernels for generation."""
    from unsloth import FastVisionModel

    FastVisionModel.for_inference(model)
    return model


def attach(model: Any, lora: Lora, targets: Targets, *, checkpointing: bool, seed: int) -> Any:
    """Return `model` with adapters on exactly the `targets`, those that Unsloth's four flags do not reach included."""
    from unsloth import FastVisionModel

    return FastVisionModel.get_peft_model(
        model,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        bias="none",
        target_modules=targets.pattern,
        modules_to_save=list(targets.whole) or None,
        finetune_vision_layers=lora.vision,
        finetune_language_layers=lora.language,
        finetune_attention_modules=lora.attention,
        finetune_mlp_modules=lora.mlp,
        use_gradient_checkpointing="unsloth" if checkpointing else False,
        random_state=seed,
    )
