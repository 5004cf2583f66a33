"""What `benchmarks/training.py` trains: models of real shapes with random weights, and rows drawn here.

    python benchmarks/made.py SHAPE FOLDER     makes one model, on the GPU where there is one

Random weights take the time and memory of real ones. Models read bytes, one token each, as `builtin:reader` does; their
tables of tokens have the real size.
"""

from __future__ import annotations

import fcntl
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from vlmrecipes.models import make_reader

PROMPT = "Read the text."
LETTERS = "etaoinshrdlucmfwypvbgkjqxz    "
PIXELS = {"shortest_edge": 4 * 28 * 28, "longest_edge": 12_845_056}
"""Limits of Qwen2.5-VL's own processor."""
VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "num_heads": 16,
    "intermediate_size": 3420,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
ROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
TEXT = {"max_position_embeddings": 32_768, "rope_parameters": ROPE, "num_hidden_layers": 28}
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "7b": (
        TEXT
        | {
            "hidden_size": 3584,
            "intermediate_size": 18_944,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152_064,
            "tie_word_embeddings": False,
        },
        VISION | {"out_hidden_size": 3584},
    ),
    "2b": (
        TEXT
        | {
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "vocab_size": 151_936,
        },
        VISION | {"out_hidden_size": 1536},
    ),
    "12m": ({}, {}),
    "tiny": ({"num_hidden_layers": 1}, {"depth": 1, "fullatt_block_indexes": [0]}),
}
"""What differs from `builtin:reader` in the language model and in the vision tower: Qwen2.5-VL-7B, Qwen2-VL-2B's language
model under the same tower, the reader itself, and one for a CPU."""

Sizes = Mapping[str, tuple[int, int, int, int]]
"""Kind of row → share of the rows, width, height, letters of the answer. A width below 0 is drawn: at most so many pixels."""
DATA: dict[str, tuple[int, Sizes]] = {
    "mixed": (96, {"page": (1, 840, 1120, 600), "line": (2, -896, 56, 40)}),
    "small": (8, {"square": (1, 448, 448, 100)}),
    "large": (8, {"page": (1, 1120, 1456, 400)}),
}
"""Rows of a set and their kinds. Widths are multiples of 28, so that no contender resizes."""
TINY: dict[str, tuple[int, Sizes]] = {
    "mixed": (96, {"page": (1, 112, 168, 40), "line": (2, -112, 28, 10)}),
    "small": (4, {"square": (1, 56, 56, 10)}),
    "large": (4, {"page": (1, 112, 168, 40)}),
}
DECLARATION = """
name = "{name}"
license = "CC0-1.0"
[[source]]
type = "jsonl"
path = "{name}.jsonl"
image = "{{image}}"
prompt = "{prompt}"
answer = "{{answer}}"
split = "{{side}}"
[prepare]
max_side = 4096
"""
EVAL = 2
"""Rows of every set that are not learned."""


def folder_of(work: Path, shape: str) -> Path:
    """Return the folder of a model."""
    return work / "models" / shape


def prepare(work: Path, shapes: list[str], *, tiny: bool) -> None:
    """Make the models and the store that are not there yet; of several processes, one makes and the others wait."""
    work.mkdir(parents=True, exist_ok=True)
    with _alone(work / "lock"), ThreadPoolExecutor() as pool:
        made = [pool.submit(_make, folder_of(work, shape), shape) for shape in shapes]
        _ingest(work, TINY if tiny else DATA)
        for one in made:
            one.result()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(folder: Path, shape: str) -> None:
    """Make a model in a process of its own, which gives the memory of the GPU back."""
    if not folder.exists():
        subprocess.run([sys.executable, __file__, shape, str(folder)], check=True, stdout=sys.stderr)


def write_model(shape: str, folder: Path) -> None:
    """Write configuration, processor and random bfloat16 weights; the folder is there whole or not at all."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    aside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    make_reader.write(aside)
    (aside / "chat_template.jinja").write_text(_template(), "utf-8")
    _merge(aside / "config.json", *SHAPES[shape])
    _merge(aside / "preprocessor_config.json", {"size": PIXELS})
    _merge(aside / "tokenizer_config.json", {"model_max_length": 32_768})
    torch.manual_seed(1)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(aside), dtype=torch.bfloat16)
    config = (aside / "config.json").read_text("utf-8")
    model.save_pretrained(aside, max_shard_size="4GB")
    (aside / "config.json").write_text(config, "utf-8")
    aside.rename(folder)


def _template() -> str:
    """Return the reader's chat template with line breaks before a turn in place of after it.

    A run learns the line break at the end of an answer, Unsloth's collator does not: losses could not be compared.
    """
    start, end = "{{- '<|im_start|>' + message.role", "{{- '<|im_end|>\\n' }}"
    before, after = "{{- ('' if loop.first else '\\n') + '<|im_start|>' + message.role", "{{- '<|im_end|>' }}"
    asked, again = "{{- '<|im_start|>assistant", "{{- '\\n<|im_start|>assistant"
    found = make_reader.CHAT_TEMPLATE
    for old, new in ((start, before), (end, after), (asked, again)):
        if found.count(old) != 1:
            raise ValueError(f"{old!r} is not in the template")
        found = found.replace(old, new)
    return found


def _merge(path: Path, top: Mapping[str, Any], vision: Mapping[str, Any] | None = None) -> None:
    """Put settings into a JSON file: into the two parts of a model's configuration when `vision` is given."""
    found = json.loads(path.read_text("utf-8"))
    if vision is None:
        found |= top
    else:
        found["text_config"] |= top
        found["vision_config"] |= vision
        found["tie_word_embeddings"] = found["text_config"]["tie_word_embeddings"]
    path.write_text(json.dumps(found), "utf-8")


def _ingest(work: Path, data: Mapping[str, tuple[int, Sizes]]) -> None:
    """Draw the sets and bring them into the store."""
    import vlmrecipes

    for name, (count, kinds) in data.items():
        if (work / f"{name}.ingested").exists():
            continue
        rows = list(_drawn(work, name, count, kinds))
        (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        (work / f"{name}.toml").write_text(DECLARATION.format(name=name, prompt=PROMPT), "utf-8")
        vlmrecipes.ingest(work / f"{name}.toml", store=str(work / "store"), workers=4)
        (work / f"{name}.ingested").touch()


def _drawn(work: Path, name: str, count: int, kinds: Sizes) -> Iterator[dict[str, str]]:
    """Yield the rows of a set in shuffled order; their pictures are written."""
    draw = random.Random(7)  # noqa: S311 - the same rows every time
    order = [kind for kind, (share, *_) in kinds.items() for _ in range(share)]
    turns = [order[number % len(order)] for number in range(count)]
    draw.shuffle(turns)
    (work / name).mkdir(exist_ok=True)
    for number, kind in enumerate([*turns, *turns[:EVAL]]):
        _, width, height, letters = kinds[kind]
        if width < 0:
            width = 28 * draw.randint(-width // 28 // 4, -width // 28)
        answer = _words(draw, letters)
        path = f"{name}/{number}.png"
        _written(answer, width, height).save(work / path)
        yield {"image": path, "answer": answer, "side": "train" if number < count else "eval"}


def _words(draw: random.Random, letters: int) -> str:
    """Return so many letters of words."""
    text = " ".join("".join(draw.choices(LETTERS, k=2 * letters)).split())
    return text[:letters].strip().ljust(letters, "x")


def _written(text: str, width: int, height: int) -> Image.Image:
    """Return a picture with the text on it, wrapped at 40 letters."""
    image = Image.new("RGB", (width, height), "white")
    lines = "\n".join(text[start : start + 40] for start in range(0, len(text), 40))
    font = ImageFont.load_default(max(8, min(height // 3, width // 24)))
    ImageDraw.Draw(image).multiline_text((4, 4), lines, fill="black", font=font)
    return image


if __name__ == "__main__":
    write_model(sys.argv[1], Path(sys.argv[2]))
