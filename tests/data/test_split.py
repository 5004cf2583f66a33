"""Sides of the split."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from vlmrecipes.data.sample import Split
from vlmrecipes.data.split import RANGE, dealt_number, declared_sides, joined, on_both, sides

Row = tuple[str, tuple[str, ...], Split | None]
PIXELS = st.lists(st.sampled_from([f"p{number}" for number in range(12)]), max_size=3).map(tuple)
GROUPS = st.sampled_from([f"g{number}" for number in range(10)])
FREE: st.SearchStrategy[list[Row]] = st.lists(st.tuples(GROUPS, PIXELS, st.none()), max_size=25)
ANY: st.SearchStrategy[list[Row]] = st.lists(
    st.tuples(GROUPS, PIXELS, st.sampled_from([None, None, "train", "eval"])), max_size=25
)
SHARES = st.floats(0, 1)


def dealt(rows: list[Row], share: float = 0.3, salt: str = "s") -> list[Split]:
    groups, pixels, declared = zip(*rows, strict=True) if rows else ((), (), ())
    return sides(groups, pixels, declared, share=share, salt=salt)


@settings(deadline=None)
@given(rows=ANY, share=SHARES, shuffle=st.randoms(use_true_random=False))
def test_the_order_of_rows_decides_nothing(rows: list[Row], share: float, shuffle: random.Random) -> None:
    order = list(range(len(rows)))
    shuffle.shuffle(order)
    before = dealt(rows, share)
    assert dealt([rows[place] for place in order], share) == [before[place] for place in order]


@settings(deadline=None)
@given(rows=FREE, share=SHARES)
def test_no_group_and_no_image_is_on_both_sides(rows: list[Row], share: float) -> None:
    found = dealt(rows, share)
    by_group: dict[str, set[Split]] = {}
    for (group, _, _), side in zip(rows, found, strict=True):
        by_group.setdefault(group, set()).add(side)
    assert all(len(both) == 1 for both in by_group.values())
    assert on_both(found, [pixels for _, pixels, _ in rows]) == set()


@settings(deadline=None)
@given(rows=ANY, share=SHARES)
def test_a_declared_side_is_kept_and_undeclared_rows_never_stand_across_a_declared_eval(
    rows: list[Row], share: float
) -> None:
    found = dealt(rows, share)
    evals = {pixel for (_, pixels, side) in rows if side == "eval" for pixel in pixels}
    eval_groups = {group for group, _, side in rows if side == "eval"}
    for (group, pixels, declared), side in zip(rows, found, strict=True):
        assert declared in (None, side)
        if declared is None and (group in eval_groups or evals & set(pixels)):
            assert side == "eval"


@settings(deadline=None)
@given(rows=ANY, more=ANY, share=SHARES)
def test_adding_rows_never_moves_eval_to_train(rows: list[Row], more: list[Row], share: float) -> None:
    before, after = dealt(rows, share), dealt([*rows, *more], share)
    assert all(new == "eval" for old, new in zip(before, after, strict=False) if old == "eval")


@settings(deadline=None)
@given(rows=FREE, small=SHARES, large=SHARES)
def test_a_larger_share_only_adds_to_eval(rows: list[Row], small: float, large: float) -> None:
    small, large = sorted((small, large))
    pairs = zip(dealt(rows, small), dealt(rows, large), strict=True)
    assert all(new == "eval" for old, new in pairs if old == "eval")


def test_the_share_is_roughly_right_at_any_salt() -> None:
    for salt in ("a", "b", "receipts"):
        for share in (0.05, 0.2, 0.5):
            count = sum(dealt_number(f"group {number}", salt) < share * RANGE for number in range(4000))
            assert abs(count / 4000 - share) < 0.03


def test_shares_of_nothing_and_all_are_exact() -> None:
    rows: list[Row] = [(f"g{number}", (), None) for number in range(200)]
    assert set(dealt(rows, 0.0)) == {"train"}
    assert set(dealt(rows, 1.0)) == {"eval"}


def test_another_salt_deals_anew() -> None:
    rows: list[Row] = [(f"g{number}", (), None) for number in range(200)]
    assert dealt(rows, salt="a") != dealt(rows, salt="b")


def test_a_group_that_is_named_like_an_image_is_not_that_image() -> None:
    rows: list[Row] = [("p1", (), "eval"), ("other", ("p1",), None)]
    assert dealt(rows, 0.0) == ["eval", "train"]


def test_items_are_joined_through_others() -> None:
    assert len(set(joined([("a",), ("b",), ("c",), ("a", "b"), ()]))) == 3


def test_undeclared_rows_follow_the_declared_side_of_their_group() -> None:
    groups = ["a", "a", "b", "b", "c", "c", "c", "", "", "d"]
    own: list[Split | None] = ["train", None, "eval", None, "eval", "train", None, "eval", None, None]
    wanted = ["train", "train", "eval", "eval", "eval", "train", "train", "eval", None, None]
    assert declared_sides(groups, own) == wanted
    assert declared_sides(groups[::-1], own[::-1]) == wanted[::-1]
