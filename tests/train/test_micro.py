from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import assistant, png, processor, user

from vlmrecipes.errors import InputError
from vlmrecipes.recipe import Train
from vlmrecipes.tables import parse
from vlmrecipes.train.collate import Collator
from vlmrecipes.train.micro import START, MicroCollator, cut

LENGTHS = st.lists(st.integers(1, 3000), min_size=1, max_size=40)


def cost(lengths: list[int], micros: list[list[int]]) -> int:
    return sum(max(lengths[row] for row in rows) * len(rows) + START for rows in micros)


@given(LENGTHS, st.integers(1, 10_000))
def test_every_row_is_computed_once_within_the_budget(lengths: list[int], budget: int) -> None:
    micros = cut(lengths, budget)
    assert sorted(row for rows in micros for row in rows) == list(range(len(lengths)))
    assert all(len(rows) == 1 or max(lengths[row] for row in rows) * len(rows) <= budget for rows in micros)
    assert max(lengths) == lengths[micros[0][0]], "the longest row comes first, so that a want of memory shows at once"


@given(LENGTHS)
def test_no_cut_costs_more_than_one_batch_or_single_rows(lengths: list[int]) -> None:
    best = cost(lengths, cut(lengths, 10**9))
    assert best <= cost(lengths, [list(range(len(lengths)))])
    assert best <= cost(lengths, [[row] for row in range(len(lengths))])


def test_short_rows_are_not_padded_to_a_page() -> None:
    assert cut([20, 1500, 22, 1400, 21], 4000) == [[1, 3], [2, 4, 0]]


def test_rows_with_pictures_may_be_kept_apart() -> None:
    def row(images: int) -> dict[str, object]:
        pictures = [png(40, 30)] * images
        return {"prompt": [user("?", images)], "completion": [assistant("x")], "images": pictures, "tokens": 20}

    rows = [row(1), row(0), row(1)]
    together, apart = (MicroCollator(Collator(processor()), 10**6, way)(rows)["micros"] for way in (False, True))
    assert [len(micro["input_ids"]) for micro in together] == [3]
    assert [len(micro["input_ids"]) for micro in apart] == [1, 2]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"batch_size": "auto"}, "takes `effective_batch`"),
        ({"batch_size": "auto", "effective_batch": 8, "gradient_accumulation": 2}, "takes `effective_batch`"),
        ({"effective_batch": 8}, "go with `batch_size"),
        ({"batch_tokens": 8}, "go with `batch_size"),
        ({"batch_size": "auto", "effective_batch": 3, "devices": 2}, "a multiple of `devices`"),
        ({"batch_size": "all"}, "a whole number or 'auto', found 'all'"),
        ({"batch_size": 0}, "greater than or equal to 1"),
    ],
)
def test_rows_a_step_are_said_in_one_way(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        parse(Train, {"steps": 1} | settings, "recipe.toml")


def test_rows_a_step() -> None:
    assert Train(steps=1, batch_size="auto", effective_batch=12).rows_a_step == 12
    assert Train(steps=1, batch_size=3, gradient_accumulation=2).rows_a_step == 6
