"""Which scripts a text is written in.

The method: a letter or mark belongs to the script that its Unicode name begins with (`CYRILLIC SMALL LETTER A` →
Cyrillic), as `unicodedata` of the running Python knows it; widths (`FULLWIDTH LATIN …`) are looked through, and CJK
ideographs are Han. All that is no letter is counted as `digits` or `other` (punctuation, symbols, marks of no script);
white space is not counted. This agrees with the Script property of Unicode (UAX #24) but for a few hundred letterlike
symbols, which are `other` here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

DIGITS, OTHER = "digits", "other"
_WIDTHS = ("FULLWIDTH", "HALFWIDTH")
_RENAMED = {"CJK": "Han", "KANGXI": "Han", "IDEOGRAPHIC": "Han", "MICRO": OTHER}
_NO_SCRIPT = {
    "MODIFIER",
    "MATHEMATICAL",
    "COMBINING",
    "SUPERSCRIPT",
    "SUBSCRIPT",
    "DOUBLE-STRUCK",
    "SCRIPT",
    "BLACK-LETTER",
}
_CHARACTERS_AT_ONCE = 1 << 20
Counts = dict[str, dict[str, int]]


class Scripts:
    """Counts of scripts, over any number of texts."""

    def __init__(self) -> None:
        """Begin with none."""
        self._found: dict[str, np.ndarray] = {}

    def add(self, texts: Sequence[str], weights: Sequence[int] | np.ndarray | None = None) -> None:
        """Count some texts; `weights` says how often each stands there."""
        import numpy as np

        counts = np.ones(len(texts), np.int64) if weights is None else np.asarray(weights, np.int64)
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        start = 0
        while start < len(texts):
            before = int(ends[start - 1]) if start else 0
            end = max(start + 1, int(np.searchsorted(ends, before + _CHARACTERS_AT_ONCE, "right")))
            self._count(texts[start:end], counts[start:end], ends[start:end] - before)
            start = end

    def _count(self, texts: Sequence[str], weights: np.ndarray, ends: np.ndarray) -> None:
        """Count texts whose characters, joined, end at `ends`."""
        import numpy as np

        points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        present = np.flatnonzero(np.bincount(points)) if len(points) else np.zeros(0, np.intp)
        names = [script(chr(point)) for point in present.tolist()]
        order = list(dict.fromkeys(names))
        numbers = np.zeros(present[-1] + 1 if len(present) else 0, np.uint8)
        numbers[present] = [order.index(name) for name in names]
        numbered = numbers[points]
        for number, name in enumerate(order):
            if name:
                until = np.cumsum(numbered == number, dtype=np.int64)[ends - 1] * (ends > 0)
                a_text = np.diff(until, prepend=0)
                counted = np.array([a_text @ weights, (a_text > 0) @ weights])
                self._found[name] = self._found.get(name, 0) + counted

    def counts(self) -> Counts:
        """Return `{script: {"characters", "texts"}}`, commonest first."""
        order = sorted(self._found, key=lambda name: (-self._found[name][0], name))
        return {name: dict(zip(("characters", "texts"), self._found[name].tolist(), strict=True)) for name in order}


def script_counts(texts: Sequence[str], weights: Sequence[int] | None = None) -> Counts:
    """Return what `Scripts` counts of `texts`."""
    found = Scripts()
    found.add(texts, weights)
    return found.counts()


@cache
def script(character: str) -> str:
    """Return the script of one character, `digits`, `other`, or an empty text for white space and controls."""
    category = unicodedata.category(character)
    if category[0] in "ZC":
        return ""
    if category == "Nd":
        return DIGITS
    words = unicodedata.name(character, "").replace("-", " ", 1).split()
    if category[0] not in "LM" or not words:
        return OTHER
    word = words[1] if words[0] in _WIDTHS and len(words) > 1 else words[0]
    return OTHER if word in _NO_SCRIPT else _RENAMED.get(word, word.capitalize())
