"""Two sides in depth: differences, tests, and where they come from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vlmrecipes.compare.sides import Common, Row, Side, lower_is_better
from vlmrecipes.evaluate.metrics import Score, resolve
from vlmrecipes.evaluate.paired import compare, counts, mcnemar
from vlmrecipes.evaluate.student import paired_t

MOST_LABELS = 20
"""A metadata column with more values than this is a name, not a kind, and breaks nothing down."""
PART_RESAMPLES = 2000
TOLD = ("a", "b", "difference", "low", "high", "p", "better", "worse", "verdict")
"""What is said of a part of the samples."""

Scores = Mapping[str, Sequence[Score]]
Sizes = Mapping[str, tuple[int, int]]


def differences(a: Scores, b: Scores, clusters: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return for each metric `a, b, difference, low, high, p, better, worse, equal, n, …, verdict`.

    `verdict` is `better` or `worse` when b differs from a with p under 0.05, else `unclear`. Metrics that are right or
    wrong on every sample also get McNemar's exact test, `mcnemar: {only_a, only_b, p}`, and means of scores Student's test as
    other tools print it, `paired_t: {t, p, low, high}`, which takes every sample for independent.
    """
    found = {}
    for name in a:
        lower = lower_is_better(name)
        metric = resolve(name)
        paired = asdict(compare(counts(metric, a[name]), counts(metric, b[name]), clusters, lower_is_better=lower))
        found[name] = paired | {"better_is": "lower" if lower else "higher"}
        right = [[one.numerator == 1.0 for one in side[name]] for side in (a, b)]
        if not lower and all(one.numerator in (0.0, 1.0) for side in (a, b) for one in side[name]):
            test = mcnemar(*right)
            found[name]["mcnemar"] = {"only_a": test.only_a, "only_b": test.only_b, "p": test.p}
        if metric.bounded and len(clusters) > 1:
            found[name]["paired_t"] = _paired_t(a[name], b[name])
    return found


def _paired_t(a: Sequence[Score], b: Sequence[Score]) -> dict[str, float | None]:
    test = paired_t([one.numerator for one in b], [one.numerator for one in a])
    return {"t": test.t if math.isfinite(test.t) else None, "p": test.p, "low": test.low, "high": test.high}


def breakdown(a: Scores, b: Scores, side: Side, common: Common, sizes: Sizes) -> dict[str, dict[str, Any]]:
    """Return column → label → `{n, metrics: {name: {a, b, difference, low, …, verdict}}}` for columns that divide the samples.

    Columns are split, source, snapshot, the metadata of few values, and thirds of reference length and of image size.
    """
    rows = [side.rows[key] for key in common.ids]
    found = {}
    for column, labels in _columns(rows, sizes).items():
        groups: dict[str, list[int]] = {}
        for place, label in enumerate(labels):
            groups.setdefault(label, []).append(place)
        if 1 < len(groups) <= MOST_LABELS:
            # Labels of thirds come in their own order, others by size.
            order = sorted(groups, key=lambda label: (label[:1] not in "123", -len(groups[label]), label))
            order = sorted(groups) if column in THIRDS else order
            found[column] = {label: _part(a, b, rows, groups[label]) for label in order}
    return found


def _part(a: Scores, b: Scores, rows: Sequence[Row], places: Sequence[int]) -> dict[str, Any]:
    clusters = [rows[place]["group"] for place in places]
    metrics = {}
    for name in a:
        before, after = (counts(resolve(name), [side[name][place] for place in places]) for side in (a, b))
        lower = lower_is_better(name)
        found = compare(before, after, clusters, lower_is_better=lower, resamples=PART_RESAMPLES)
        metrics[name] = {key: getattr(found, key) for key in TOLD}
    return {"n": len(places), "metrics": metrics}


LENGTH, SIZE = "reference length", "image size"
THIRDS = (LENGTH, SIZE)


def _columns(rows: Sequence[Row], sizes: Sizes) -> dict[str, list[str]]:
    """Return a label for every row by column."""
    fixed = {name: [str(row.get(name) or "") for row in rows] for name in ("split", "source", "snapshot")}
    metadata = [json.loads(row["metadata"] or "{}") for row in rows]
    names = dict.fromkeys(name for one in metadata for name in one)
    free = {name: [str(one.get(name, "(none)")) for one in metadata] for name in names if name not in fixed}
    lengths = [max(len(text) for text in row["references"]) for row in rows]
    columns = fixed | free | {LENGTH: _thirds(lengths, "characters")}
    pixels = [max((w * h for key in row["images"] if key in sizes for w, h in [sizes[key]]), default=0) for row in rows]
    return columns | {SIZE: _thirds(pixels, "pixels")} if any(pixels) else columns


def _thirds(values: Sequence[int], unit: str) -> list[str]:
    """Return for each value which third it is in, by its bounds; equal values stay together."""
    ordered = sorted(values)
    cuts = [ordered[len(ordered) * third // 3] for third in (1, 2)]
    place: Callable[[int], int] = lambda value: (value >= cuts[0]) + (value >= cuts[1] and cuts[1] > cuts[0])  # noqa: E731
    members = [[value for value in values if place(value) == third] for third in range(3)]
    labels = [f"{min(some):,} to {max(some):,} {unit}" if some else "" for some in members]
    ranks = ("short", "middle", "long") if unit == "characters" else ("small", "middle", "large")
    return [f"{place(value) + 1} {ranks[place(value)]}: {labels[place(value)]}" for value in values]


def gains(a: Scores, b: Scores, metric: str) -> list[float]:
    """Return how much closer b is than a on each sample, in errors or points; negative where it got worse."""
    sign = 1.0 if lower_is_better(metric) else -1.0
    return [sign * (one.numerator - other.numerator) for one, other in zip(a[metric], b[metric], strict=True)]
