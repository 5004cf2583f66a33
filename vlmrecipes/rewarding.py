"""The table of a recipe that is about rewarding a model's own answers."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from vlmrecipes.tables import FROM_LIST, Table

REWARDS = ("cer", "wer", "exact_match", "vqa", "anls", "format", "length")
"""Names of the built-in rewards."""
ENTRY_POINT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


class Reward(Table):
    """What an answer is rewarded for; every built-in reward is in [0, 1]."""

    name: str
    """`cer` or `wer` (1 less the rate, at least 0), `exact_match`, `vqa`, `anls`, `format`, `length`, or `module:function`."""
    weight: float = Field(default=1.0, allow_inf_nan=False)
    """The rewards of an answer are multiplied by their weights and added."""
    pattern: str = Field(default="", max_length=1000)
    """Of `format`: the regular expression that the whole answer must match."""
    least: int | None = Field(default=None, ge=0)
    """Of `length`: characters below which less is given; without `least` and `most`, those of the nearest reference count."""
    most: int | None = Field(default=None, ge=1)
    """Of `length`: characters above which less is given, nothing from twice as many on."""

    @property
    def is_code(self) -> bool:
        """Whether it is a Python function, which the command line must allow."""
        return ":" in self.name

    @model_validator(mode="after")
    def _known(self) -> Reward:
        if self.name not in REWARDS and not ENTRY_POINT.fullmatch(self.name):
            close = difflib.get_close_matches(self.name, REWARDS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"no reward {self.name!r}{hint} (known: {', '.join(REWARDS)}, or module:function)")
        if bool(self.pattern) != (self.name == "format"):
            raise ValueError("`pattern` goes with `format`, and `format` with a `pattern`")
        if self.name != "length" and (self.least is not None or self.most is not None):
            raise ValueError("`least` and `most` go with `length`")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"`least` ({self.least}) is more than `most` ({self.most})")
        if self.weight == 0:
            raise ValueError("a `weight` of 0 rewards nothing: leave the reward out")
        return self

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        import regex

        try:
            regex.compile(pattern)
        except (regex.error, RecursionError, OverflowError) as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern


class Grpo(Table):
    """Rewarding a model's own answers: group relative policy optimisation (Shao et al. 2024, DeepSeekMath, §4.1).

    With `method = "gspo"` the ratio between the new and the old model is that of whole answers (Zheng et al. 2025, Group
    Sequence Policy Optimization), not of tokens; the two differ only where answers are learned from more than once.
    """

    rewards: Annotated[tuple[Reward, ...], FROM_LIST, Field(min_length=1)]
    """What answers are rewarded for."""
    group: int = Field(default=8, ge=2)
    """Answers to each prompt, which are compared with each other; divides `batch_size` × `gradient_accumulation`."""
    beta: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of the divergence (KL) from the model without adapters; 0 leaves it out."""
    epsilon: float = Field(default=0.2, gt=0, lt=1)
    """How far the ratio may fall below 1, and rise above it, before it is clipped; GSPO's authors take 3e-4."""
    epsilon_high: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """How far it may rise above 1; default: `epsilon`."""
    max_completion_length: int = Field(default=256, ge=1)
    """Longest answer in tokens, its end included; longer ones are cut."""
    mask_truncated: bool = False
    """Learn nothing from answers that were cut."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """Answers are drawn from so many likeliest tokens; 0: from all."""
    iterations: int = Field(default=1, ge=1)
    """Times that the same answers are learned from."""
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"] | None = None
    """How tokens are averaged, by TRL's names; default: `dapo`, and `grpo` with method `gspo`."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What rewards are divided by: the standard deviation of their group, of their batch, or nothing."""
