"""Answers scored: sums, intervals and groups by metric, and what each sample added."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from vlmrecipes.errors import InputError, Problem
from vlmrecipes.evaluate.interval import interval, interval_of
from vlmrecipes.evaluate.metrics import Metric, Score, resolve
from vlmrecipes.evaluate.resample import Draws
from vlmrecipes.evaluate.text import ws

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

NO_LABEL = "(none)"
"""The group of rows that lack a `by` column which other rows have."""
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One row to score."""

    id: str
    prediction: str | None
    """None when generation failed: scores worst, is counted, never dropped."""
    references: tuple[str, ...]
    cluster: str
    """The image or group: rows that share it are resampled together."""
    labels: Mapping[str, str]
    """Values of the columns to group by."""


def score(  # noqa: PLR0913 - what is scored, how, and how sure
    answers: Sequence[Answer],
    metrics: Sequence[str],
    *,
    by: Sequence[str] = (),
    seed: int = 0,
    resamples: int = 10_000,
    on_progress: Callable[[int], object] = lambda _: None,
) -> tuple[dict[str, dict[str, Any]], dict[str, list[Score]]]:
    """Return the summary of each metric, and each row's `Score`; both keyed by the names in `metrics` as given.

    A summary is plain JSON: `spec, signature, value, low, high, n, numerator, denominator, macro, median, failed, empty,
    method, resamples, seed, better, by`, and for error rates `hits, substitutions, deletions, insertions`. `value` is the
    ratio of the sums (micro), `macro` and `median` are over the samples' own values; a number that is not defined is None.
    `failed` counts rows without a prediction, `empty` those whose prediction is blank. `on_progress` is called with the
    number of rows scored since the last call; every row is scored once by each metric.

    Raises InputError with everything that speaks against it: unknown metrics, rows without references, columns that no
    row has, and metrics that mean nothing on these references. Raises MissingExtraError for BLEU and chrF without sacreBLEU.
    """
    chosen = _accepted(answers, metrics, by)
    draws, blank = Draws(seed, resamples), _blank(answers)
    rows, summaries = {}, {}
    for name, metric in chosen.items():
        rows[name] = score_all(metric, answers, on_progress)
        summaries[name] = _summary(metric, list(zip(answers, rows[name], strict=True)), by, draws) | blank
    return summaries, rows


def _blank(answers: Sequence[Answer]) -> dict[str, int]:
    predictions = [answer.prediction for answer in answers]
    empty = sum(prediction is not None and not ws(prediction) for prediction in predictions)
    return {"failed": predictions.count(None), "empty": empty}


def score_all(
    metric: Metric, answers: Sequence[Answer], on_progress: Callable[[int], object] = lambda _: None
) -> list[Score]:
    """Return what each row adds. Raises InputError with every row on which the definition has no value."""
    if metric.corpus is not None:
        on_progress(len(answers))
        return metric.corpus([answer.prediction or "" for answer in answers], [answer.references for answer in answers])
    scores, problems = [], []
    for answer in answers:
        try:
            scores.append(score_one(metric, answer))
        except ValueError as error:
            problems.append(Problem("", f"{metric.spec} of {answer.id}", str(error)))
        on_progress(1)
    if problems:
        raise InputError(problems)
    return scores


def score_one(metric: Metric, answer: Answer) -> Score:
    """Return what one row adds."""
    if answer.prediction is None:
        return metric.failed(answer.references)
    return metric.score(answer.prediction, answer.references)


def _accepted(answers: Sequence[Answer], names: Sequence[str], by: Sequence[str]) -> dict[str, Metric]:
    """Return the metrics by the names asked for. Raises InputError with all problems."""
    problems = [*_no_references(answers), *_unknown_columns(answers, by)]
    references = [answer.references for answer in answers]
    chosen = {}
    for name in dict.fromkeys(names):
        try:
            chosen[name] = resolve(name)
        except ValueError as error:
            problems.append(Problem("", "metrics", str(error)))
            continue
        if reason := chosen[name].refusal(references):
            problems.append(Problem("", "metrics", f"{name} refused: {reason}"))
    if problems:
        raise InputError(problems)
    return chosen


def _no_references(answers: Sequence[Answer]) -> list[Problem]:
    bare = [answer.id for answer in answers if not answer.references]
    if not bare:
        return []
    shown = ", ".join(bare[:_SHOWN]) + (", …" if len(bare) > _SHOWN else "")
    return [
        Problem("", "references", f"{len(bare)} of {len(answers)} rows have no references ({shown}); give or drop them")
    ]


def _unknown_columns(answers: Sequence[Answer], by: Sequence[str]) -> list[Problem]:
    columns = sorted({column for answer in answers for column in answer.labels})
    known = f"known: {', '.join(columns)}" if columns else "the rows have no columns to group by"
    missing = [column for column in by if answers and column not in columns]
    return [Problem("", "by", f"no row has the column {column!r} ({known})") for column in missing]


Scored = tuple[Answer, Score]


def _summary(metric: Metric, rows: Sequence[Scored], by: Sequence[str], draws: Draws) -> dict[str, Any]:
    scores = [one for _, one in rows]
    rates = [metric.rate(one) for one in scores]
    return {
        "spec": metric.spec,
        "signature": metric.signature,
        **_estimate(metric, rows, draws),
        "numerator": math.fsum(one.numerator for one in scores),
        "denominator": math.fsum(one.denominator for one in scores),
        **_detail(scores),
        "macro": fmean(rates) if rates else None,
        "median": median(rates) if rates else None,
        "resamples": draws.resamples,
        "seed": draws.seed,
        "better": metric.better,
        "by": {column: _groups(metric, rows, column, draws) for column in by},
    }


def _estimate(metric: Metric, rows: Sequence[Scored], draws: Draws) -> dict[str, Any]:
    """Return `value, low, high, n, method` of some rows."""
    numerators, denominators = [one.numerator for _, one in rows], [one.denominator for _, one in rows]
    clusters = [answer.cluster for answer, _ in rows]
    if metric.whole is not None and rows:
        return _whole_estimate(metric, rows, clusters, draws)
    value = metric.value(math.fsum(numerators), math.fsum(denominators)) if rows else None
    found = interval(clusters, numerators, denominators, bounded=metric.bounded, draws=draws)
    return {"value": value, "low": found.low, "high": found.high, "n": len(rows), "method": found.method}


def _whole_estimate(metric: Metric, rows: Sequence[Scored], clusters: Sequence[str], draws: Draws) -> dict[str, Any]:
    """Return the same for a value that is another function of summed counts."""
    keys = sorted(rows[0][1].detail)
    columns = [[float(one.detail[key]) for _, one in rows] for key in keys]
    found = interval_of(partial(metric.of_totals, keys), clusters, columns, draws=draws)
    estimate = metric.of_totals(keys, [math.fsum(column) for column in columns])
    return {"value": estimate, "low": found.low, "high": found.high, "n": len(rows), "method": found.method}


def _groups(metric: Metric, rows: Sequence[Scored], column: str, draws: Draws) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Scored]] = {}
    for row in rows:
        groups.setdefault(row[0].labels.get(column, NO_LABEL), []).append(row)
    return {label: _estimate(metric, groups[label], draws) for label in sorted(groups)}


def _detail(scores: Sequence[Score]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for one in scores:
        for key, count in one.detail.items():
            sums[key] += count
    return dict(sorted(sums.items()))
