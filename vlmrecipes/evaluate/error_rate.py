"""Word and character error rates: edits counted first, rates from the counts.

WER = (S + D + I) / (H + S + D): the fewest word substitutions, deletions and insertions that turn the reference into
the prediction, over the words of the reference. CER is the same over code points. Neither is bounded by 1.
MER and WIL: Morris, Maier & Green, "From WER and RIL to MER and WIL", Interspeech 2004.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from rapidfuzz.distance import Levenshtein

from vlmrecipes.evaluate import text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TWO_OR_MORE = re.compile(r"\s\s+")


class Edits(NamedTuple):
    """How one reference becomes one prediction, in words or code points; of several shortest ways, one."""

    hits: int
    substitutions: int
    deletions: int
    """Units of the reference that the prediction lacks."""
    insertions: int
    """Units of the prediction that the reference lacks."""

    @property
    def errors(self) -> int:
        """S + D + I, the Levenshtein distance."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def length(self) -> int:
        """H + S + D, the length of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def predicted(self) -> int:
        """H + S + I, the length of the prediction."""
        return self.hits + self.substitutions + self.insertions

    @property
    def rate(self) -> float:
        """Errors over reference length, 0 or more; for an empty reference 0 if nothing was inserted, else infinite."""
        return ratio(self.errors, self.length, undefined=math.inf)

    @property
    def match_error_rate(self) -> float:
        """MER, errors over all aligned units, in [0, 1]; 0 when both sides are empty."""
        return ratio(self.errors, self.length + self.insertions, undefined=0.0)

    @property
    def information_lost(self) -> float:
        """WIL, 1 - H² / (length · predicted), in [0, 1]; 0 when both sides are empty, 1 when one is."""
        if not self.length or not self.predicted:
            return float(self.length != self.predicted)
        return 1.0 - (self.hits / self.length) * (self.hits / self.predicted)


def ratio(numerator: float, denominator: float, *, undefined: float) -> float:
    """Return numerator / denominator; 0/0 is 0 and x/0 is `undefined`."""
    if denominator:
        return numerator / denominator
    return undefined if numerator else 0.0


def edits(reference: Sequence[str], prediction: Sequence[str]) -> Edits:
    """Return the edits of a shortest alignment of two sequences of units."""
    if reference == prediction:
        return Edits(len(reference), 0, 0, 0)
    longer = len(prediction) - len(reference)
    if (distance := Levenshtein.distance(reference, prediction)) == abs(longer):
        # Nothing but insertions, or nothing but deletions: the alignment need not be looked at.
        return Edits(len(reference) - max(0, -longer), 0, max(0, -longer), max(0, longer))
    if not longer and distance == 1:
        return Edits(len(reference) - 1, 1, 0, 0)
    substitutions = [op[0] for op in Levenshtein.editops(reference, prediction).as_list()].count("replace")
    deletions = (distance - substitutions - longer) // 2
    return Edits(len(reference) - substitutions - deletions, substitutions, deletions, deletions + longer)


def best(prediction: str, references: Sequence[str], units: Callable[[str], Sequence[str]]) -> Edits:
    """Return the edits against the reference with the lowest rate; of equal rates, the fewest errors, then the first.

    The lowest rate, not the fewest errors: one error in ten words beats no hit of one word.
    Raises ValueError without references.
    """
    if not references:
        raise ValueError("an error rate needs at least one reference")
    predicted = units(prediction)
    if len(references) == 1:
        return edits(units(references[0]), predicted)
    candidates = [edits(units(reference), predicted) for reference in references]
    return min(candidates, key=lambda candidate: (candidate.rate, candidate.errors))


def words_of(folding: text.Folding) -> Callable[[str], Sequence[str]]:
    """Return the function that gives a text's words after `folding`."""
    return lambda string: text.words(folding(string))


def characters_of(folding: text.Folding) -> Callable[[str], Sequence[str]]:
    """Return the function that gives a text's code points after `folding`, spaces included."""
    return folding


def jiwer4_words(string: str) -> Sequence[str]:
    r"""Return the words as jiwer 4's `wer_default` sees them.

    Only runs of two or more white space characters become a space, and only U+0020 separates words:
    in `hello\nworld` the newline glues one word (jitsi/jiwer#129).
    """
    if string.isprintable():
        return string.split()
    return [word for word in _TWO_OR_MORE.sub(" ", string).strip().split(" ") if word]


def jiwer4_characters(string: str) -> Sequence[str]:
    """Return the code points as jiwer 4's `cer_default` sees them: stripped, inner white space as it is."""
    return string.strip()


# jiwer 4's ExpandCommonEnglishContractions, in its order; `'s` becomes `is` in possessives too.
_EXPANSIONS = tuple(
    (re.compile(contracted), expanded)
    for contracted, expanded in (
        ("won't", "will not"),
        ("can't", "can not"),
        ("let's", "let us"),
        ("n't", " not"),
        ("'re", " are"),
        ("'s", " is"),
        ("'d", " would"),
        ("'ll", " will"),
        ("'t", " not"),
        ("'ve", " have"),
        ("'m", " am"),
    )
)
_NON_WORD = re.compile(r"[<\[][^>\]]*[>\]]")
_ASCII_WHITE_SPACE = re.compile("[ \t\n\r\x0b\x0c]")


def jiwer4_standardized(string: str) -> Sequence[str]:
    """Return the words as jiwer 4's `wer_standardize` sees them: lower case, contractions spelt out, no `<unk>` or `[…]`."""
    string = string.lower()
    for contracted, expanded in _EXPANSIONS:
        string = contracted.sub(expanded, string)
    string = _TWO_OR_MORE.sub(" ", _ASCII_WHITE_SPACE.sub(" ", _NON_WORD.sub("", string)))
    return [word for word in string.strip().split(" ") if word]


def jiwer4_plain(string: str) -> str:
    """Return `string` after jiwer's ToLowerCase, RemovePunctuation, RemoveWhiteSpace, RemoveMultipleSpaces and Strip."""
    return _TWO_OR_MORE.sub(" ", _ASCII_WHITE_SPACE.sub(" ", text.nopunct(string.lower()))).strip()


def jiwer4_plain_words(string: str) -> Sequence[str]:
    """Return the words of `jiwer4_plain`."""
    return [word for word in jiwer4_plain(string).split(" ") if word]


def graphemes(string: str) -> Sequence[str]:
    """Return what a reader calls characters: extended grapheme clusters (UAX #29)."""
    import regex

    clusters: list[str] = regex.findall(r"\X", string)
    return clusters


def uax29_words(string: str) -> Sequence[str]:
    """Return the words of `string` by UAX #29 without those of punctuation, symbols and blanks only, as dinglehopper does."""
    import regex

    pieces = regex.split(r"(?V1w)\b", string)
    return [piece for piece in pieces if piece and not regex.fullmatch(r"[\p{P}\p{S}\p{Z}\p{C}]+", piece)]


def grapheme_units(string: str) -> Sequence[str]:
    """Return the grapheme clusters of `string` after NFC and `ws`: how an accent is encoded does not count."""
    return graphemes(text.nfc_ws(string))


def dinglehopper_characters(string: str) -> Sequence[str]:
    """Return the grapheme clusters of `string` after NFC, white space as it is, as dinglehopper 0.11 does."""
    return graphemes(unicodedata.normalize("NFC", string))


def dinglehopper_words(string: str) -> Sequence[str]:
    """Return the words of `string` by UAX #29 after NFC, as dinglehopper 0.11 does."""
    return uax29_words(unicodedata.normalize("NFC", string))
