"""`init`: a small project that runs as it is, to be changed into one's own."""

from __future__ import annotations

import json
from pathlib import Path

from vlmrecipes.errors import InputError

WORDS = "apple bread cheese dates eggs flour grapes honey ice juice kiwi lemon milk nuts oats pears rice salt tea water"
DECLARATION = """\
# Where the rows come from, and what is done to them. `vlmrecipes schema declaration` describes every key.
name = "example"
license = "CC0-1.0"

[[source]]
type = "jsonl"
path = "../data/rows.jsonl"
image = "{image}"
prompt = "Read the text."
answer = "{text}"

[split]
eval = 0.25
"""
RECIPE = """\
# What is tuned on what. `vlmrecipes schema recipe` describes every key.
name = "example"
version = "1.0.0"

[data]
train = "example"

[model]
id = "builtin:reader"

[lora]
r = 16

[train]
batch_size = 8
steps = 20

[eval]
metrics = ["wer", "cer"]
"""


def scaffold(folder: Path) -> list[Path]:
    """Write the project into `folder` and return its files. Raises InputError when one of them is there already."""
    texts = {"datasets/example.toml": DECLARATION, "recipes/example.toml": RECIPE}
    pictures = {f"data/images/{number:02}.png": text for number, text in enumerate(_lines())}
    rows = "".join(
        json.dumps({"image": name.removeprefix("data/"), "text": text}) + "\n" for name, text in pictures.items()
    )
    texts["data/rows.jsonl"] = rows
    there = [name for name in (*texts, *pictures) if (folder / name).exists()]
    if there:
        raise InputError.one(f"{there[0]} is there already; nothing was written", file=str(folder))
    try:
        for name, text in texts.items():
            _make(folder / name).write_text(text, "utf-8")
        for name, text in pictures.items():
            _draw(text, _make(folder / name))
    except OSError as error:
        raise InputError.one(f"cannot be written: {error.strerror}", file=str(folder)) from None
    return [folder / name for name in (*texts, *pictures)]


def _lines() -> list[str]:
    """Return forty price lines."""
    words = WORDS.split()
    return [f"{words[number % 20].title()} {number * 37 % 9 + 1}.{number * 53 % 90 + 10}" for number in range(40)]


def _make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _draw(text: str, path: Path) -> None:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(24)
    width = round(font.getlength(text)) + 24
    image = Image.new("RGB", (width, 40), "white")
    ImageDraw.Draw(image).text((12, 6), text, font=font, fill=(30, 30, 40))
    image.save(path)
