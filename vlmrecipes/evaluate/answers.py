"""Scores of short answers, each in [0, 1]: exact match, VQA accuracy, ANLS.

Every function is the definition that its docstring cites, with that definition's oddities: a score is only comparable
with published ones if they are kept.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from rapidfuzz.distance import Levenshtein

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vlmrecipes.evaluate.text import Folding

MIN_ANNOTATORS = 3
"""Below this VQA accuracy caps a right answer at 0 (one reference) or 1/3 (two)."""
EVALAI_ANNOTATORS = 10
ANLS_THRESHOLD = 0.5

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_LONE_PERIOD = re.compile(r"(?<!\d)\.(?!\d)")
_MAX_PERIODS = 32  # the official script passes re.UNICODE, which is 32, where `re.sub` takes its count
_THOUSANDS = re.compile(r"\d,\d")
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = "zero one two three four five six seven eight nine ten"
_DIGITS = MappingProxyType({"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS.split())})
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""


def _without_one_apostrophe(words: str) -> dict[str, str]:
    return {
        word[:place] + word[place + 1 :]: word
        for word in words.split()
        for place, char in enumerate(word)
        if char == "'"
    }


# The official table lists just the spellings that lack one apostrophe, and turns one entry around.
# Its four capitalised keys (Im, Ive, …) can match nothing, as the text is lower case by then.
_CONTRACTIONS: Mapping[str, str] = MappingProxyType(_without_one_apostrophe(_CONTRACTED) | {"somebody'd": "somebodyd"})


def exact(prediction: str, references: Sequence[str], folding: Folding) -> float:
    """Return 1 if the prediction equals a reference after `folding`, else 0."""
    folded = folding(prediction)
    return float(any(folded == folding(reference) for reference in references))


def vqa_official(prediction: str, references: Sequence[str], *, answer_ids: bool = True) -> float:
    """Return the accuracy of the VQA v2 script (GT-Vision-Lab/VQA, vqaEval.py at a013f004), unrounded, in [0, 1].

    If all references are the same text, neither side is normalised: `Yes` against ten `yes` is 0.
    `answer_ids=False` is what the script does to annotations without unique `answer_id`: leaving one annotator out
    leaves out all that gave the same answer. Raises ValueError without references.
    """
    prediction, *references = (_one_line(answer) for answer in (prediction, *references))
    if len(set(references)) > 1:
        prediction, *references = (vqa_fold(answer) for answer in (prediction, *references))
    return _leave_one_out(prediction, references, answer_ids=answer_ids)


def vqa_evalai(prediction: str, references: Sequence[str]) -> float:
    """Return the accuracy of the TextVQA evaluation (facebookresearch/mmf, m4c_evaluators.py at b0ffc7fb), in [0, 1].

    Both sides are always normalised. Raises ValueError for any number of references but ten, as mmf asserts.
    """
    if len(references) != EVALAI_ANNOTATORS:
        raise ValueError(f"vqa/evalai is defined for {EVALAI_ANNOTATORS} references, found {len(references)}")
    return vqa_folded(prediction, references, evalai_fold)


def vqa_folded(prediction: str, references: Sequence[str], fold: Folding) -> float:
    """Return VQA accuracy with both sides always folded, as ports of the script do. Raises ValueError without references."""
    return _leave_one_out(fold(prediction), [fold(reference) for reference in references])


def _leave_one_out(prediction: str, references: Sequence[str], *, answer_ids: bool = True) -> float:
    """Return the mean over annotators of min(1, matches among the other annotators / 3)."""
    if not references:
        raise ValueError("VQA accuracy needs references")
    matches = references.count(prediction)
    own = 1 if answer_ids else matches
    scores = [min(1.0, (matches - own if reference == prediction else matches) / 3) for reference in references]
    return sum(scores) / len(scores)


def _one_line(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def vqa_fold(answer: str) -> str:
    """Return `answer` as the VQA v2 script normalises it: punctuation, then number words, articles, contractions."""
    return _fold_words(_fold_punctuation(_one_line(answer)))


def vlmevalkit_fold(answer: str) -> str:
    """Return `answer` as VLMEvalKit's port normalises it (vqa_eval.py at e8e78f05): a period beside a digit stays."""
    return _fold_words(_fold_punctuation(_one_line(answer), _LONE_PERIOD))


def evalai_fold(answer: str) -> str:
    """Return `answer` as mmf's EvalAI processor normalises it: `,` `?` and possessives first, then as VQA v2."""
    tokenized = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return vqa_fold(tokenized)


def _fold_punctuation(answer: str, period: re.Pattern[str] = _PERIOD) -> str:
    """Delete or blank each mark; which of the two is decided on the answer as it came, not on what is left of it."""
    thousands = _THOUSANDS.search(answer) is not None
    folded = answer
    for mark in _PUNCTUATION:
        loose = f"{mark} " in answer or f" {mark}" in answer
        folded = folded.replace(mark, "" if loose or thousands else " ")
    return period.sub("", folded, count=_MAX_PERIODS)


def _fold_words(answer: str) -> str:
    digits = (_DIGITS.get(word, word) for word in answer.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in digits if word not in _ARTICLES)


def anls_rrc(prediction: str, references: Sequence[str]) -> float:
    """Return ANLS as the Robust Reading Competition's script has it (see lmms-eval 75571cfe, VLMEvalKit e8e78f05).

    Distance between the lower-cased texts with white space folded, over the longer text *before* folding;
    a similarity of just 0.5 stands. Two empty texts are alike. In {0} and [0.5, 1].
    """
    return _anls(prediction, references, length=len, keeps_threshold=True)


def anls_paper(prediction: str, references: Sequence[str]) -> float:
    """Return ANLS by equation 1 of Biten et al., "Scene Text Visual Question Answering", ICCV 2019 (τ = 0.5).

    A distance of just τ scores 0. The paper names no folding; this one is the `anls` package's (shunk031/ANLS 0.0.2):
    lower case, white space folded, lengths after folding. In {0} and (0.5, 1].
    """
    return _anls(prediction, references, length=lambda answer: len(_anls_fold(answer)), keeps_threshold=False)


def anls_pix2struct(prediction: str, references: Sequence[str]) -> float:
    """Return ANLS as google-research/pix2struct has it (metrics.py at 945f27e9): lower case only, 0.5 scores 0.

    Raises ValueError for two empty texts, where its division fails.
    """
    return max(_defined(prediction, one, str.lower, keeps_threshold=False) for one in references)


def anls_mmf(prediction: str, references: Sequence[str]) -> float:
    """Return ANLS as facebookresearch/mmf has it (m4c_evaluators.py at b0ffc7fb): lower case, stripped, 0.5 stands.

    Raises ValueError for two empty texts, where its division fails.
    """
    return max(_defined(prediction, one, _lower_strip, keeps_threshold=True) for one in references)


def _lower_strip(answer: str) -> str:
    return answer.lower().strip()


def _defined(prediction: str, reference: str, fold: Folding, *, keeps_threshold: bool) -> float:
    folded = fold(prediction), fold(reference)
    if not any(folded):
        raise ValueError("this ANLS is not defined for an empty prediction of an empty reference; use anls/rrc@1")
    return _kept(1.0 - Levenshtein.distance(*folded) / max(map(len, folded)), keeps_threshold=keeps_threshold)


def _anls(prediction: str, references: Sequence[str], *, length: Callable[[str], int], keeps_threshold: bool) -> float:
    return max(_similarity(prediction, reference, length, keeps_threshold) for reference in references)


def _similarity(prediction: str, reference: str, length: Callable[[str], int], keeps_threshold: bool) -> float:
    longer = max(length(prediction), length(reference))
    distance = Levenshtein.distance(_anls_fold(prediction), _anls_fold(reference))
    similarity = 1.0 - distance / longer if longer else 1.0
    return _kept(similarity, keeps_threshold=keeps_threshold)


def _kept(similarity: float, *, keeps_threshold: bool) -> float:
    kept = similarity >= ANLS_THRESHOLD if keeps_threshold else similarity > ANLS_THRESHOLD
    return similarity if kept else 0.0


def _anls_fold(answer: str) -> str:
    return " ".join(answer.lower().split())
