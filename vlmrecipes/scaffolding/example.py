"""The project that `init` writes when it is given no images: forty drawn lines and what reads them."""

from __future__ import annotations

import io
import json

from vlmrecipes.scaffolding import texts
from vlmrecipes.scaffolding.guess import Choice

WORDS = "apple bread cheese dates eggs flour grapes honey ice juice kiwi lemon milk nuts oats pears rice salt tea water"
SOURCE = (("type", "jsonl"), ("path", "../data/rows.jsonl"), ("image", "{image}"), ("prompt", "Read the text."))
ANSWER = ("answer", "{text}")


def project() -> dict[str, bytes]:
    """Return the files of the project by name."""
    choices = tuple(Choice(key, value, "") for key, value in (*SOURCE, ANSWER))
    found = texts.Found("example", choices, ("wer", "cer"), {}, license="CC0-1.0", eval=0.25, steps=20)
    pictures = {f"data/images/{number:02}.png": text for number, text in enumerate(_lines())}
    rows = "".join(
        json.dumps({"image": name.removeprefix("data/"), "text": text}) + "\n" for name, text in pictures.items()
    )
    written = {name: text.encode() for name, text in texts.project(found).items()}
    return written | {"data/rows.jsonl": rows.encode()} | {name: _drawn(text) for name, text in pictures.items()}


def _lines() -> list[str]:
    """Return forty price lines."""
    words = WORDS.split()
    return [f"{words[number % 20].title()} {number * 37 % 9 + 1}.{number * 53 % 90 + 10}" for number in range(40)]


def _drawn(text: str) -> bytes:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(24)
    image = Image.new("RGB", (round(font.getlength(text)) + 24, 40), "white")
    ImageDraw.Draw(image).text((12, 6), text, font=font, fill=(30, 30, 40))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
