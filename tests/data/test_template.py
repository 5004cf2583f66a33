"""Templates over a row's columns."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrecipes.data.template import AbsentColumnError, NoTextError, Template


def test_one_field_alone_keeps_the_type() -> None:
    row: dict[str, Any] = {"box": [1, 2], "n": 3, "none": None, "page": {"name": "a", "size": {"w": 4}}}
    assert Template("{box}").value(row) == [1, 2]
    assert Template("{none}").value(row) is None
    assert Template("{page.size}").value(row) == {"w": 4}
    assert Template("{n} of {page.size.w}").value(row) == "3 of 4"
    assert Template("{n}").fill(row) == "3"


def test_fields_are_named_once_and_in_order() -> None:
    assert Template("{b.x} {a} {b.x} {{c}} {a-1} {{{ d }}}").fields == ("b.x", "a", "a-1", " d ")


def test_double_braces_are_braces() -> None:
    assert Template("{{a}} {a}").fill({"a": "}{"}) == "{a} }{"
    assert Template("{{}}").value({}) == "{}"


@pytest.mark.parametrize("name", ["Full Text", "2024", "ответ", "text (v2)", "a.b", " blank", '"a": 1', "x,y", "1.5"])
def test_a_column_of_any_name_is_read(name: str) -> None:
    template = Template("{" + name + "}")
    assert template.value({name: [1]}) == [1]
    assert template.absent({name}) == []
    assert Template("<{" + name + "}>").fill({name: "x"}) == "<x>"


def test_blanks_in_braces_are_nothing_and_the_exact_name_comes_first() -> None:
    row = {"a": {"b": "inner"}, "a.b": "outer", "q": "plain"}
    assert Template("{ q } {\tq\n}").fill(row) == "plain plain"
    assert Template("{a.b} { a.b }").fill(row) == "outer outer"
    assert Template("{ q }{a.b}{b.c}{ z }").absent({"q", "a"}) == ["b.c", "z"]


def test_fields_lead_into_lists() -> None:
    row = {"answers": [{"answer": "yes", "id": 1}, {"answer": "no", "id": 2}]}
    assert Template("{answers.answer}").texts(row) == ["yes", "no"]
    assert Template("{answers.1.answer}").texts(row) == ["no"]
    for absent in ("{answers.2.answer}", "{answers.text}", "{answers.answer.x}"):
        with pytest.raises(AbsentColumnError):
            Template(absent).value(row)


@pytest.mark.parametrize("text", ["{a}", "x {a}", "{b.c}", "{b.c.d}"])
def test_an_absent_column_is_named(text: str) -> None:
    with pytest.raises(AbsentColumnError):
        Template(text).value({"b": {"d": 1}})
    with pytest.raises(AbsentColumnError):
        Template(text).fill({"b": "text"})


@pytest.mark.parametrize(
    ("text", "stray"),
    [
        ("a {b} {{c}} {{{d}}}", ""),
        ("one { more", "{ more"),
        ("a} {b}", "} {b}"),
        ("none {} {b}", "{} {b}"),
        ("{ }", "{ }"),
        ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
    ],
)
def test_braces_of_no_field_are_found(text: str, stray: str) -> None:
    assert Template(text).stray == stray


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        (7, "7"),
        (1.5, "1.5"),
        (True, "True"),
        (None, ""),
        (float("nan"), ""),
        (float("inf"), "inf"),
        ("grün".encode(), "grün"),
        (decimal.Decimal("1.10"), "1.10"),
        (dt.date(2024, 2, 9), "2024-02-09"),
    ],
)
def test_values_become_texts(value: Any, text: str) -> None:
    assert Template("{a}").fill({"a": value}) == text
    assert Template("{a}").texts({"a": [value]}) == ([text] if text else [])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([], "'a' holds a list"),
        (["x"], r"such as \{a\.0\}"),
        ({"n": 1, "b": {"c": ["x"]}}, r"such as \{a\.n\}"),
        ([{"score": 1, "answer": "yes"}], r"such as \{a\.0\.answer\}"),
        (b"\xff\xd8", "'a' holds bytes that are no UTF-8 text"),
    ],
)
def test_what_is_no_text_is_refused_with_the_way_out(value: Any, told: str) -> None:
    with pytest.raises(NoTextError, match=told):
        Template("{ a }").fill({"a": value})
    with pytest.raises(NoTextError, match="'a' holds"):
        Template("{ a }").texts({"a": [value]})


@given(value=st.text())
def test_values_are_never_read_as_templates(value: str) -> None:
    assert Template("<{a}|{b}>").fill({"a": value, "b": "{a}"}) == f"<{value}|{{a}}>"


@given(text=st.text(st.characters(exclude_characters="{}")))
def test_text_without_braces_is_itself(text: str) -> None:
    assert Template(text).fill({}) == text
    assert Template(text).fields == ()


@given(name=st.text(st.characters(exclude_characters="{}"), min_size=1).filter(str.strip))
def test_every_name_without_braces_is_a_field(name: str) -> None:
    assert Template("{" + name + "}").fields == (name,)
    assert Template("{" + name + "}").value({name: 1}) == 1


@given(text=st.text(st.sampled_from("{}a ")))
def test_doubled_braces_give_any_text(text: str) -> None:
    escaped = Template(text.replace("{", "{{").replace("}", "}}"))
    assert (escaped.fill({}), escaped.stray, escaped.fields) == (text, "", ())
