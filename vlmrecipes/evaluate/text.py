"""Named foldings: what two texts may differ in and still count as the same.

A folding is applied to both sides before a metric looks at them, and its name is part of the metric's spec.
Each one is idempotent: folding a folded text changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType

WHITE_SPACE = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
"""A run of characters with the Unicode property White_Space (PropList.txt).

Narrower than `str.split` and `re`'s ``\\s``, which also take the separators U+001C to U+001F.
"""

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Myanmar, Khmer
    "\u3041-\u312f\u31f0-\u31ff\uff66-\uff9d"  # Hiragana, Katakana, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # Han
)

_LINE_MARKS = re.compile(r"[\t\n]|[\\/][tn]")
_NOT_ALNUM = re.compile("[^\\w\u4e00-\u9fff]")

Folding = Callable[[str], str]


def raw(text: str) -> str:
    """Return `text` as it is: every code point counts."""
    return text


def ws(text: str) -> str:
    """Return `text` with each run of Unicode White_Space as one space and none at the ends."""
    if text.isprintable():  # then its only white space is U+0020, and `str.split` is many times faster
        return " ".join(text.split())
    return WHITE_SPACE.sub(" ", text).strip(" ")


def nfc_ws(text: str) -> str:
    """Return `text` in Unicode normalization form C (UAX #15), then `ws`: how an accent is encoded does not count."""
    return ws(unicodedata.normalize("NFC", text))


def nfkc_casefold_nopunct_ws(text: str) -> str:
    """Return `text` with compatibility forms, case, punctuation (category P*) and white space folded away.

    Punctuation is deleted, not replaced by a space, as in jiwer's RemovePunctuation: `state-of-the-art` is one word.
    Symbols (category S*: $ + = ^) stay.
    """
    # Deleting a mark can bring two characters together that compose, and case folding can undo form KC,
    # so one pass is not always enough.
    while (folded := _nfkc_casefold_nopunct_ws(text)) != text:
        text = folded
    return text


def _nfkc_casefold_nopunct_ws(text: str) -> str:
    return ws(nopunct(unicodedata.normalize("NFKC", text).casefold()))


def nopunct(text: str) -> str:
    """Return `text` without the characters of the Unicode categories P*."""
    return "".join(c for c in text if not unicodedata.category(c).startswith("P"))


def alnum(text: str) -> str:
    r"""Return `text` with word characters and Han only, case kept (OmniDocBench's `clean_string`, VLMEvalKit e8e78f05).

    Tabs and newlines go first, also written as the two characters `\\t`, `\\n`, `/t` or `/n`: `and/then` is `andhen`.
    Accents that are characters of their own are lost.
    """
    return _NOT_ALNUM.sub("", _LINE_MARKS.sub("", text))


def ws_casefold(text: str) -> str:
    """Return `ws` of `text` with Unicode full case folding: STRASSE and Straße are the same."""
    return ws(text).casefold()


FOLDINGS: Mapping[str, Folding] = MappingProxyType(
    {
        "raw": raw,
        "ws": ws,
        "nfc+ws": nfc_ws,
        "nfkc+casefold+nopunct+ws": nfkc_casefold_nopunct_ws,
    }
)
"""The foldings that a spec can name; `ws` is the default."""


def words(text: str) -> list[str]:
    """Return the words of `text`: what stands between runs of White_Space."""
    return text.split() if text.isprintable() else [word for word in WHITE_SPACE.split(text) if word]


def is_unspaced(text: str) -> bool:
    """Tell whether `text` is in a script written without spaces between words (Han, Kana, Thai, Khmer, …) and has none.

    True when such characters are more than half of the characters that are not white space.
    """
    folded = ws(text)
    return " " not in folded and 2 * len(_UNSPACED.findall(folded)) > len(folded)
