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
_TEXTS_AT_ONCE = 100_000


def script_counts(texts: Sequence[str], weights: Sequence[int] | None = None) -> dict[str, dict[str, int]]:
    """Return `{script: {"characters", "texts"}}`, commonest first; `weights` says how often each text stands there."""
    import numpy as np

    found: dict[str, np.ndarray] = {}
    counts = np.ones(len(texts), dtype=np.int64) if weights is None else np.asarray(weights, dtype=np.int64)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = slice(start, start + _TEXTS_AT_ONCE)
        _count(texts[part], counts[part], found)
    order = sorted(found, key=lambda name: (-found[name][0], name))
    return {name: {"characters": int(found[name][0]), "texts": int(found[name][1])} for name in order}


def _count(texts: Sequence[str], weights: np.ndarray, found: dict[str, np.ndarray]) -> None:
    """Add the counts of some texts to `found`: script → (characters, texts)."""
    import numpy as np

    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    owners = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    different, places = np.unique(points, return_inverse=True)
    names = [script(chr(point)) for point in different.tolist()]
    for name in dict.fromkeys(names):
        if not name:
            continue
        members = np.array([other == name for other in names])[places]
        a_text = np.bincount(owners[members], minlength=len(texts))
        counted = np.array([a_text @ weights, (a_text > 0) @ weights])
        found[name] = found.get(name, 0) + counted


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
