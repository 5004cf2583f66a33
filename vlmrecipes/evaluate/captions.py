"""Scores of captions against several others: CIDEr and ROUGE-L, on words already split.

The COCO caption server's Java tokenizer is not used: callers say how a caption becomes words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import LCSseq

Words = Sequence[str]
Gram = tuple[str, ...]
LONGEST = 4
_SIGMA = 6.0
_BETA = 1.2


@dataclass(frozen=True, slots=True)
class _Vector:
    """A caption's n-grams weighted by how rare they are."""

    weights: tuple[Mapping[Gram, float], ...]
    """For n = 1 to 4."""
    norms: tuple[float, ...]
    length: int
    """Its bigrams: what the reference code takes for its length."""


def cider(predictions: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """Return CIDEr-D of each caption, in [0, 10] (Vedantam, Zitnick & Parikh, CVPR 2015; pycocoevalcap 1.2).

    How much an n-gram counts comes from the references of all captions together, so a score is only comparable within
    one corpus: a corpus of one image scores 0, whatever is said of it.
    """
    counted = [[_grams(reference) for reference in row] for row in references]
    seen = Counter(gram for row in counted for gram in set().union(*row))
    rarity = {gram: math.log(len(references)) - math.log(count) for gram, count in seen.items()}
    unseen = math.log(max(len(references), 1))
    return [
        _consensus(_weigh(_grams(words), rarity, unseen), [_weigh(one, rarity, unseen) for one in row])
        for words, row in zip(predictions, counted, strict=True)
    ]


def _grams(words: Words) -> Counter[Gram]:
    return Counter(
        tuple(words[start : start + n]) for n in range(1, LONGEST + 1) for start in range(len(words) - n + 1)
    )


def _weigh(grams: Counter[Gram], rarity: Mapping[Gram, float], unseen: float) -> _Vector:
    weights: tuple[dict[Gram, float], ...] = ({}, {}, {}, {})
    for gram, count in grams.items():
        weights[len(gram) - 1][gram] = count * rarity.get(gram, unseen)
    norms = tuple(math.sqrt(math.fsum(weight * weight for weight in each.values())) for each in weights)
    return _Vector(weights, norms, sum(count for gram, count in grams.items() if len(gram) == 2))  # noqa: PLR2004


def _consensus(prediction: _Vector, references: Sequence[_Vector]) -> float:
    return 10.0 * math.fsum(_likeness(prediction, one) for one in references) / len(references) if references else 0.0


def _likeness(prediction: _Vector, reference: _Vector) -> float:
    """Return the mean over n of the cosine, with the prediction's weights clipped to the reference's."""
    cosines = [_cosine(prediction, reference, n) for n in range(LONGEST)]
    penalty = math.exp(-((prediction.length - reference.length) ** 2) / (2 * _SIGMA**2))
    return penalty * math.fsum(cosines) / LONGEST


def _cosine(prediction: _Vector, reference: _Vector, n: int) -> float:
    there = reference.weights[n]
    dot = math.fsum(
        min(weight, there[gram]) * there[gram] for gram, weight in prediction.weights[n].items() if gram in there
    )
    norm = prediction.norms[n] * reference.norms[n]
    return dot / norm if norm else 0.0


def rouge_l(prediction: Words, references: Sequence[Words]) -> float:
    """Return ROUGE-L with β = 1.2 (Lin, 2004; pycocoevalcap 1.2): the best precision with the best recall, in [0, 1]."""
    shared = [LCSseq.similarity(prediction, reference) for reference in references]
    precision = max(shared) / len(prediction) if prediction else 0.0
    recall = max((each / len(one) for each, one in zip(shared, references, strict=True) if one), default=0.0)
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


@dataclass(frozen=True, slots=True)
class Matches:
    """What one caption, or a whole corpus, adds to BLEU."""

    right: tuple[int, ...]
    """n-grams found in a reference, for n = 1 to 4."""
    said: tuple[int, ...]
    length: int
    closest: int
    """Length of the reference whose length is closest; of two, the shorter."""


def matches(prediction: Words, references: Sequence[Words]) -> Matches:
    """Return the counts of one caption (Papineni et al., "BLEU", ACL 2002)."""
    most: Counter[Gram] = Counter()
    for reference in references:
        most |= _grams(reference)
    said = _grams(prediction)
    right = said & most
    sizes = range(1, LONGEST + 1)
    return Matches(
        tuple(sum(count for gram, count in right.items() if len(gram) == n) for n in sizes),
        tuple(max(0, len(prediction) - n + 1) for n in sizes),
        len(prediction),
        min((len(one) for one in references), key=lambda length: (abs(length - len(prediction)), length)),
    )


def bleu_coco(rows: Sequence[Matches]) -> float:
    """Return BLEU-4 of a corpus as pycocoevalcap 1.2 does, in [0, 1): tiny constants in place of smoothing."""
    tiny, small = 1e-15, 1e-9
    value = 1.0
    for n in range(LONGEST):
        value *= (sum(row.right[n] for row in rows) + tiny) / (sum(row.said[n] for row in rows) + small)
    shorter = (sum(row.length for row in rows) + tiny) / (sum(row.closest for row in rows) + small)
    return float(value ** (1 / LONGEST)) * (math.exp(1 - 1 / shorter) if shorter < 1 else 1.0)
