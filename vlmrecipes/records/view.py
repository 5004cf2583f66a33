"""What a report says about a run: a record turned into lines of text, ready to be laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmrecipes.page import charts, formats
from vlmrecipes.records.predictions import MODELS

Pair = tuple[str, str]
MOST_VALUES = 40
"""Values of one breakdown that a report lists."""


@dataclass(frozen=True, slots=True)
class Score:
    """One model's value of a metric."""

    model: str
    value: str
    interval: str
    macro: str
    counts: str
    method: str


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric before and after."""

    name: str
    spec: str
    better: str
    n: str
    scores: tuple[Score, ...]
    change: str
    improved: bool | None
    """None where there is nothing to compare, or nothing changed."""
    plot: charts.Spans | None


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Every metric by the values of one metadata column."""

    column: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Table:
    """A small table: a title, a head, rows."""

    title: str
    rows: tuple[Pair, ...]


def metrics(record: Mapping[str, Any]) -> list[Metric]:
    """Return the metrics of a record in its order."""
    scores = _scores(record)
    names = dict.fromkeys(name for by_name in scores.values() for name in by_name)
    return [_metric(name, {model: by[name] for model, by in scores.items() if name in by}) for name in names]


def primary(record: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the first metric's name and its best value; None where nothing was scored."""
    from vlmrecipes.evaluate.metrics import best

    for by_name in reversed(_scores(record).values()):
        for name, metric in by_name.items():
            return name, best(str(metric.get("spec") or ""), str(metric.get("better") or "lower"))
    return None


def _scores(record: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    found = record.get("metrics") or {}
    return {model: found[model] for model in MODELS if found.get(model)}


def _metric(name: str, by_model: Mapping[str, dict[str, Any]]) -> Metric:
    last = list(by_model.values())[-1]
    better = str(last.get("better") or "lower")
    change, improved = _change([metric.get("value") for metric in by_model.values()], better)
    return Metric(
        name=name,
        spec=str(last.get("spec") or name),
        better=better,
        n=formats.count(last.get("n")),
        scores=tuple(_score(model, metric) for model, metric in by_model.items()),
        change=change,
        improved=improved,
        plot=_plot(by_model),
    )


def _score(model: str, metric: dict[str, Any]) -> Score:
    top, bottom = metric.get("numerator"), metric.get("denominator")
    method = [str(metric[key]) for key in ("method",) if metric.get(key)]
    method += [f"{formats.count(metric['resamples'])} resamples"] if metric.get("resamples") else []
    method += [f"seed {metric['seed']}"] if metric.get("seed") is not None else []
    return Score(
        model=model,
        value=formats.number(metric.get("value")),
        interval=formats.interval(metric),
        macro=formats.number(metric.get("macro")),
        counts="" if top is None or bottom is None else f"{_amount(top)} / {_amount(bottom)}",
        method=", ".join(method),
    )


def _amount(value: float) -> str:
    return formats.number(value, 0 if float(value).is_integer() else 2)


def _change(values: Sequence[Any], better: str) -> tuple[str, bool | None]:
    if len(values) < len(MODELS) or any(value is None for value in values):
        return "", None
    before, after = values
    if before == after:
        return "no change", None
    share = f" ({formats.signed_percent((after - before) / before)})" if before else ""
    return f"{formats.signed(after - before)}{share}", (after < before) == (better == "lower")


def _plot(by_model: Mapping[str, dict[str, Any]]) -> charts.Spans | None:
    rows = []
    for model, metric in by_model.items():
        if (value := metric.get("value")) is not None:
            low, high = metric.get("low"), metric.get("high")
            rows.append((model, value if low is None else low, value, value if high is None else high))
    return charts.spans(rows) if rows else None


def breakdowns(record: Mapping[str, Any]) -> list[Breakdown]:
    """Return a table for each column that metrics were broken down by."""
    scores = _scores(record)
    parts = [(model, name, metric.get("by") or {}) for model, by in scores.items() for name, metric in by.items()]
    names = [metric.name for metric in metrics(record)]
    parts.sort(key=lambda part: names.index(part[1]))
    columns = dict.fromkeys(column for _, _, by in parts for column in by)
    return [
        _breakdown(column, [(model, name, by.get(column) or {}) for model, name, by in parts]) for column in columns
    ]


def _breakdown(column: str, parts: Sequence[tuple[str, str, Mapping[str, Any]]]) -> Breakdown:
    sizes: dict[str, int] = {}
    for _, _, by in parts:
        sizes |= {value: cell.get("n") or 0 for value, cell in by.items()}
    values = sorted(sizes, key=lambda value: (-sizes[value], value))
    shown = values[:MOST_VALUES]
    rows = tuple((value, formats.count(sizes[value]), *(_cell(by.get(value)) for _, _, by in parts)) for value in shown)
    heads = ("n", *(f"{name} {model}" for model, name, _ in parts))
    return Breakdown(column, heads, rows, len(values) - len(shown))


def _cell(cell: Mapping[str, Any] | None) -> str:
    return formats.number(None if cell is None else cell.get("value"))


def settings(record: Mapping[str, Any]) -> list[Table]:
    """Return the resolved recipe, a table for each of its tables."""
    resolved = (record.get("recipe") or {}).get("resolved") or {}
    top = tuple((key, formats.setting(value)) for key, value in resolved.items() if not isinstance(value, dict))
    parts = {key: value for key, value in resolved.items() if isinstance(value, dict)}
    tables = [
        Table(f"[{name}]", tuple((key, formats.setting(item)) for key, item in part.items()))
        for name, part in parts.items()
    ]
    return ([Table("recipe", top)] if top else []) + tables


def generation(record: Mapping[str, Any]) -> list[Table]:
    """Return how each model's predictions were made."""
    found = record.get("generate") or {}
    return [
        Table(model, tuple((key.replace("_", " "), formats.setting(value)) for key, value in found[model].items()))
        for model in MODELS
        if found.get(model)
    ]


def facts(record: Mapping[str, Any]) -> list[Pair]:
    """Return the few facts of the summary."""
    model, train, plan = record.get("model") or {}, record.get("train") or {}, record.get("plan") or {}
    parameters = model.get("parameters") or {}
    pairs = [
        ("data", ", ".join(dict.fromkeys(str(part.get("snapshot")) for part in record.get("data") or []))),
        ("model", str(model.get("id") or "")),
        ("trained", _trained(parameters)),
        ("steps", formats.count(train.get("steps") or plan.get("steps"))),
        ("mean reward", _reward(train.get("rewards") or {})),
        ("time", formats.duration(record.get("seconds"))),
        ("started", formats.moment(record.get("created"))),
    ]
    return [(key, value) for key, value in pairs if value not in ("", formats.NOTHING)]


def _reward(rewards: Mapping[str, Any]) -> str:
    if rewards.get("first") is None:
        return ""
    names = ", ".join(f"{formats.number(term['weight'], 2)} × {term['name']}" for term in rewards["terms"])
    return f"{formats.number(rewards['first'])} → {formats.number(rewards['last'])} ({names})"


def _trained(parameters: Mapping[str, Any]) -> str:
    total, trainable = parameters.get("total"), parameters.get("trainable")
    if not total or trainable is None:
        return ""
    share = formats.number(100 * trainable / total, 2)
    return f"{formats.count(trainable)} of {formats.count(total)} parameters ({share} %)"
