"""What tuning changed, sample by sample: the tuned model against the untuned one on the same samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmrecipes.page import charts, formats

if TYPE_CHECKING:
    from vlmrecipes.evaluate.metric import Metric
    from vlmrecipes.evaluate.paired import Counts, Paired

Row = Mapping[str, Any]


def gains(rows: Sequence[Row], better: Mapping[str, str]) -> Iterator[tuple[str, Paired]]:
    """Yield `(metric, tuned against base)` for rows of predictions.parquet with their counts; nothing for one model alone.

    `better` says for each metric whether `lower` or `higher` is. Samples that only one model answered are left out.
    """
    from vlmrecipes.evaluate.paired import compare

    base, tuned = ({row["id"]: row for row in rows if row["model"] == model} for model in ("base", "tuned"))
    both = [key for key in base if key in tuned]
    if not both:
        return
    for name, which in better.items():
        before, after = (_counts([side[key] for key in both], name) for side in (base, tuned))
        clusters = [str(base[key]["group"]) for key in both]
        yield name, compare(before, after, clusters, lower_is_better=which == "lower")


def _counts(rows: Sequence[Row], name: str) -> Counts:
    from vlmrecipes.evaluate.paired import Counts, counts
    from vlmrecipes.evaluate.score import Answer, score_all

    if (metric := _no_ratio(name)) is None:
        return Counts([row[f"{name}.numerator"] for row in rows], [row[f"{name}.denominator"] for row in rows])
    answers = [
        Answer(id=row["id"], prediction=row["prediction"], references=tuple(row["references"]), cluster="", labels={})
        for row in rows
    ]
    return counts(metric, score_all(metric, answers))  # the counts that it is made of are not stored


def _no_ratio(name: str) -> Metric | None:
    """Return the metric if its value is no ratio of the stored counts; None for others, and those of another version."""
    from vlmrecipes.evaluate.metrics import resolve

    with suppress(ValueError):
        return metric if (metric := resolve(name)).whole else None
    return None


@dataclass(frozen=True, slots=True)
class Gain:
    """What tuning changed by one metric, held sample by sample."""

    name: str
    verdict: str
    """`better`, `worse` or `unclear`."""
    sentence: str
    test: str
    shares: tuple[charts.Share, ...]
    plot: charts.Spans | None


def told(name: str, found: Paired) -> Gain:
    """Return a paired comparison of base and tuned as a report tells it."""
    from vlmrecipes.evaluate.paired import too_few

    low, high, change, verdict = found.low, found.high, found.difference, found.verdict
    value = "cannot be computed" if change is None else formats.change(change, low, high)
    samples = f"{formats.count(found.n)} samples in {formats.count(found.clusters)} groups"
    tested = "" if found.p is None else f", permutation p {formats.p_value(found.p)}"
    return Gain(
        name=name,
        verdict=verdict,
        sentence={"unclear": "no clear change"}.get(verdict, f"tuned is {verdict}") + f": {value}",
        test="; ".join(part for part in (samples + tested, too_few(found.clusters)) if part),
        shares=charts.shares([("worse", found.worse), ("equal", found.equal), ("better", found.better)]),
        plot=None if low is None or high is None or change is None else charts.spans([("change", low, change, high)]),
    )
