import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmrecipes.errors import InputError
from vlmrecipes.evaluate import teds
from vlmrecipes.evaluate.score import Answer, score
from vlmrecipes.evaluate.student import paired_t

PARTS = [
    "<table>",
    "</table>",
    "<tr>",
    "</tr>",
    "<td>",
    "<td colspan=2>",
    "</td>",
    "<th>",
    "<b>",
    "</b>",
    "<br>",
    "a",
    "b c",
]
PARTS += [
    "<thead>",
    "<tbody>",
    "<div>",
    "</div>",
    "<p>",
    "<![x[",
    "<!--",
    "&amp;",
    "<td rowspan='99999999999999999999'>",
]
MARKUP = st.lists(st.sampled_from(PARTS), max_size=20).map(lambda parts: "<table>" + "".join(parts))


def grid(rows: int, columns: int, text: str = "x") -> str:
    return "<table>" + "".join("<tr>" + f"<td>{text}</td>" * columns + "</tr>" for _ in range(rows)) + "</table>"


@settings(deadline=None, max_examples=150)
@given(one=MARKUP, other=MARKUP)
def test_any_markup_has_a_value_that_does_not_depend_on_the_side(one: str, other: str) -> None:
    sides = [table for table in map(teds.table, (one, other)) if table is not None and table.size]
    if len(sides) < 2:
        return
    there, back = teds.teds(one, [other]), teds.teds(other, [one])
    assert 0.0 <= there <= 1.0
    assert there == pytest.approx(back, abs=1e-9)
    assert teds.teds(one, [one]) == 1.0
    assert teds.teds(one, [other], structure=True) >= there - 1e-9


def test_the_best_reference_counts() -> None:
    assert teds.teds(grid(2, 2), [grid(1, 1), grid(2, 2)]) == 1.0


def test_edits_beyond_the_larger_table_score_0() -> None:
    assert teds.teds("<table><thead><tr><td></table>", ["<table><tr></tr><tr></tr><tr></tr></table>"]) == 0.0


def test_a_runaway_prediction_is_not_compared() -> None:
    assert teds.teds(grid(5000, 2), [grid(2, 2)]) == 0.0
    with pytest.raises(ValueError, match="at most 2000"):
        teds.teds(grid(2, 2), [grid(5000, 2)])


def test_scored_by_name_and_refused_without_tables() -> None:
    rows = [
        Answer(id=str(n), prediction=text, references=(grid(2, 2),), cluster=str(n), labels={})
        for n, text in enumerate([grid(2, 2), grid(2, 2, "y"), None])
    ]
    found, _ = score(rows, ["teds", "teds/structure"], resamples=10)
    assert found["teds"]["value"] == pytest.approx((1 + 1 - 4 / 6) / 3)
    assert found["teds/structure"]["value"] == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="no reference holds an HTML table"):
        score([Answer(id="1", prediction="a", references=("a",), cluster="1", labels={})], ["teds"])


def test_t_of_many_samples_is_that_of_a_normal_distribution() -> None:
    found = paired_t([0.0, 1.0] * 20_000, [0.0] * 40_000)
    assert (found.high - found.mean) / found.error == pytest.approx(1.959964, abs=1e-4)
    assert found.p < 1e-300
