"""Which predictions a report shows, and how."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmrecipes.page import difference
from vlmrecipes.page.formats import TIMES, number

if TYPE_CHECKING:
    import pyarrow as pa

MOST_PICTURES = 4
"""Pictures shown of one sample."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model said about a sample."""

    model: str
    pieces: difference.Pieces
    score: str
    failed: bool
    truncated: bool


@dataclass(frozen=True, slots=True)
class Example:
    """One sample with its predictions."""

    id: str
    prompt: str
    reference: difference.Pieces
    """The reference that the shown model came closest to, marked where its prediction lacks it."""
    others: tuple[str, ...]
    """The other accepted references, `red` with how often it was given."""
    answers: tuple[Answer, ...]
    images: tuple[str, ...]
    more_images: int
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Examples chosen for one reason."""

    title: str
    note: str
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """Where a sample stands: how wrong it is (0 is right, more is worse), and its rows in the table."""

    id: str
    error: float
    base_error: float | None
    size: float
    row: int
    base_row: int | None


def groups(table: pa.Table, metric: str, best: float, most: int) -> list[Group]:
    """Return at most `most` worst, improved, worsened and best samples by `metric`; a sample is shown once.

    `best` is the value of a sample with nothing wrong. The shown model is `tuned`, or the only one there is.
    """
    ranked = _ranked(table, metric, best)
    seen: set[str] = set()
    found = []
    for title, note, wanted, order, limit in _choices(most):
        left = sorted((row for row in ranked if row.id not in seen and wanted(row)), key=order)[:limit]
        seen.update(row.id for row in left)
        if left:
            found.append(Group(title, note, tuple(example(_rows(table, row), metric) for row in left)))
    return found


Choice = tuple[str, str, Callable[[_Row], bool], Callable[[_Row], tuple[Any, ...]], int]


def _choices(most: int) -> list[Choice]:
    half = (most + 1) // 2
    worst = ("Worst", "the highest error of all", lambda row: row.error > 0, lambda row: (-row.error, -row.size), most)
    improved = ("Most improved", "the largest gain over the base model", lambda row: _gain(row) > 0, _by_gain, most)
    worsened = ("Got worse", "the base model was closer", lambda row: _gain(row) < 0, _by_loss, half)
    best = (
        "Best",
        "no or least error, longest first",
        lambda _: True,
        lambda row: (row.error, -row.size, row.id),
        half,
    )
    return [worst, improved, worsened, best]


def _by_gain(row: _Row) -> tuple[Any, ...]:
    return -_gain(row), -row.size, row.id


def _by_loss(row: _Row) -> tuple[Any, ...]:
    return _gain(row), -row.size, row.id


def _gain(row: _Row) -> float:
    return 0.0 if row.base_error is None else row.base_error - row.error


def _ranked(table: pa.Table, metric: str, best: float) -> list[_Row]:
    columns = ("model", "id", "prediction", f"{metric}.numerator", f"{metric}.denominator")
    lists = [table.column(column).to_pylist() for column in columns]
    by_model: dict[str, dict[str, tuple[int, float, float]]] = {}
    for index, (model, sample, said, top, bottom) in enumerate(zip(*lists, strict=True)):
        error = _error(top, bottom, best) if said is not None else math.inf
        by_model.setdefault(model, {})[sample] = (index, error, bottom or 0.0)
    base = by_model.get("base", {})
    shown = by_model.get("tuned") or base
    before = base if shown is not base else {}
    return [
        _Row(
            sample, error, before[sample][1] if sample in before else None, size, index, before.get(sample, (None,))[0]
        )
        for sample, (index, error, size) in shown.items()
    ]


def _error(top: float | None, bottom: float | None, best: float) -> float:
    if top is None or bottom is None:
        return math.inf
    return abs(best - (top / bottom if bottom else top))


def _rows(table: pa.Table, row: _Row) -> list[dict[str, Any]]:
    places = [place for place in (row.base_row, row.row) if place is not None]
    return [table.slice(place, 1).to_pylist()[0] for place in places]


def example(rows: Sequence[Mapping[str, Any]], metric: str) -> Example:
    """Return what models said about one sample: `rows` of predictions.parquet, the model that is shown last."""
    shown = rows[-1]
    references = shown["references"] or []
    reference = difference.closest(shown["prediction"] or "", references)
    pieces = difference.marked(reference, shown["prediction"] or "")[0]
    images = tuple(shown["images"] or ())
    return Example(
        id=shown["id"],
        prompt=_clipped(shown["prompt"] or ""),
        reference=pieces if shown["prediction"] is not None else difference.plain(reference),
        others=_others(references, reference),
        answers=tuple(_answer(said, reference, metric) for said in rows),
        images=images[:MOST_PICTURES],
        more_images=max(0, len(images) - MOST_PICTURES),
        facts=tuple(_facts(shown)),
    )


def _answer(row: Mapping[str, Any], reference: str, metric: str) -> Answer:
    said = row["prediction"]
    top, bottom = row[f"{metric}.numerator"], row[f"{metric}.denominator"]
    score = f"{metric} {number(top / bottom if bottom else top)}" if top is not None else ""
    pieces = difference.marked(reference, said)[1] if said is not None else ()
    return Answer(row["model"], pieces, score, said is None, bool(row["truncated"]))


def _others(references: Sequence[str], shown: str) -> tuple[str, ...]:
    counts = Counter(references)
    counts.pop(shown, None)
    return tuple(_clipped(text) + (f" {TIMES}{count}" if count > 1 else "") for text, count in counts.most_common(10))


def _facts(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [(name, row[name]) for name in ("source", "group", "split") if row[name]]
    facts += [("tokens", str(row["tokens"]))] if row["tokens"] is not None else []
    return [(_clipped(name), _clipped(str(value))) for name, value in facts + _metadata(row["metadata"])]


def _metadata(text: str | None) -> list[tuple[str, str]]:
    try:
        values = json.loads(text or "{}")
    except ValueError:
        return [("metadata", text or "")]
    return [(str(key), str(value)) for key, value in values.items()][:12] if isinstance(values, dict) else []


def _clipped(text: str) -> str:
    return "".join(piece.text for piece in difference.plain(text))
