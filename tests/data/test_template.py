"""Templates over a row's columns."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrecipes.data.template import AbsentColumnError, Template


def test_one_field_alone_keeps_the_type() -> None:
    row: dict[str, Any] = {"box": [1, 2], "n": 3, "none": None, "page": {"name": "a", "size": {"w": 4}}}
    assert Template("{box}").value(row) == [1, 2]
    assert Template("{none}").value(row) is None
    assert Template("{page.size}").value(row) == {"w": 4}
    assert Template("{n} of {page.size.w}").value(row) == "3 of 4"
    assert Template("{n}").fill(row) == "3"


def test_columns_are_named_once_and_in_order() -> None:
    assert Template("{b.x} {a} {b.y} {{c}} {a-1}").columns == ("b", "a", "a-1")


def test_double_braces_are_braces() -> None:
    assert Template("{{a}} {a}").fill({"a": "}{"}) == "{a} }{"
    assert Template("{{}}").value({}) == "{}"


@pytest.mark.parametrize("text", ["{a}", "x {a}", "{b.c}", "{b.c.d}"])
def test_an_absent_column_is_named(text: str) -> None:
    with pytest.raises(AbsentColumnError):
        Template(text).value({"b": {"d": 1}})
    with pytest.raises(AbsentColumnError):
        Template(text).fill({"b": "text"})


@given(value=st.text())
def test_values_are_never_read_as_templates(value: str) -> None:
    assert Template("<{a}|{b}>").fill({"a": value, "b": "{a}"}) == f"<{value}|{{a}}>"


@given(text=st.text(st.characters(exclude_characters="{}")))
def test_text_without_braces_is_itself(text: str) -> None:
    assert Template(text).fill({}) == text
    assert Template(text).columns == ()
