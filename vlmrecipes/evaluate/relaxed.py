"""Answers that are numbers, right within five per cent: ChartQA's relaxed accuracy and a stricter one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

TOLERANCE = 0.05
_SLACK = 1e-9
"""So that rounding does not decide whether just 5 % off is within 5 %; relaxed/strict only."""
_NUMBER = re.compile(r"[-+\u2212]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?", re.ASCII)
_CURRENCY = "$\u20ac\u00a3\u00a5\u20b9"
_YEAR = re.compile(r"(1[6-9]|20)\d\d", re.ASCII)

Same = Callable[[str, str], bool]


def relaxed_chartqa(prediction: str, references: Sequence[str]) -> float:
    """Return relaxed accuracy as google-research/pix2struct has it (metrics.py at 945f27e9; lmms-eval 75571cfe).

    Within 5 % of the reference where both are Python floats (a trailing % divides by 100) and the reference is not 0;
    otherwise equal in lower case. Its oddities stand: 1950 is right for 2020, `1,000` is wrong for `1000`.
    """
    return _any(partial(_chartqa, text=str.lower), prediction, references)


def relaxed_vlmevalkit(prediction: str, references: Sequence[str]) -> float:
    """Return relaxed accuracy as VLMEvalKit has it (vqa_eval.py at e8e78f05): blanks around the prediction do not count."""
    return _any(partial(_chartqa, text=str.lower), prediction.strip(), references)


def relaxed_strict(prediction: str, references: Sequence[str]) -> float:
    """Return this project's own relaxed accuracy.

    A number is ASCII digits with optional thousands separators, sign, decimals, one currency sign before it, and % after
    it; `1e3`, `nan` and `1_000` are text. Two numbers agree within 5 % of the reference when both or neither bear a %
    (`12%` is not `12`); where the reference is 0, or a year from 1600 to 2099 written with four digits, they must be
    equal. Texts agree when equal after white space and case are folded and a full stop at the end is dropped.
    """
    return _any(_strict, prediction, references)


def _any(same: Same, prediction: str, references: Sequence[str]) -> float:
    return float(any(same(prediction, reference) for reference in references))


def _chartqa(prediction: str, reference: str, text: Callable[[str], str]) -> bool:
    predicted, target = _python_float(prediction), _python_float(reference)
    if predicted is not None and target:
        return abs(predicted - target) / abs(target) <= TOLERANCE
    return text(prediction) == text(reference)


def _python_float(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _strict(prediction: str, reference: str) -> bool:
    predicted, target = _plain(prediction), _plain(reference)
    numbers = _number(predicted), _number(target)
    if numbers[0] is None or numbers[1] is None:
        return predicted == target
    if predicted.endswith("%") != target.endswith("%"):
        return False
    if not numbers[1] or _YEAR.fullmatch(target):
        return numbers[0] == numbers[1]
    return abs(numbers[0] - numbers[1]) <= (TOLERANCE + _SLACK) * abs(numbers[1])


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold().removesuffix(".")


def _number(text: str) -> float | None:
    bare = text.removesuffix("%").strip()
    sign = bare[:1] if bare[:1] in "-+\u2212" else ""
    bare = bare.removeprefix(sign).lstrip()
    bare = (bare[1:] if bare[:1] in _CURRENCY else bare).lstrip()
    digits = sign + bare
    if not any(char.isdigit() for char in digits) or not _NUMBER.fullmatch(digits):
        return None
    return float(digits.replace(",", "").replace("\u2212", "-"))
