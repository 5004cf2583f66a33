"""Exact duplicates."""

from __future__ import annotations

import random

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from vlmrecipes.data.dedup import exact_duplicates, rank
from vlmrecipes.data.lookalikes import Picture, near_to, perhaps_near
from vlmrecipes.data.sample import Split

Row = tuple[str, Split | None, str]
ROWS: st.SearchStrategy[list[Row]] = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([None, "train", "eval"]), st.text("01", max_size=6)), max_size=15
)


def kept(rows: list[Row]) -> list[int]:
    contents, declared, order = zip(*rows, strict=True) if rows else ((), (), ())
    doubles = exact_duplicates(contents, [rank(side, 0, text) for side, text in zip(declared, order, strict=True)])
    return [row for row in range(len(rows)) if row not in doubles]


@given(rows=ROWS, shuffle=st.randoms(use_true_random=False))
def test_the_order_of_rows_decides_nothing(rows: list[Row], shuffle: random.Random) -> None:
    other = list(rows)
    shuffle.shuffle(other)
    assert sorted(map(str, (rows[row] for row in kept(rows)))) == sorted(map(str, (other[row] for row in kept(other))))


@given(rows=ROWS)
def test_what_is_kept_has_no_duplicates_and_every_content_is_kept_once(rows: list[Row]) -> None:
    left = [rows[row] for row in kept(rows)]
    assert kept(left) == list(range(len(left)))
    assert sorted(content for content, _, _ in left) == sorted({content for content, _, _ in rows})


@given(rows=ROWS)
def test_a_row_declared_for_eval_is_kept_before_others(rows: list[Row]) -> None:
    wanted = {content for content, side, _ in rows if side == "eval"}
    assert {rows[row][0] for row in kept(rows) if rows[row][1] == "eval"} == wanted


def test_a_duplicate_names_the_row_that_is_kept() -> None:
    ranks = [rank(None, 0, order) for order in "3112"]
    assert exact_duplicates(["x", "y", "x", "x"], ranks) == {0: (2, 0), 3: (2, 0)}


def test_pictures_near_to_others_are_found_by_looks_or_equal_pixels() -> None:
    long = bytes(range(32))
    one = Picture("a", "p", 0xF0F0F0F0, long, bytes(128), 9, 9)
    near = one._replace(key="b", pixels="q", phash=one.phash ^ 0b1011, phash256=bytes([255]) + long[1:])
    far = one._replace(key="c", pixels="r", phash=one.phash ^ 0b11111)
    flat = one._replace(key="d", pixels="s", phash256=bytes(32))
    assert near_to([near, far, flat], [one], 4) == {"b"}
    images = pa.Table.from_pylist([each._asdict() for each in (near, far, flat)])
    images = images.set_column(2, "phash", images["phash"].cast(pa.uint64()))
    assert perhaps_near(images, [one], 4)["key"].to_pylist() == ["b", "d"]
    assert perhaps_near(images, [flat._replace(key="e", phash=2**63)], 4)["key"].to_pylist() == ["d"]
    assert perhaps_near(images, [], 4).num_rows == 0
    assert near_to([flat], [flat._replace(key="e"), one], 4) == {"d"}, "of flat pictures only the same pixels"
