"""What would go wrong with rewards, told before anything is trained."""

from __future__ import annotations

from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.errors import InputError, Problem
from vlmrecipes.evaluate.metrics import resolve
from vlmrecipes.models.turns import rows_of
from vlmrecipes.plan import Plan
from vlmrecipes.recipe import Recipe
from vlmrecipes.train.rewards import METRICS, load


def code_problems(recipe: Recipe, file: str, *, allowed: bool) -> list[Problem]:
    """Return a problem for each reward that is a Python function which is not allowed, or cannot be used."""
    rewards = recipe.grpo.rewards if recipe.grpo else ()
    found = []
    for place, reward in enumerate(rewards):
        key = f"grpo.rewards[{place}].name"
        if reward.is_code and not allowed:
            found.append(Problem(file, key, f"{reward.name!r} would run code of yours; say --allow-code to allow it"))
        elif reward.is_code:
            try:
                load(reward.name)
            except InputError as error:
                found += [Problem(file, key, problem.problem) for problem in error.problems]
    return found


def reference_problems(plan: Plan, file: str) -> list[Problem]:
    """Return a problem for each reward that means nothing on the references of the training rows, or misses a package."""
    if plan.recipe.grpo is None or not plan.trains:
        return []
    samples = [sample for name in plan.train_names() for sample in open_snapshot(plan.store, name).samples("train")]
    references = [row.references for sample in samples for row in rows_of(sample)]
    found = []
    for place, reward in enumerate(plan.recipe.grpo.rewards):
        refusal = resolve(METRICS[reward.name]).refusal(references) if reward.name in METRICS else None
        if refusal:
            found.append(Problem(file, f"grpo.rewards[{place}].name", f"{reward.name!r} refused: {refusal}"))
    return found
