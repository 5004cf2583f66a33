"""What sharded weights go together with: told by `check`, or by `plan` where it takes the data to know."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from test_plan import RECIPE, keys, planned, store
from tiny import user

from vlmrecipes.errors import InputError
from vlmrecipes.recipe import Recipe
from vlmrecipes.tables import parse

__all__ = ["store"]
SHARDED = {"train.sharded": True, "train.devices": 2}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"train": {"devices": 1}}, "`sharded` needs `devices` of 2 or more"),
        ({"train": {"batch_size": "auto", "gradient_accumulation": 1, "effective_batch": 4}}, "takes a number for"),
        ({"train": {"optimizer": "adamw_8bit"}}, "cannot split the state of optimizer 'adamw_8bit': use one of"),
        ({"model": {"load_in": "4bit"}}, 'train.sharded cannot split 4bit weights: use model.load_in = "16bit"'),
        ({"eval": {"every": 5}}, "eval.every does not go with train.sharded"),
    ],
)
def test_what_does_not_go_together_is_told_by_check(changes: dict[str, dict[str, Any]], problem: str) -> None:
    given = json.loads(json.dumps(RECIPE))
    given["train"] |= {"sharded": True, "devices": 2}
    parse(Recipe, given, "recipe.toml")
    for table, values in changes.items():
        given[table] |= values
    with pytest.raises(InputError, match=problem):
        parse(Recipe, given, "recipe.toml")


def test_rows_without_pictures_are_told_by_plan(store: dict[str, Any]) -> None:
    assert planned(SHARDED).problems == ()
    held = [
        replace(one, images=(), messages=(user("?", 0),)) if place == 3 else one
        for place, one in enumerate(store["lines"].held)
    ]
    store["lines"] = replace(store["lines"], held=held)
    assert keys(planned()) == []
    plan = planned(SHARDED)
    assert keys(plan) == ["train.sharded"]
    assert plan.problems[0].problem.startswith("1 rows have no picture (samples 00000000000000000000000000000003)")


@pytest.mark.usefixtures("store")
def test_unsloth_takes_no_part() -> None:
    assert "train.devices" in keys(planned(SHARDED | {"train.backend": "unsloth", "model.init": "weights"}))


@pytest.mark.usefixtures("store")
def test_the_estimate_divides_what_is_kept() -> None:
    one, two, four = (planned({"train.devices": n, "train.sharded": n > 1}).memory_bytes for n in (1, 2, 4))
    weights = 11_900_544
    assert 0.3 * 16 * weights < one - two < 0.5 * 20 * weights
    assert two - four == pytest.approx((one - two) / 2, rel=0.5)
