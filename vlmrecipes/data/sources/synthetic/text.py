"""What printed lines say: words, prices, dates, codes, numbers, in the mix that paper of every day has."""

from __future__ import annotations

from collections.abc import Callable

from vlmrecipes.data.sources.synthetic.dice import Dice
from vlmrecipes.data.sources.synthetic.words import (
    DAYS,
    LONG_MONTHS,
    MONTHS,
    PLACES,
    accented,
    made_up,
    word,
)

ASCII = "".join(map(chr, range(33, 127)))
LATIN = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿ"
SIGNS = "£€°§¿¡"
ALPHABET = ASCII + LATIN + SIGNS
"""Every character a line may have, the space aside."""
TINY = 3
"""Texts of so many characters are too short to say anything: a number, a mark, the start of a word."""
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_RARE_LETTERS = "JQXZWVKYFJQXZ"
_DIGITS = "0123456789"
_CURRENCIES = ("RM", "RM ", "$", "€", "£", "EUR ", "USD ", "SGD", "CHF ", "S$", "€ ", "$ ", "kr ")
_LABEL_ENDS = (":", ": ", " :", " : ", " ", ".: ", "# ", " - ", "=", " = ", ":", ": ")
_SYMBOLS = ".,:;!?'\"()[]/\\-_+*=#@%&<>$£€°{}|^~`§"
_ENDINGS = ("", "", "", "", ".", "!", "?", ",", ":", ";", "!!", "...", " *", "-", "/")
_BRACKETS = ("()", "()", "()", "()", "()", "[]", "<>", '""', "''", "**", "{}")

Maker = Callable[[Dice, int], str]


def line(dice: Dice, low: int, high: int) -> str:
    """Return a text of `low` to `high` characters, with single spaces and none at the ends."""
    wanted = max(low, min(high, _length(dice)))
    maker = _tiny if wanted <= TINY else _pick_maker(dice)
    text = " ".join(maker(dice, wanted).split())
    while len(text) < low:
        text = " ".join(f"{text} {_words(dice, wanted)}".split())
    return _cut(text, low, max(low, min(high, wanted + 8)))


def _length(dice: Dice) -> int:
    """Return how long the line should be: most are short, as the fields of forms and receipts are."""
    draw = dice.random()
    for share, shortest, longest in ((0.12, 1, 3), (0.40, 4, 8), (0.66, 9, 16), (0.88, 17, 30)):
        if draw < share:
            return dice.whole(shortest, longest)
    return dice.whole(31, 60)


def _cut(text: str, low: int, high: int) -> str:
    """Return the start of `text`, ending with a word where that leaves enough."""
    if len(text) <= high:
        return text
    short = text[:high]
    if text[high] != " ":
        at_word = short.rpartition(" ")[0].rstrip()
        short = at_word if len(at_word) >= max(low, high // 2) else short
    return short if len(short := short.rstrip()) >= low else short + "." * (low - len(short))


def _digits(dice: Dice, count: int) -> str:
    return "".join(dice.pick(_DIGITS) for _ in range(count))


def _letters(dice: Dice, count: int) -> str:
    return "".join(dice.pick(_RARE_LETTERS if dice.chance(0.2) else _LETTERS) for _ in range(count))


def _case(dice: Dice, words: list[str]) -> list[str]:
    draw = dice.random()
    if draw < 0.45:
        return [item.upper() for item in words]
    if draw < 0.68:
        return [item[:1].upper() + item[1:] for item in words]
    if draw < 0.80:
        return [words[0][:1].upper() + words[0][1:], *words[1:]]
    if draw < 0.96:
        return words
    return [item.upper() if dice.chance(0.5) else item for item in words]


def _words(dice: Dice, wanted: int) -> str:
    source = accented if dice.chance(0.3) else word
    words, length = [], 0
    while length < wanted:
        item = source(dice) if dice.chance(0.8) else word(dice)
        if dice.chance(0.06):
            item = _digits(dice, dice.whole(1, 4))
        words.append(item)
        length += len(item) + 1
    return _decorate(dice, _case(dice, words[:-1] if len(words) > 1 and length > wanted + 6 else words))


def _decorate(dice: Dice, words: list[str]) -> str:
    """Join `words` with the punctuation that lines have."""
    if dice.chance(0.22):
        at, pair = dice.below(len(words)), dice.pick(_BRACKETS)
        words[at] = f"{pair[0]}{words[at]}{pair[1]}"
    if len(words) > 1 and dice.chance(0.3):
        at, mark = dice.below(len(words) - 1), dice.pick(",,.-/&:;+@'_*=\\")
        glued = dice.chance(0.5) and mark not in ",.:;"
        words[at : at + 2] = (
            [f"{words[at]}{mark}{words[at + 1]}"] if glued else [_marked(words[at], mark), words[at + 1]]
        )
    return " ".join(words) + dice.pick(_ENDINGS)


def _marked(item: str, mark: str) -> str:
    return f"{item}{mark}" if mark in ",.:;" else f"{item} {mark}"


def _amount(dice: Dice, _: int) -> str:
    whole = dice.pick((dice.below(10), dice.below(100), dice.below(1000), dice.below(20000)))
    text = f"{whole:,}" if dice.chance(0.5) else str(whole)
    if dice.chance(0.9):
        text += "." + _digits(dice, dice.pick((2, 2, 2, 2, 3, 1)))
    if dice.chance(0.08):
        text = text.replace(",", "'").replace(".", ",")
    draw = dice.random()
    if draw < 0.28:
        text = dice.pick(_CURRENCIES) + text
    elif draw < 0.34:
        text += dice.pick(("%", " %", "kg", " KG", " g", "°C", " €", " PCS", "x", " X", " SR", " ZRL", "T", "-", " *"))
    if dice.chance(0.12):
        text = dice.pick(("-{}", "({})", "+{}", "*{}", "={}", "@{}", "x {}", "#{}", "~{}", "<{}>", "[{}]")).format(text)
    return text


def _row(dice: Dice, wanted: int) -> str:
    """Return a row of a bill: quantity, article, prices."""
    parts = [str(dice.whole(1, 24)) + dice.pick(("", "", " x", "X", " @", " PC", " pcs"))] if dice.chance(0.6) else []
    if wanted > 18:
        parts.append(_words(dice, wanted - 14))
    parts.extend(_amount(dice, 8) for _ in range(dice.whole(1, 3)))
    return " ".join(parts)


def _date(dice: Dice, wanted: int) -> str:
    day, month, year = dice.whole(1, 31), dice.whole(1, 12), dice.whole(1990, 2030)
    form, mark = dice.below(6), dice.pick("//--.")
    if form == 0:
        text = f"{day:02d}{mark}{month:02d}{mark}{year if dice.chance(0.7) else year % 100:02d}"
    elif form == 1:
        text = f"{year}{mark}{month:02d}{mark}{day:02d}"
    elif form == 2:
        text = f"{day}{mark}{month}{mark}{year}"
    elif form == 3:
        gap = dice.pick((" ", "-", "/", "."))
        text = f"{day:02d}{gap}{_shout(dice, dice.pick(MONTHS))}{gap}{year if dice.chance(0.6) else year % 100:02d}"
    elif form == 4:
        text = (
            f"{dice.pick(LONG_MONTHS)} {day}, {year}" if dice.chance(0.5) else f"{day}. {dice.pick(LONG_MONTHS)} {year}"
        )
    else:
        text = f"{_shout(dice, dice.pick(DAYS))} {day:02d}{mark}{month:02d}{mark}{year}"
    return f"{text} {_time(dice)}" if wanted > 14 and dice.chance(0.6) else text


def _shout(dice: Dice, item: str) -> str:
    return item.upper() if dice.chance(0.5) else item


def _time(dice: Dice) -> str:
    hour, minute = dice.below(24), dice.below(60)
    text = f"{hour:02d}:{minute:02d}" if dice.chance(0.7) else f"{hour % 12 + 1}:{minute:02d}"
    if dice.chance(0.5):
        text += f":{dice.below(60):02d}"
    return text + dice.pick(("", "", "", "", " AM", " PM", "AM", "PM", "am", " pm", " Uhr", "h"))


def _date_or_time(dice: Dice, wanted: int) -> str:
    return _time(dice) if wanted < 9 and dice.chance(0.6) else _date(dice, wanted)


def _code(dice: Dice, wanted: int) -> str:
    """Return an article or document number: letters and digits in groups."""
    text = ""
    while not text or (len(text) < min(wanted, 22) and dice.chance(0.75)):
        text += dice.pick(("", "-", "-", "/", "", ".", "_", " ", "#", ":")) if text else ""
        kind = dice.below(5)
        if kind < 3:
            text += _digits(dice, dice.pick((1, 2, 3, 4, 4, 5, 6, 6, 8, 10, 12, 13)))
        elif kind == 3:
            text += _letters(dice, dice.pick((1, 1, 2, 2, 3, 4)))
        else:
            text += "".join(dice.pick(_LETTERS + _DIGITS) for _ in range(dice.whole(3, 8)))
    if dice.chance(0.12):
        text = text.lower()
    if dice.chance(0.15):
        text = dice.pick(("({})", "<{}>", "*{}*", "[{}]", "#{}", "({}", "{})", "{}:", "{}.")).format(text)
    return text


def _phone(dice: Dice, _: int) -> str:
    form = dice.pick(
        (
            *("03-#### ####", "0##-### ####", "+6#-#-#### ####", "(0##) ###-####", "0#########", "+49 ### #######"),
            *(
                "1-###-##-####",
                "### ### ###",
                "##.##.##.##.##",
                "######-##-####",
                "00###########",
                "######-#",
                "######-@",
            ),
            *(
                "##-###########",
                "@@##########",
                "@@ ## #### #### ####",
                "**** **** **** ####",
                "XXXX-XXXX-####",
                "#####",
            ),
        )
    )
    return "".join(_fill(dice, char) for char in form)


def _fill(dice: Dice, char: str) -> str:
    if char == "#":
        return dice.pick(_DIGITS)
    return dice.pick(_LETTERS) if char == "@" else char


def _label(dice: Dice, wanted: int) -> str:
    """Return a label and its value."""
    name = " ".join(_case(dice, [word(dice) for _ in range(dice.pick((1, 1, 1, 2, 2)))]))
    if dice.chance(0.2):
        name += dice.pick((" No", " NO", " No.", " ID", "(RM)", " (%)", " #", "(S)", " (kg)", " @ 6%", "*", " ($)"))
    maker = dice.pick((_amount, _amount, _code, _code, _date_or_time, _phone, _words))
    value = maker(dice, max(4, wanted - len(name))) if wanted > 8 else ""
    return f"{name}{dice.pick(_LABEL_ENDS)}{value}"


def _address(dice: Dice, wanted: int) -> str:
    number = dice.pick(("{}", "No.{}", "NO. {}", "Lot {},", "{}A,", "#{}-02", "{}-{},", "{}/{}")).format(
        dice.whole(1, 299), dice.whole(1, 99)
    )
    words = [dice.pick(PLACES) if dice.chance(0.5) else made_up(dice) for _ in range(max(1, wanted // 8))]
    tail = f", {_digits(dice, 5)} {dice.pick(PLACES)}" if wanted > 24 else dice.pick(("", "", ",", "."))
    text = f"{number} {' '.join(item.capitalize() for item in words)}{tail}"
    return _shout(dice, text)


def _web(dice: Dice, wanted: int) -> str:
    host = made_up(dice) + dice.pick((".com", ".com.my", ".de", ".fr", ".net", ".org", ".co.uk", ".es"))
    text = dice.pick(("www.{h}", "{n}@{h}", "http://www.{h}/", "{n}.{m}@{h}", "{h}/{n}", "@{n}_{m}", "#{n}")).format(
        h=host, n=word(dice), m=word(dice)
    )
    return _shout(dice, text) if wanted % 3 == 0 else text


def _scramble(dice: Dice, wanted: int) -> str:
    """Return characters at random, every one as likely as any other, with spaces between."""
    pool = dice.pick((ASCII, ASCII, ASCII + LATIN + SIGNS, _SYMBOLS + _DIGITS, LATIN + _LETTERS, _LETTERS + _DIGITS))
    chars = [" " if dice.chance(0.1) else dice.pick(pool) for _ in range(max(1, min(wanted, 24)))]
    return "".join(chars).strip() or dice.pick(pool)


def _tiny(dice: Dice, wanted: int) -> str:
    """Return what fits one to three characters."""
    kind = dice.below(6)
    if kind < 2:
        return _digits(dice, wanted)
    if kind == 2:
        return _letters(dice, wanted)
    if kind == 3:
        return "".join(dice.pick(ASCII) for _ in range(wanted))
    if kind == 4:
        return dice.pick(
            ("RM", "SR", "x", "X", "1 x", "%", "6%", "No", "NO", "Qty", "T", "-", ":", "@", "*", "#", "$", "&", "kg")
        )
    return _shout(dice, word(dice)[:wanted])


_MAKERS: tuple[tuple[float, Maker], ...] = (
    (0.40, _words),
    (0.52, _label),
    (0.64, _amount),
    (0.70, _row),
    (0.76, _date_or_time),
    (0.85, _code),
    (0.89, _phone),
    (0.93, _address),
    (0.95, _web),
    (1.00, _scramble),
)


def _pick_maker(dice: Dice) -> Maker:
    draw = dice.random()
    return next(maker for share, maker in _MAKERS if draw < share)
