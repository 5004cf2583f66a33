"""Where a prediction differs from a reference, character by character."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LONGEST = 600
"""Characters of one text that a report shows."""
ALIKE = 0.35
"""Texts less similar than this (1 is equal) are marked whole: matching letters would be chance."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text."""

    text: str
    marked: bool
    """Whether the other text lacks it."""


Pieces = tuple[Piece, ...]


def closest(prediction: str, references: Sequence[str]) -> str:
    """Return the reference that `prediction` is most like, the first of equals; empty when there is none."""
    from rapidfuzz.distance import Levenshtein

    return max(references, key=lambda each: Levenshtein.normalized_similarity(each, prediction), default="")


def marked(reference: str, prediction: str) -> tuple[Pieces, Pieces]:
    """Return the pieces of `reference`, marked where `prediction` lacks them, and of `prediction` likewise."""
    from rapidfuzz.distance import Levenshtein

    left, right = _cut(reference), _cut(prediction)
    if Levenshtein.normalized_similarity(left, right) < ALIKE:
        return _whole(left, marked=True), _whole(right, marked=True)
    steps = Levenshtein.opcodes(left, right)
    return (
        _joined([(left[step.src_start : step.src_end], step.tag != "equal") for step in steps]),
        _joined([(right[step.dest_start : step.dest_end], step.tag != "equal") for step in steps]),
    )


def plain(text: str) -> Pieces:
    """Return `text`, cut to the longest shown, as one unmarked piece."""
    return _whole(_cut(text), marked=False)


def visible(text: str) -> str:
    """Return `text` with control characters, which HTML cannot hold, as their pictures (`␀`)."""
    # Direction marks, too, are shown rather than obeyed: they could reorder the text around them.
    return text.translate(_PICTURES)


_BLANKS = {" ": "␣", "\t": "⇥", "\n": "⏎\n", "\u00a0": "⍽"}
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"} | {
    0x7F: "␡",
    **{code: f"<U+{code:04X}>" for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))},
    **dict.fromkeys((*range(0x80, 0xA0), 0xFFFE, 0xFFFF, *range(0xD800, 0xE000)), "\ufffd"),
}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _whole(text: str, *, marked: bool) -> Pieces:
    return (Piece(visible(text), marked),) if text else ()


def _joined(steps: Sequence[tuple[str, bool]]) -> Pieces:
    """Return pieces without empty ones, neighbours of a kind joined, blanks in marked ones made visible."""
    steps = [step for step in steps if step[0]]
    starts = [0, *(index + 1 for index, (one, two) in enumerate(pairwise(steps)) if one[1] != two[1]), len(steps)]
    runs = [(steps[start:end], steps[start][1]) for start, end in pairwise(starts) if end > start]
    return tuple(Piece(_shown("".join(text for text, _ in run), marked=marked), marked) for run, marked in runs)


def _shown(text: str, *, marked: bool) -> str:
    text = "".join(_BLANKS.get(letter, letter) for letter in text) if marked else text
    return visible(text)
