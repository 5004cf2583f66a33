"""A run planned again from its folder: with the very data and model that it used, but for what is asked otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmrecipes import tables
from vlmrecipes.errors import InputError
from vlmrecipes.plan import Plan, make_plan, read_plan
from vlmrecipes.plan.checks import EXTERNAL
from vlmrecipes.plan.external import plan_external
from vlmrecipes.recipe import Data, Part, Recipe, check_trust
from vlmrecipes.records.scored import scored_model, weights_of
from vlmrecipes.run import check_code, check_logging

LATEST = "latest"
"""Instead of a snapshot's name: the newest of the same dataset."""


def plan_again(  # noqa: PLR0913 - a run and what is otherwise
    folder: Path,
    *,
    store: str,
    swaps: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    model: str = "",
    trust_remote_code: bool = False,
    allow_code: bool = False,
) -> Plan:
    """Return the plan of the run in `folder`, made anew against `store`, which may have been moved or made again.

    `swaps` is role → snapshot or `latest`; a role that it does not name keeps the exact snapshot that the run used. `model` is
    another run or model id to score, for a run that trained nothing. With nothing changed the plan has the fingerprint
    that is recorded, as long as the packages are the same. Raises InputError for what is not there any more.
    """
    file = folder / "recipe.toml"
    old = read_plan(folder / "plan.json")
    recipe = overridden(old.recipe, overrides, file)
    check_trust(recipe, str(file), allowed=trust_remote_code)
    if old.trains:
        check_code(recipe, str(file), allowed=allow_code)
        check_logging(recipe, file)
    if model:
        recipe, tuned = _other_model(recipe, old, model, store)
    else:
        tuned = "" if old.trains else weights_of(folder, store)
    wanted, exact = _data(recipe.data, old, swaps or {})
    # The revision that was found then, where the model is the same and the recipe names none.
    same = (recipe.model.id, recipe.model.revision) == (old.recipe.model.id, old.recipe.model.revision)
    revision = old.model.revision if same and not model else recipe.model.revision
    pinned = recipe.model.model_copy(update={"revision": revision})
    asked = recipe.model_copy(update={"data": exact, "model": pinned})
    if recipe.eval.engine in EXTERNAL and not old.trains:
        plan = plan_external(asked, old.model, store=store, file=str(file))
    else:
        plan = make_plan(asked, store=store, file=str(file), trains=old.trains, tuned=tuned)
    return replace(plan, recipe=recipe.model_copy(update={"data": wanted}))


def overridden(recipe: Recipe, overrides: Sequence[str], file: Path) -> Recipe:
    """Return a resolved recipe with some settings changed. Raises InputError."""
    if not overrides:
        return recipe
    resolved: dict[str, Any] = recipe.model_dump(mode="json")
    tables.override(resolved, overrides)
    return tables.parse(Recipe, resolved, str(file))


def _data(recorded: Data, old: Plan, swaps: Mapping[str, str]) -> tuple[Data, Data]:
    """Return the data as the new recipe names it, and the same with the exact snapshots of the run for roles not swapped."""
    if len(swaps) == 1 and not recorded.eval:
        recorded = recorded.model_copy(update={"eval": _only(old)})
    then = old.recipe.data
    there = dict(zip(dict.fromkeys(then.eval_snapshots()), old.eval_names(), strict=False))
    there |= dict(zip((part.snapshot for part in then.parts()), old.train_names(), strict=False))
    wanted, exact = {}, {}
    for role, named in (("train", recorded.train), ("eval", recorded.eval)):
        swap = swaps.get(role)
        if swap is None:
            wanted[role], exact[role] = named, _renamed(named, lambda name: there.get(name, name))
        else:
            new = _renamed(named, lambda name: name.partition("@")[0]) if swap == LATEST else swap
            wanted[role] = exact[role] = new
    return recorded.model_copy(update=wanted), recorded.model_copy(update=exact)


def _only(old: Plan) -> str:
    """Return the snapshot that was scored, when one role is to change and the other to stay."""
    if len(old.eval) != 1:
        raise InputError.one("the run was scored on several snapshots: give both roles, or a bare name", key="--data")
    return old.eval[0].snapshot


def _renamed(named: str | tuple[Part, ...], name: Callable[[str], str]) -> str | tuple[Part, ...]:
    if isinstance(named, str):
        return name(named)
    return tuple(part.model_copy(update={"snapshot": name(part.snapshot)}) for part in named)


def _other_model(recipe: Recipe, old: Plan, model: str, store: str) -> tuple[Recipe, str]:
    """Return the recipe with the model that is to be scored instead, and the folder of its tuned weights."""
    if old.trains or recipe.eval.engine in EXTERNAL:
        why = "trains its own model" if old.trains else f"is answered by {recipe.eval.engine}"
        raise InputError.one(f"the run {why}: only one that scored a model here can score another", key="--model")
    base, tuned = scored_model(model, store)
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=base)}), tuned
