"""A recipe's `[lora]` table on a model: which modules, and peft's configuration of them."""

from __future__ import annotations

from typing import Any

from vlmrecipes.models.parts import Targets, choose, linear_layers
from vlmrecipes.recipe import Lora


def targets(model: Any, lora: Lora) -> Targets:
    """Return the modules of `model` that the table names. Raises InputError when there are none."""
    return choose(
        linear_layers(model),
        vision=lora.vision,
        language=lora.language,
        attention=lora.attention,
        mlp=lora.mlp,
        projector=lora.projector,
    )


def config(lora: Lora, chosen: Targets) -> Any:
    """Return peft's LoraConfig."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        target_modules=chosen.pattern,
        modules_to_save=list(chosen.whole) or None,
        bias="none",
        task_type="CAUSAL_LM",
    )
