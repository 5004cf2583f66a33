"""Rewards of an answer by name: this package's own metrics, a pattern, a length, or a Python function.

A reward takes an answer, its references and the text of the prompt. Those built in lie in [0, 1]; an error rate becomes
1 less the rate, and 0 where there are more errors than characters or words.
"""

from __future__ import annotations

import inspect
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from numbers import Real
from pathlib import Path
from typing import Any

from vlmrecipes.errors import InputError, RunError
from vlmrecipes.evaluate.metrics import Metric, resolve
from vlmrecipes.fingerprint import file_sha256
from vlmrecipes.rewarding import Grpo, Reward

Function = Callable[[str, Sequence[str], str], float]
"""`function(answer, references, prompt)` returns the reward, a finite number."""
METRICS = {"cer": "cer", "wer": "wer", "exact_match": "exact", "vqa": "vqa", "anls": "anls"}
"""Rewards that are metrics, and the metric's short name."""
PATIENCE = 1.0
"""Seconds that a pattern may take on an answer."""


@dataclass(frozen=True, slots=True)
class Term:
    """A reward with its weight, and the name under which it is logged."""

    name: str
    weight: float
    function: Function
    spec: str
    """What exactly is computed: a metric's spec, a pattern, bounds, or the SHA-256 of a function's file."""
    most: float
    """The highest value of `function`; infinite where it is not known."""

    def __call__(self, answer: str, references: Sequence[str], prompt: str) -> float:
        """Return the reward before its weight. Raises RunError when it is no finite number."""
        value = self.function(answer, references, prompt)
        if not isinstance(value, Real) or not math.isfinite(value):
            raise RunError(f"the reward {self.name} of {answer!r} is {value!r}: it must be a finite number")
        return float(value)


def terms(grpo: Grpo) -> list[Term]:
    """Return the rewards of a recipe, named apart. Raises InputError for a function that is not there."""
    found: list[Term] = []
    for reward in grpo.rewards:
        same = sum(one.name.partition(" ")[0] == reward.name for one in found)
        found.append(_term(reward, f"{reward.name} {same + 1}" if same else reward.name))
    return found


def best(found: Sequence[Term]) -> float:
    """Return the highest sum of weighted rewards; infinite where it is not known."""
    return math.fsum(max(0.0, one.weight) * one.most for one in found) if found else 0.0


def _term(reward: Reward, name: str) -> Term:
    if reward.is_code:
        function, spec = load(reward.name)
        return Term(name, reward.weight, function, spec, math.inf)
    if reward.name in METRICS:
        metric = resolve(METRICS[reward.name])
        return Term(name, reward.weight, partial(by_metric, metric), metric.spec, 1.0)
    if reward.name == "format":
        import regex

        return Term(name, reward.weight, partial(by_format, regex.compile(reward.pattern)), reward.pattern, 1.0)
    spec = f"least {reward.least}, most {reward.most}" if _bounded(reward) else "references"
    return Term(name, reward.weight, partial(by_length, reward.least, reward.most), spec, 1.0)


def _bounded(reward: Reward) -> bool:
    return reward.least is not None or reward.most is not None


def by_metric(metric: Metric, answer: str, references: Sequence[str], prompt: str = "") -> float:  # noqa: ARG001
    """Return the sample's value of a metric where higher is better, 1 less its value, at least 0, where lower is."""
    rate = metric.rate(metric.score(answer, references))
    return max(0.0, 1.0 - rate) if metric.better == "lower" else rate


def by_format(pattern: Any, answer: str, references: Sequence[str], prompt: str = "") -> float:  # noqa: ARG001
    """Return 1 where the whole answer matches a compiled pattern of `regex`, else 0.

    Raises RunError for a pattern that takes more than a second.
    """
    try:
        return float(pattern.fullmatch(answer, timeout=PATIENCE) is not None)
    except TimeoutError:
        told = f"grpo.rewards: the pattern {pattern.pattern!r} takes longer than {PATIENCE:g} s on an answer of"
        raise RunError(f"{told} {len(answer)} characters: write it without nested repetitions") from None


def by_length(
    least: int | None,
    most: int | None,
    answer: str,
    references: Sequence[str],
    prompt: str = "",  # noqa: ARG001
) -> float:
    """Return 1 for an answer of `least` to `most` characters, less for others.

    A shorter one gets its share of `least`, a longer one less and less until 0 at twice `most`. Without bounds: the shorter
    length over the longer, of the answer and the reference that is nearest in length.
    """
    length = len(answer)
    if least is None and most is None:
        return max(_alike(length, len(text)) for text in references)
    if least is not None and length < least:
        return length / least
    return 1.0 if most is None or length <= most else max(0.0, 2.0 - length / most)


def _alike(one: int, other: int) -> float:
    return min(one, other) / max(one, other) if one or other else 1.0


def load(name: str) -> tuple[Function, str]:
    """Import `module:function`, installed or beside where the command runs; return it and its file's SHA-256.

    Raises InputError when it cannot be imported or takes other arguments. The caller has asked whether code is allowed.
    """
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds texts
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        module = import_module(module_name)
        function = getattr(module, attribute)
        inspect.signature(function).bind("", [], "")
    except Exception as error:  # noqa: BLE001 - a module of the user's may fail in any way
        told = f"{name} cannot be used: {type(error).__name__}: {error}"
        raise InputError.one(f"{told}; it must be a function(answer, references, prompt)", key="grpo.rewards") from None
    return function, f"sha256:{file_sha256(Path(module.__file__))}" if module.__file__ else "built in"
