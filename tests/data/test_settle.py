"""Samples, drops and sides depend on what the rows say, not on their order; growth moves nobody out of eval."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vlmrecipes.data.declaration import Declaration
from vlmrecipes.data.lookalikes import Picture
from vlmrecipes.data.sample import Split
from vlmrecipes.data.settle import Settled, settle
from vlmrecipes.data.sources.candidate import Candidate

Row = tuple[Candidate, tuple[Picture, ...]]
LONG = (0x5555 << 200 | 0x3333_3333 << 32).to_bytes(32, "big")
RULES: dict[str, Any] = {"dedup": {"near": 2}, "split": {"eval": 0.4}}


def declaration(**rules: Any) -> Declaration:
    source = {"type": "jsonl", "path": "x", "prompt": "?", "answer": "{a}", "metadata": ["kind"]}
    return Declaration.model_validate({"name": "set", "source": [source], **rules})


def picture(bits: int, size: int) -> Picture:
    """Return a picture whose hash is `bits`: those that differ in one or two are near, and make chains."""
    return Picture(f"{bits:04x}{size}", f"{bits:04x}{size}", bits, LONG, bytes(128), size, size)


@st.composite
def sets(draw: st.DrawFn, sides: tuple[Split | None, ...] = (None, "train", "eval")) -> list[Row]:
    rows = []
    for number in range(draw(st.integers(1, 14))):
        images = tuple(
            picture(draw(st.integers(0, 31)), draw(st.sampled_from((8, 9))))
            for _ in range(draw(st.sampled_from((1, 1, 1, 2))))
        )
        said = draw(st.sampled_from("ab"))
        row = Candidate(
            source="s", key=f"{number}", images=(), crop=None, messages=({"role": "user", "content": said},),
            references=(draw(st.sampled_from("xy")),), group=draw(st.sampled_from(("", "", "g", "h"))),
            split=draw(st.sampled_from(sides)), metadata={"kind": said},
        )  # fmt: skip
        rows.append((row, images))
    return rows


def settled(rows: list[Row], **rules: Any) -> Settled:
    return settle(declaration(**(rules or RULES)), [row for row, _ in rows], [images for _, images in rows])


def told(found: Settled) -> Any:
    """Return all that a snapshot would hold. Rows that are equal in everything but their place are told by what they say."""
    drops = sorted((drop.reason, drop.images, drop.twin, drop.distance) for drop in found.drops)
    return (
        [(s.id, s.digest(), s.split, s.duplicates) for s in found.samples],
        drops,
        found.facts() | {"contradictions": found.facts()["contradictions"]["count"]},
    )


@given(rows=sets(), shuffle=st.randoms(use_true_random=False), keep=st.sampled_from(("largest", "first-by-id")))
@settings(max_examples=80, deadline=None)
def test_the_order_of_rows_decides_nothing(rows: list[Row], shuffle: random.Random, keep: str) -> None:
    other = list(rows)
    shuffle.shuffle(other)
    for rules in ({"dedup": {"near": 2, "keep": keep}}, {"split": {"eval": 0.4, "stratify": "{kind}"}}):
        assert told(settled(rows, **(RULES | rules))) == told(settled(other, **(RULES | rules)))


@given(rows=sets())
@settings(max_examples=60, deadline=None)
def test_no_image_group_or_duplicate_group_stands_on_both_sides_unless_rows_declare_it(rows: list[Row]) -> None:
    found = settled(rows)
    assert len(found.samples) + len(found.drops) == len(rows)
    assert found.leaks["images"] == 0
    if all(row.split is None for row, _ in rows):
        assert found.leaks == {"images": 0, "duplicate_groups": 0, "groups": 0}


@given(rows=sets(sides=(None, None, "train", "eval")))
@settings(max_examples=80, deadline=None)
def test_a_group_that_rows_declare_on_one_side_is_never_split(rows: list[Row]) -> None:
    declared: dict[str, set[Split]] = {}
    for row, _ in rows:
        if row.group and row.split:
            declared.setdefault(row.group, set()).add(row.split)
    found = settled(rows)
    for group, sides in declared.items():
        if len(sides) == 1:
            assert {sample.split for sample in found.samples if sample.group == group} <= sides
    assert found.leaks["groups"] <= sum(len(sides) == 2 for sides in declared.values())


def test_undeclared_rows_follow_the_side_that_their_group_declares() -> None:
    about: dict[str, Any] = {"source": "s", "images": (), "crop": None, "metadata": {"kind": "a"}, "references": ("x",)}
    rows: list[Row] = [
        (Candidate(key=f"{n}", messages=({"role": "user", "content": f"{n} {side}"},), group=f"g{n}", split=side, **about), ())
        for n in range(30)
        for side in (None, "train")
    ]  # fmt: skip
    found = settled(rows)
    assert (len(found.samples), found.facts()["splits"]) == (60, {"train": 60, "eval": 0})
    assert found.leaks["groups"] == 0


@given(rows=sets(sides=(None,)), some=st.integers(0, 14))
@settings(max_examples=80, deadline=None)
def test_rows_that_come_later_move_nobody_from_eval_to_train(rows: list[Row], some: int) -> None:
    before = {sample.id: sample.split for sample in settled(rows[:some]).samples}
    after = {sample.id: sample.split for sample in settled(rows).samples}
    assert [name for name, side in before.items() if side == "eval" and after.get(name) == "train"] == []
