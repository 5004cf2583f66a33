import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrecipes.evaluate.text import FOLDINGS, Folding, is_unspaced, words, ws, ws_casefold

# PropList.txt, White_Space
WHITE_SPACE = {
    *range(0x9, 0xE),
    0x20,
    0x85,
    0xA0,
    0x1680,
    *range(0x2000, 0x200B),
    0x2028,
    0x2029,
    0x202F,
    0x205F,
    0x3000,
}


def test_ws_folds_just_unicode_white_space() -> None:
    folded = {code for code in range(sys.maxunicode + 1) if ws(chr(code)) == ""}
    assert folded == WHITE_SPACE


@pytest.mark.parametrize("folding", [*FOLDINGS.values(), ws_casefold], ids=[*FOLDINGS, "ws+casefold"])
@given(text=st.text())
def test_folding_twice_is_folding_once(folding: Folding, text: str) -> None:
    assert folding(folding(text)) == folding(text)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("raw", " a\n b ", " a\n b "),
        ("ws", " a\n\u00a0b\u3000", "a b"),
        ("ws", "\x1ca", "\x1ca"),
        ("nfc+ws", "cafe\u0301 \n", "caf\u00e9"),
        ("nfc+ws", "\ufb01", "\ufb01"),
        ("nfkc+casefold+nopunct+ws", "\ufb01ne, STRASSE!", "fine strasse"),
        ("nfkc+casefold+nopunct+ws", "Stra\u00dfe", "strasse"),
        ("nfkc+casefold+nopunct+ws", "e.\u0301", "\u00e9"),
        ("nfkc+casefold+nopunct+ws", "state-of-the-art $5", "stateoftheart $5"),
    ],
)
def test_foldings_do_what_their_names_say(name: str, text: str, expected: str) -> None:
    assert FOLDINGS[name](text) == expected


@given(text=st.text())
def test_words_are_what_ws_leaves_between_spaces(text: str) -> None:
    assert " ".join(words(text)) == ws(text)


@pytest.mark.parametrize("text", ["你好世界", "東京タワー", "สวัสดีครับ", "សួស្តី", "第3章"])
def test_unspaced_scripts_are_seen(text: str) -> None:
    assert is_unspaced(text)


@pytest.mark.parametrize("text", ["", "hello", "你好 世界", "안녕하세요", "مرحبا", "ISO标准"])
def test_other_text_is_not_unspaced(text: str) -> None:
    assert not is_unspaced(text)
