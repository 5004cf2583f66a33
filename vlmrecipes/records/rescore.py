"""Every number of a record computed again from the stored predictions: no store, no model, no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.errors import InputError, Problem
from vlmrecipes.evaluate import metrics
from vlmrecipes.evaluate.score import score
from vlmrecipes.records import ledger, predictions, record
from vlmrecipes.records.scoring import answer, counts

Rows = Sequence[Mapping[str, Any]]
STATED: Mapping[str, type] = {"spec": str, "seed": int, "resamples": int, "by": Mapping}
"""What a recorded summary must say of how it was computed."""
SHOWN = 20
"""Samples listed whose counts differ."""


def rescore(name: str, *, store: str) -> dict[str, Any]:
    """Return the JSON object of `vlmrecipes runs rescore`: `run, equal, metrics, differences`.

    A difference is `{model, metric, key, recorded, found}`; `key` names a value of the summary, or a sample's count.
    Raises InputError for a run that is not there, has no metrics or does not say how they were computed, or whose metric specs
    this version does not know, each by name.
    """
    folder = ledger.find(ledger.home(store), name)
    found = rescored(folder)
    return {"run": folder.name, "equal": not found["differences"], **found}


def rescored(folder: Path) -> dict[str, Any]:
    """Return `metrics`, as a record has them, and `differences` from the record of the run in `folder`."""
    sealed = record.read(folder)
    recorded = sealed["metrics"]
    _check(folder, recorded)
    rows = predictions.read(folder / predictions.NAME).to_pylist()
    results: dict[str, Any] = {}
    differences: list[dict[str, Any]] = []
    for model, summaries in recorded.items():
        own = [row for row in rows if row["model"] == model]
        results[model] = {}
        for name, summary in summaries.items():
            results[model][name], changed = _again(own, name, summary)
            differences += [{"model": model, "metric": name, **each} for each in changed]
    return {"metrics": results, "differences": differences}


def _check(folder: Path, recorded: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise InputError for metrics that cannot be computed again."""
    found = {f"metrics.{model}.{name}": one for model, by in recorded.items() for name, one in by.items()}
    problems = [(key, why) for key, summary in found.items() if (why := _unstated(summary))]
    if not problems:
        specs = dict.fromkeys(summary["spec"] for summary in found.values())
        problems = [("metrics", _unknown(spec)) for spec in specs if spec not in metrics.METRICS]
    if not found:
        problems = [("metrics", "the run has none: there is nothing to compute again")]
    if problems:
        raise InputError([Problem(str(folder / record.NAME), *problem) for problem in problems])


def _unstated(summary: Mapping[str, Any]) -> str:
    lacking = [key for key, kind in STATED.items() if not isinstance(summary.get(key), kind)]
    return f"does not say its {', '.join(lacking)}: it cannot be computed again" if lacking else ""


def _unknown(spec: str) -> str:
    definition = spec.partition("@")[0]
    there = [known for known in metrics.METRICS if known.partition("@")[0] == definition]
    instead = f"it has {', '.join(there)}" if there else "it has no such definition"
    return f"was scored by {spec!r}, which this version does not compute ({instead}): rescore it with the version in the record"


def _again(rows: Rows, name: str, summary: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return one metric computed as its recorded summary says it was, and what differs."""
    spec, seed, resamples = (summary[key] for key in ("spec", "seed", "resamples"))
    answers = [answer(row) for row in rows]
    found, scores = score(answers, [spec], by=list(summary["by"]), seed=seed, resamples=resamples)
    again = json.loads(record.rendered(found[spec]))
    changed = [*_differences(summary, again), *_count_differences(rows, name, {name: scores[spec]})]
    return again, changed


def _differences(recorded: Any, found: Any, key: str = "") -> Iterator[dict[str, Any]]:
    """Yield every recorded value that was not found again; later versions may compute more, and that is no difference."""
    if isinstance(recorded, Mapping) and isinstance(found, Mapping):
        for name, value in recorded.items():
            yield from _differences(value, found.get(name), f"{key}.{name}".lstrip("."))
    elif recorded != found:
        yield {"key": key, "recorded": recorded, "found": found}


def _count_differences(rows: Rows, name: str, scores: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    columns = [f"{name}.{part}" for part in ("numerator", "denominator")]
    found = [
        {"key": f"sample {row['id']} {column.removeprefix(name + '.')}", "recorded": row.get(column), "found": value}
        for place, row in enumerate(rows)
        for column, value in counts(scores, place).items()
        if column in columns and row.get(column) != value
    ]
    yield from found[:SHOWN]
    if len(found) > SHOWN:
        yield {"key": "samples", "recorded": None, "found": f"{len(found) - SHOWN} more counts differ"}
