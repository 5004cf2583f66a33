"""Samples and their Arrow columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmrecipes.data.sample import Sample, from_table, sample_schema, to_table

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
PART = st.one_of(st.just({"type": "image"}), TEXT.map(lambda text: {"type": "text", "text": text}))
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]), "content": st.lists(PART, max_size=3)}
)
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT)
SAMPLES = st.builds(
    Sample,
    id=HEX.map(lambda text: text[:32]),
    images=st.lists(HEX, max_size=3).map(tuple),
    messages=st.lists(MESSAGE, max_size=3).map(tuple),
    references=st.lists(TEXT, min_size=1, max_size=3).map(tuple),
    group=TEXT,
    split=st.sampled_from(["train", "eval"]),
    source=TEXT,
    metadata=st.dictionaries(TEXT, SCALAR, max_size=3),
)
ONE = Sample(
    id="0" * 32,
    images=("1" * 64, "2" * 64),
    messages=({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Read."}]},),
    references=("a", "b"),
    group="g",
    split="train",
    source="s",
    metadata={"page": 1},
)


@settings(deadline=None)
@given(samples=st.lists(SAMPLES, max_size=5))
def test_samples_come_back_from_their_table_as_they_were(samples: list[Sample]) -> None:
    table = to_table(samples)
    assert table.schema == sample_schema()
    assert from_table(table) == samples
    assert table["digest"].to_pylist() == [sample.digest() for sample in from_table(table)]


@pytest.mark.parametrize(
    "change",
    [
        {"id": "3" * 32},
        {"images": ("1" * 64,)},
        {"images": ("2" * 64, "1" * 64)},
        {"messages": ({"role": "user", "content": [{"type": "text", "text": "Read."}, {"type": "image"}]},)},
        {"references": ("b", "a")},
        {"group": "h"},
        {"split": "eval"},
        {"source": "t"},
        {"metadata": {"page": "1"}},
        {"metadata": {"page": None}},
    ],
)
def test_the_digest_changes_with_every_field(change: dict[str, Any]) -> None:
    assert replace(ONE, **change).digest() != ONE.digest()


def test_the_digest_is_the_same_in_every_version() -> None:
    assert ONE.digest() == "1af15af92d61cfd956239c752c84f02110231b6b84f9b617839057411e58c06a"


@given(references=st.lists(st.sampled_from("abc"), min_size=1))
def test_the_answer_is_the_commonest_reference_and_the_first_of_equals(references: list[str]) -> None:
    answer = replace(ONE, references=tuple(references)).answer
    most = max(references.count(text) for text in references)
    assert answer == next(text for text in references if references.count(text) == most)
