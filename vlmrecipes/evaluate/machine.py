"""BLEU and chrF as sacreBLEU computes them (Post, "A Call for Clarity in Reporting BLEU Scores", WMT 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from vlmrecipes.errors import VlmRecipesError
from vlmrecipes.evaluate.metric import References, Score
from vlmrecipes.extras import need

VERSION = "2.6.0"


@cache
def _scorer(name: str) -> Any:
    """Return sacreBLEU's scorer `BLEU` or `CHRF`. Raises MissingExtraError without the package."""
    sacrebleu = need("sacrebleu", "score BLEU or chrF")
    if sacrebleu.__version__ != VERSION:
        raise VlmRecipesError(f"BLEU and chrF are pinned to sacrebleu {VERSION}, found {sacrebleu.__version__}")
    scorer: Any = getattr(need("sacrebleu.metrics", "score BLEU or chrF"), name)()
    scorer.num_refs = -1  # rows differ in their number of references
    return scorer


def _scores(name: str, predictions: Sequence[str], references: References) -> list[Score]:
    """Return each row's counts, and its own sentence score over 1."""
    if not predictions:
        return []
    most = max(len(row) for row in references)
    streams = [[row[place] if place < len(row) else None for row in references] for place in range(most)]
    scorer = _scorer(name)
    # sacreBLEU gives no public way to the counts, which intervals need; hence the pinned version.
    rows = scorer._extract_corpus_statistics(list(predictions), streams)  # noqa: SLF001
    return [_score(scorer, [int(count) for count in row]) for row in rows]


def _score(scorer: Any, counts: Sequence[int]) -> Score:
    own = float(scorer._compute_score_from_stats(list(counts)).score)  # noqa: SLF001
    return Score(own, 1.0, {f"count_{place:02}": count for place, count in enumerate(counts)})


def _whole(name: str, detail: Mapping[str, int]) -> float:
    return float(_scorer(name)._compute_score_from_stats([detail[key] for key in sorted(detail)]).score)  # noqa: SLF001


def _signature(name: str) -> str:
    return f"sacrebleu {_scorer(name).get_signature()}"


def bleu(predictions: Sequence[str], references: References) -> list[Score]:
    """Return each row's n-gram counts, with its sentence BLEU, in [0, 100]. Raises MissingExtraError."""
    return _scores("BLEU", predictions, references)


def bleu_whole(detail: Mapping[str, int]) -> float:
    """Return corpus BLEU, in [0, 100], of summed counts."""
    return _whole("BLEU", detail)


def bleu_signature() -> str:
    """Return sacreBLEU's own signature."""
    return _signature("BLEU")


def chrf(predictions: Sequence[str], references: References) -> list[Score]:
    """Return each row's character n-gram counts, with its sentence chrF, in [0, 100]. Raises MissingExtraError."""
    return _scores("CHRF", predictions, references)


def chrf_whole(detail: Mapping[str, int]) -> float:
    """Return corpus chrF, in [0, 100], of summed counts."""
    return _whole("CHRF", detail)


def chrf_signature() -> str:
    """Return sacreBLEU's own signature."""
    return _signature("CHRF")
