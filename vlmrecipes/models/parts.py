"""The parts of a model, and which of its modules get adapters, from the names of the modules alone.

Families name their parts alike: a vision tower, a projector between it and the language model, and the language model;
inside a layer an attention and an MLP block. What matches none of these (embeddings, the output head) is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlmrecipes.errors import InputError

Part = Literal["vision", "language", "projector"]

VISION = re.compile(r"^(visual|vision|vision_(tower|model|encoder|backbone)|image_encoder|vit|vpm|img_encoder)$")
PROJECTOR = re.compile(
    r"^((deepstack_)?merger(_list)?|(multi_?modal|mm|image|vision|modality)_?(projector|projection|proj)\w*"
    r"|connector|projector|aligner|resampler|embed_vision|mlp1)$"
)
HEAD = re.compile(r"^(lm_head|embed_tokens|output|score|classifier)$")
ATTENTION = re.compile(r"attn|attention|^([qkvo]_proj|qkv|wq|wk|wv|wo|out_proj|query|key|value)$")
MLP = re.compile(r"mlp|feed_?forward|ffn|experts|^(fc\d|gate_proj|up_proj|down_proj|gate_up_proj|w[123])$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The modules that are trained."""

    adapted: tuple[str, ...]
    """Full names of the linear layers that get an adapter."""
    whole: tuple[str, ...]
    """Full names of modules trained in full beside the adapters."""
    pattern: str
    """A regular expression that fully matches the names in `adapted` and no other module's."""


def choose(  # noqa: PLR0913
    modules: Iterable[tuple[str, bool]],
    *,
    vision: bool,
    language: bool,
    attention: bool,
    mlp: bool,
    projector: Literal["off", "lora", "full"],
) -> Targets:
    """Return the targets among `modules`, pairs of (name, whether it is a linear layer).

    Raises InputError when no module matches, or none that `projector` asks for.
    """
    modules = list(modules)
    parts = {part for part, wanted in (("vision", vision), ("language", language)) if wanted}
    linear = [name for name, is_linear in modules if is_linear]
    adapted = [name for name in linear if part_of(name) in parts and _in_block(name, attention=attention, mlp=mlp)]
    if projector == "lora":
        between = [name for name in linear if part_of(name) == "projector"]
        if not between:
            raise InputError.one(
                "this model has no linear layer between its vision tower and its language model: "
                "use projector = 'full' to train what is there, or 'off'",
                key="lora.projector",
            )
        adapted += between
    whole = _roots(name for name, _ in modules if part_of(name) == "projector") if projector == "full" else ()
    if not adapted and not whole:
        raise InputError.one(
            "no module of this model matches: switch on other parts (vision, language, attention, mlp, projector), "
            "or leave [lora] out to train all weights",
            key="lora",
        )
    return Targets(adapted=tuple(adapted), whole=whole, pattern=_pattern(adapted, [name for name, _ in modules]))


def part_of(name: str) -> Part | None:
    """Return the part of the model that a module's full name puts it in; None for heads and embeddings."""
    pieces = name.split(".")
    if any(map(HEAD.match, pieces)):
        return None
    if any(map(PROJECTOR.match, pieces)):
        return "projector"
    return "vision" if any(map(VISION.match, pieces)) else "language"


def compressed(names: Iterable[str]) -> tuple[str, ...]:
    """Return names with layer numbers written as `*`, each once, in order of appearance."""
    return tuple(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name) for name in names))


def linear_layers(model: Any) -> list[tuple[str, bool]]:
    """Return every module's full name and whether an adapter can sit on it (quantized layers are linear as well)."""
    from torch import nn

    fused = {
        f"{name}.out_proj" if name else "out_proj"
        for name, module in model.named_modules()
        if isinstance(module, nn.MultiheadAttention)
    }
    return [
        (name, isinstance(module, nn.Linear) and name not in fused) for name, module in model.named_modules() if name
    ]


def _in_block(name: str, *, attention: bool, mlp: bool) -> bool:
    """Tell whether the innermost block that a name speaks of is a wanted one."""
    for piece in reversed(name.split(".")):
        if ATTENTION.search(piece):
            return attention
        if MLP.search(piece):
            return mlp
    return False


def _roots(names: Iterable[str]) -> tuple[str, ...]:
    """Return the outermost of the names."""
    found: list[str] = []
    for name in names:
        if not any(name.startswith(f"{root}.") for root in found):
            found.append(name)
    return tuple(found)


def _pattern(adapted: Sequence[str], modules: Sequence[str]) -> str:
    r"""Write numbers as `\d+` where that matches no other module; a record is then readable, and the file the same."""
    if not adapted:
        return r"(?!)"
    short = "|".join(re.escape(name).replace(r"\*", r"\d+") for name in sorted(compressed(adapted)))
    matched = {name for name in modules if re.fullmatch(short, name)}
    return short if matched == set(adapted) else "|".join(re.escape(name) for name in sorted(adapted))
