"""The metrics by name: a spec such as `cer/ws@1` pins the name, the folding or definition, and its version.

Every metric counts before it divides: a sample gives a numerator and a denominator, and the value over many samples is
the sum of the one over the sum of the other.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Literal

from vlmrecipes.errors import Problem
from vlmrecipes.evaluate import answers, error_rate, text

References = Sequence[Sequence[str]]
"""The references of every row to be scored."""


@dataclass(frozen=True, slots=True)
class Score:
    """What one sample adds to a metric."""

    numerator: float
    """Errors in words or code points; or the score of an answer, in [0, 1]."""
    denominator: float
    """Words or code points of the reference; 1 for an answer."""
    detail: Mapping[str, int] = field(default_factory=dict)
    """`hits, substitutions, deletions, insertions` for error rates, else empty."""


def _accepts(_: References) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A pinned definition."""

    spec: str
    """As `cer/ws@1`: what goes into a record beside every number."""
    name: str
    """The short name, as `cer`."""
    better: Literal["lower", "higher"]
    score: Callable[[str, Sequence[str]], Score]
    """Takes a prediction and its references. Raises ValueError where the definition has no value."""
    refusal: Callable[[References], str | None] = _accepts
    """Says why this metric means nothing on these references; None if it does."""
    counts_insertions: bool = False
    """An empty reference makes the rate the number of insertions (jiwer 4), where it is otherwise 1, or undefined."""

    @property
    def bounded(self) -> bool:
        """Whether each sample's score is in [0, 1] over a denominator of 1, so that the value is a mean."""
        return self.better == "higher"

    def rate(self, score: Score) -> float:
        """Return the value of one sample. 0/0 is 0: nothing to read and nothing read.

        x/0, text read where there is none, is wholly wrong: 1. Under jiwer 4 it is the number of insertions.
        """
        undefined = score.numerator if self.counts_insertions else 1.0
        return error_rate.ratio(score.numerator, score.denominator, undefined=undefined)

    def value(self, numerator: float, denominator: float) -> float | None:
        """Return the value of summed counts; None when there is nothing to divide by.

        Insertions against an empty reference count in the sum, which adds no length. jiwer 4 returns them as they are
        when no reference has any text.
        """
        if denominator:
            return numerator / denominator
        return numerator if self.counts_insertions else None


def _edit_score(units: Callable[[str], Sequence[str]], prediction: str, references: Sequence[str]) -> Score:
    edits = error_rate.best(prediction, references, units)
    detail = {
        "hits": edits.hits,
        "substitutions": edits.substitutions,
        "deletions": edits.deletions,
        "insertions": edits.insertions,
    }
    return Score(float(edits.errors), float(edits.length), MappingProxyType(detail))


def _answer_score(measure: Callable[[str, Sequence[str]], float], prediction: str, references: Sequence[str]) -> Score:
    return Score(measure(prediction, references), 1.0)


def _refuse_unspaced(references: References) -> str | None:
    """Refuse WER where more than half of the rows are in a script without spaces, and none of those has one."""
    unspaced = sum(any(text.is_unspaced(one) for one in row) for row in references)
    if 2 * unspaced <= len(references):
        return None
    return (
        f"{unspaced} of {len(references)} rows are in a script written without spaces and have none, "
        "so a whole line is one word; use cer"
    )


def _refuse_few(references: References) -> str | None:
    few = sum(len(row) < answers.MIN_ANNOTATORS for row in references)
    if not few:
        return None
    return (
        f"{few} of {len(references)} rows have fewer than {answers.MIN_ANNOTATORS} references, where a right answer "
        "cannot score more than 0 (one reference) or 1/3 (two); use exact or anls"
    )


def _refuse_not_ten(references: References) -> str | None:
    other = sum(len(row) != answers.EVALAI_ANNOTATORS for row in references)
    if not other:
        return None
    return (
        f"{other} of {len(references)} rows do not have {answers.EVALAI_ANNOTATORS} references, for which alone it is "
        "defined; use vqa/official@1, or exact or anls where there are fewer than 3"
    )


def _wer(variant: str, units: Callable[[str], Sequence[str]], *, counts: bool = False) -> Metric:
    return Metric(
        spec=f"wer/{variant}@1",
        name="wer",
        better="lower",
        score=partial(_edit_score, units),
        refusal=_refuse_unspaced,
        counts_insertions=counts,
    )


def _cer(variant: str, units: Callable[[str], Sequence[str]], *, counts: bool = False) -> Metric:
    return Metric(
        spec=f"cer/{variant}@1",
        name="cer",
        better="lower",
        score=partial(_edit_score, units),
        counts_insertions=counts,
    )


def _answer(
    spec: str,
    measure: Callable[[str, Sequence[str]], float],
    refusal: Callable[[References], str | None] = _accepts,
) -> Metric:
    return Metric(
        spec=spec,
        name=spec.partition("/")[0],
        better="higher",
        score=partial(_answer_score, measure),
        refusal=refusal,
    )


_ALL = (
    # Splitting into words folds white space anyway, so there is no wer/raw.
    *(_wer(name, error_rate.words_of(folding)) for name, folding in text.FOLDINGS.items() if name != "raw"),
    _wer("jiwer4", error_rate.jiwer4_words, counts=True),
    *(_cer(name, error_rate.characters_of(folding)) for name, folding in text.FOLDINGS.items()),
    _cer("jiwer4", error_rate.jiwer4_characters, counts=True),
    _answer("exact/raw@1", partial(answers.exact, folding=text.raw)),
    _answer("exact/ws@1", partial(answers.exact, folding=text.ws)),
    _answer("exact/nocase@1", partial(answers.exact, folding=text.ws_casefold)),
    _answer("vqa/official@1", answers.vqa_official, _refuse_few),
    _answer("vqa/evalai@1", answers.vqa_evalai, _refuse_not_ten),
    _answer("anls/rrc@1", answers.anls_rrc),
    _answer("anls/paper@1", answers.anls_paper),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.spec: metric for metric in _ALL})
"""Every metric by its spec."""

DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "wer": "wer/ws@1",
        "cer": "cer/ws@1",
        "exact": "exact/ws@1",
        "vqa": "vqa/official@1",
        "anls": "anls/rrc@1",
    }
)
"""What a short name stands for."""


def known() -> list[str]:
    """Return the names that `resolve` takes: short names first, then specs."""
    return [*DEFAULTS, *METRICS]


def resolve(name: str) -> Metric:
    """Return the metric that a short name or a full spec names. Raises ValueError for any other."""
    metric = METRICS.get(DEFAULTS.get(name, name))
    if metric is not None:
        return metric
    close = difflib.get_close_matches(name.lower(), known(), n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown metric {name!r}{hint} (known: {', '.join(known())})")


def problems(names: Sequence[str], file: str) -> list[Problem]:
    """Return a problem at `eval.metrics` of a recipe `file` for each name that is not known."""
    found = []
    for number, name in enumerate(names):
        try:
            resolve(name)
        except ValueError as error:
            found.append(Problem(file, f"eval.metrics[{number}]", str(error)))
    return found
