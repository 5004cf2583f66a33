"""The plan of scoring something that is not loaded here: a server's model, or an OCR program. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vlmrecipes.errors import InputError, Problem
from vlmrecipes.models.catalog import ModelRef
from vlmrecipes.plan import MARGIN, MOST_NEW, Plan, chosen, snapshots_of, use_of, with_snapshots
from vlmrecipes.recipe import Recipe

NO_TOKENS = {"p50": 0, "p95": 0, "max": 0, "supervised_p50": 0}
"""Prompts are not counted: the tokenizer is elsewhere."""


def plan_external(
    recipe: Recipe, model: ModelRef, *, store: str, file: str, snapshots: Mapping[str, str] | None = None
) -> Plan:
    """Return the plan of scoring `model` on the eval side of `recipe`. Raises InputError for snapshots that are not there.

    `max_new_tokens` follows from the bytes of the longest reference: no tokenizer in use makes more tokens than bytes.
    """
    recipe = with_snapshots(recipe, snapshots or {})
    names = dict.fromkeys(recipe.data.eval_snapshots())
    found, problems = snapshots_of(dict.fromkeys(names, "data.eval"), store, file)
    if problems:
        raise InputError(problems)
    scored = [(found[name], chosen(found[name].samples("eval"), recipe.eval.limit)) for name in names]
    texts = [text for _, samples in scored for sample in samples for text in sample.references]
    longest = max((len(text.encode("utf-8", "replace")) for text in texts), default=1)
    empty = [Problem(file, "data.eval", "its eval side is empty: name another snapshot")]
    return Plan(
        recipe=recipe,
        store=store,
        model=model,
        train=(),
        eval=tuple(use_of(snapshot, len(samples)) for snapshot, samples in scored),
        trains=False,
        tuned="",
        steps=0,
        tokens=NO_TOKENS,
        max_new_tokens=recipe.eval.max_new_tokens or min(MOST_NEW, math.ceil(longest * MARGIN) + 8),
        memory_bytes=0,
        packages={},
        problems=() if texts else tuple(empty),
    )
