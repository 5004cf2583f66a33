"""Scores of answers as spans of text, each in [0, 1]: SQuAD's F1 and exact match, OCRBench's containment."""

from __future__ import annotations

import re
import string
from collections import Counter
from typing import TYPE_CHECKING

from rapidfuzz.distance import Levenshtein

if TYPE_CHECKING:
    from collections.abc import Sequence

WHOLE_WORDS = 5
"""OCRBench v2 looks for references of fewer words inside the prediction, and measures likeness to longer ones."""

_NO_PUNCTUATION = {ord(mark): None for mark in string.punctuation}
_ARTICLE = re.compile(r"\b(a|an|the)\b")
# Full-width forms of ASCII (U+FF01 to U+FF5E) and the ideographic space.
_HALF_WIDTH = {0x3000: " "} | {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}


def ascii_nopunct(text: str) -> str:
    """Return `text` lower-cased without ASCII punctuation; white space stays, so ` yes` is not `yes` (HF evaluate)."""
    return text.lower().translate(_NO_PUNCTUATION)


def squad_fold(text: str) -> str:
    """Return `text` as SQuAD 2.0's script does: lower case, no ASCII punctuation, no articles, single spaces."""
    return " ".join(_ARTICLE.sub(" ", ascii_nopunct(text)).split())


def token_f1(prediction: str, references: Sequence[str]) -> float:
    """Return the best F1 over the references of the words two answers share (SQuAD 2.0, evaluate-v2.0.py at eee5fdbf).

    Where a side has no words: 1 if neither has, else 0.
    """
    return max(_f1(squad_fold(prediction).split(), squad_fold(one).split()) for one in references)


def _f1(predicted: Sequence[str], reference: Sequence[str]) -> float:
    if not predicted or not reference:
        return float(predicted == reference)
    shared = (Counter(predicted) & Counter(reference)).total()
    return 2 * shared / (len(predicted) + len(reference))


def contains(prediction: str, references: Sequence[str], *, half_width: bool = False) -> float:
    """Return 1 if a reference is a substring of the prediction, without regard to case (OCRBench).

    As in VLMEvalKit, ocrbench.py at e8e78f05; with `half_width`, which folds full-width ASCII, as in lmms-eval,
    ocrbench/utils.py at 75571cfe. It favours long answers: `I do not know` contains `no`.
    """
    fold = _half_width_fold if half_width else _contains_fold
    predicted = fold(prediction)
    return float(any(fold(reference) in predicted for reference in references))


def _contains_fold(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


def _half_width_fold(text: str) -> str:
    return _contains_fold(text.translate(_HALF_WIDTH))


def contains_or_like(prediction: str, references: Sequence[str]) -> float:
    """Return OCRBench v2's score of a text answer (lmms-eval, ocrbench_v2/vqa_metric.py at 75571cfe).

    A reference of fewer than five words counts 1 if it is a substring; a longer one the likeness (1 - distance over the
    longer text) if that is at least 0.5.
    """
    return max(_short_or_long(_contains_fold(prediction), _contains_fold(one)) for one in references)


def _short_or_long(prediction: str, reference: str) -> float:
    if len(reference.split()) < WHOLE_WORDS:
        return float(reference in prediction)
    similarity = Levenshtein.normalized_similarity(prediction, reference)
    return similarity if similarity >= 0.5 else 0.0  # noqa: PLR2004 - the threshold of ANLS
