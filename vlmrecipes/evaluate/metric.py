"""What a metric is: a pinned definition that counts before it divides.

A sample gives a numerator and a denominator, and the value over many samples is the sum of the one over the sum of the
other, but for the few metrics (BLEU, chrF) whose published definition is another function of summed counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from vlmrecipes.evaluate.error_rate import ratio

References = Sequence[Sequence[str]]
"""The references of every row to be scored."""
Better = Literal["lower", "higher"]


NOTHING: Mapping[str, Any] = MappingProxyType({})


class Score(NamedTuple):
    """What one sample adds to a metric."""

    numerator: float
    """Errors in words or characters; or the score of an answer."""
    denominator: float
    """Words or characters of the reference; 1 for an answer."""
    detail: Mapping[str, int] = NOTHING
    """`hits, substitutions, deletions, insertions` for error rates, else empty, or what `Metric.whole` takes."""


def accepts(_: References) -> None:
    """Refuse nothing."""


def unsigned() -> str:
    """Return no further part of a signature."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A pinned definition."""

    spec: str
    """As `cer/ws@1`: what goes into a record beside every number."""
    definition: str
    """One line for people."""
    better: Better
    score: Callable[[str, Sequence[str]], Score]
    """Takes a prediction and its references. Raises ValueError where the definition has no value."""
    refusal: Callable[[References], str | None] = accepts
    """Says why this metric means nothing on these references; None if it does."""
    most: float = 1.0
    """The best score of a sample by a metric of which more is better."""
    bounded: bool = False
    """Whether each sample's score is in [0, 1] over a denominator of 1, so that the value is a mean."""
    counts_insertions: bool = False
    """An empty reference makes the rate the number of insertions (jiwer 4), where it is otherwise 1, or undefined."""
    corpus: Callable[[Sequence[str], References], list[Score]] | None = None
    """Scores all rows together, where a row's score depends on the other rows' references."""
    whole: Callable[[Mapping[str, int]], float] | None = None
    """The value from the summed `detail`, where it is no ratio of sums; rows' own scores are then sentence scores."""
    library: Callable[[], str] = unsigned
    """The library and settings that the numbers depend on, as `regex 2026.11.15`; empty if there is none."""

    @property
    def name(self) -> str:
        """The short name, as `cer`."""
        return self.spec.partition("/")[0]

    @property
    def signature(self) -> str:
        """The spec with what else the number depends on, for records and papers."""
        return " ".join(part for part in (self.spec, self.library()) if part)

    def rate(self, score: Score) -> float:
        """Return the value of one sample. 0/0 is 0: nothing to read and nothing read.

        x/0, text read where there is none, is wholly wrong: 1. Under jiwer 4 it is the number of insertions.
        """
        undefined = score.numerator if self.counts_insertions else 1.0
        return ratio(score.numerator, score.denominator, undefined=undefined)

    def value(self, numerator: float, denominator: float) -> float | None:
        """Return the value of summed counts; None when there is nothing to divide by.

        Insertions against an empty reference count in the sum, which adds no length. jiwer 4 returns them as they are
        when no reference has any text.
        """
        if denominator:
            return numerator / denominator
        return numerator if self.counts_insertions else None

    def of_totals(self, keys: Sequence[str], totals: Sequence[float]) -> float:
        """Return the value from totals of the `detail` counts under `keys`; for metrics with `whole`."""
        if self.whole is None:
            raise TypeError(f"{self.spec} is a ratio of sums")
        return self.whole({key: round(total) for key, total in zip(keys, totals, strict=True)})

    @property
    def best(self) -> float:
        """The value of a sample with nothing wrong."""
        return 0.0 if self.better == "lower" else self.most

    def failed(self, references: Sequence[str]) -> Score:
        """Return what a row without a prediction adds: no credit, not even where the empty answer would be right.

        An error rate counts the longest reference as left out, and where no reference has text one error over one unit.
        """
        if self.bounded or self.better == "higher":
            return Score(0.0 if self.better == "higher" else 1.0, 1.0)
        longest = max((self.score("", [one]) for one in references), key=lambda one: one.denominator)
        return longest if longest.denominator else Score(1.0, 1.0, {**longest.detail, "deletions": 1})
