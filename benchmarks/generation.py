"""Measure how fast predictions are generated, against a loop of one row at a time and fixed batches in file order.

    python benchmarks/generation.py [--rows 96] [--of lines|mixed] [--repeats 3] [--device cpu] [--shape reader|2b]
                                    [--precision full|16bit] [--threads 2]

Rows are rendered here, with references: printed lines of 4-50 characters, as on receipts; `mixed` makes every third a block
of three to five such lines, a small page. All contenders use the same loaded model, prompts and longest answer:

- `one`: transformers' `generate` on one row after the other, as many evaluation scripts do;
- `fixed`: batches of 16 rows in file order, padded on the left, until the last row of each has ended;
- `engine`: this project's engine.

They take turns (one, fixed, engine, one, …), and the best time of each counts. On a CPU, seconds are those of the processor,
all threads together, which other work on the machine does not lengthen; `wall` has those of the clock. `equal` is the
share of rows whose text is that of `one`; `cer` is each contender's score with its 95 % interval (meaningless for the
random weights of `2b`).

Prints one JSON object and writes it to benchmarks/results/generation-DEVICE-SHAPE-PRECISION-OF.json.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image, ImageDraw, ImageFont

from vlmrecipes.data.loader import decode
from vlmrecipes.data.sample import Sample
from vlmrecipes.evaluate.engines.hf import HfEngine, end_tokens
from vlmrecipes.evaluate.score import Answer, score
from vlmrecipes.models.catalog import resolve
from vlmrecipes.models.chat import Chat, process_prompts
from vlmrecipes.models.load import load_model, load_processor

FIXED = 16
"""Rows of a fixed batch."""
PROMPT = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Read the text."}]}]
LETTERS = "etaoinshrdlucmfwypvbgkjqxz0123456789"


About = tuple[Any, Any, list[Sample], "Pictures", int]
"""Model, processor, samples, their pictures, and the most new tokens."""


class Pictures:
    """Holds encoded images in memory."""

    def __init__(self) -> None:
        """Start with none."""
        self.held: dict[str, bytes] = {}

    def add(self, image: Image.Image) -> str:
        """Keep an image as PNG and return its key."""
        file = io.BytesIO()
        image.save(file, "PNG")
        key = hashlib.sha256(file.getvalue()).hexdigest()
        self.held[key] = file.getvalue()
        return key

    def read(self, keys: Any) -> list[bytes]:
        """Return the bytes of images."""
        return [self.held[key] for key in keys]


def rows(count: int, of: str, pictures: Pictures) -> list[Sample]:
    """Return rendered lines, or lines and blocks, with what stands in them."""
    draw = random.Random(11)  # noqa: S311 - the same rows every time
    return [_row(number, draw, of, pictures) for number in range(count)]


def _row(number: int, draw: random.Random, of: str, pictures: Pictures) -> Sample:
    height = 1 if of == "lines" or draw.random() < 2 / 3 else draw.randint(3, 5)
    lines = [_line(draw, draw.randint(4, 50)) for _ in range(height)]
    return Sample(
        id=f"{number:032x}",
        images=(pictures.add(_rendered(lines, draw.randint(18, 28))),),
        messages=tuple(PROMPT),
        references=("\n".join(lines),),
        group=str(number),
        split="eval",
        source="rendered",
        metadata={},
    )


def _line(draw: random.Random, length: int) -> str:
    words: list[str] = []
    while len(" ".join(words)) < length:
        words.append("".join(draw.choices(LETTERS, k=draw.randint(1, 9))))
    return " ".join(words)[:length].strip()


def _rendered(lines: list[str], size: int) -> Image.Image:
    font = ImageFont.load_default(size)
    width = max(int(font.getlength(line)) for line in lines) + 16
    image = Image.new("RGB", (max(width, 56), len(lines) * (size + 8) + 16), "white")
    ImageDraw.Draw(image).multiline_text((8, 8), "\n".join(lines), fill="black", font=font, spacing=8)
    return image


def load(shape: str, device: str, precision: str) -> tuple[Any, Any]:
    """Return model and processor: the built-in model, or random weights in the shape of a 2B model."""
    ref = resolve("builtin:reader")
    load_in: Any = precision
    if shape == "reader":
        return load_model(ref, load_in=load_in, device=device), load_processor(ref)
    folder = _shaped_2b(Path(ref.path))
    return load_model(resolve(str(folder), weights=False), init="config", load_in=load_in, device=device), (
        load_processor(ref)
    )


def _shaped_2b(reader: Path) -> Path:
    """Write the configuration of a model with the sizes of Qwen2-VL-2B and return its folder."""
    import tempfile

    config = json.loads((reader / "config.json").read_text("utf-8"))
    config["vision_config"] |= {
        "depth": 32,
        "hidden_size": 1280,
        "num_heads": 16,
        "intermediate_size": 3420,
        "out_hidden_size": 1536,
        "fullatt_block_indexes": list(range(32)),
    }
    text = config["text_config"]
    text |= {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "max_window_layers": 28,
        "layer_types": ["full_attention"] * 28,
        "vocab_size": 151_936,
    }
    for name in ("rope_parameters", "rope_scaling"):
        if name in text:
            text[name]["mrope_section"] = [16, 24, 24]
    folder = Path(tempfile.mkdtemp())
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def plain(size: int, about: About) -> list[str]:
    """Answer `size` rows at a time in file order with transformers' own loop."""
    model, processor, samples, pictures, longest = about
    chat, ends = Chat(processor), end_tokens(model, processor)
    options = {"max_new_tokens": longest, "do_sample": False, "eos_token_id": ends}
    said: list[str] = []
    for start in range(0, len(samples), size):
        batch = samples[start : start + size]
        images = [[decode(data) for data in pictures.read(sample.images)] for sample in batch]
        prompts = [chat.prompt(sample.messages) for sample in batch]
        inputs = process_prompts(processor, prompts, images, padding_side="left").to(model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        pad = processor.tokenizer.pad_token_id
        with torch.inference_mode():
            output = model.generate(**inputs, **options, pad_token_id=pad)
        ids = output[:, inputs["input_ids"].shape[1] :].tolist()
        said += [processor.tokenizer.decode(_cut(one, ends), skip_special_tokens=True) for one in ids]
    return said


def _cut(ids: list[int], ends: list[int]) -> list[int]:
    return ids[: next((place for place, number in enumerate(ids) if number in ends), None)]


def engine(about: About) -> list[str]:
    """Answer all rows with this project's engine."""
    model, processor, samples, pictures, longest = about
    made = HfEngine(model, processor, longest)
    done = {place: one.text or "" for answered in made.answers(samples, pictures) for place, one in answered}
    return [done[place] for place in range(len(samples))]


def timed(work: Callable[[], list[str]]) -> tuple[float, float, list[str]]:
    """Return seconds of the processor and of the clock, and texts."""
    start, began = time.process_time(), time.perf_counter()
    said = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.process_time() - start, time.perf_counter() - began, said


def cer(samples: list[Sample], said: list[str]) -> dict[str, Any]:
    """Return the character error rate with its interval."""
    answers = [
        Answer(id=sample.id, prediction=text, references=sample.references, cluster=sample.group, labels={})
        for sample, text in zip(samples, said, strict=True)
    ]
    found = score(answers, ["cer"])[0]["cer"]
    return {name: found[name] for name in ("value", "low", "high")}


def main() -> None:
    """Print the measurement as JSON and write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--of", choices=["lines", "mixed"], default="lines")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch on a CPU")
    parser.add_argument("--longest", type=int, default=128, help="most new tokens of an answer")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shape", choices=["reader", "2b"], default="reader")
    parser.add_argument("--precision", choices=["full", "16bit"], default="full")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, processor = load(args.shape, args.device, args.precision)
    pictures = Pictures()
    samples = rows(args.rows, args.of, pictures)
    about = (model, processor, samples, pictures, args.longest)
    contenders: dict[str, Callable[[], list[str]]] = {
        "one": lambda: plain(1, about),
        "fixed": lambda: plain(FIXED, about),
        "engine": lambda: engine(about),
    }
    plain(2, (model, processor, samples[:4], pictures, args.longest))  # warm
    times: dict[str, list[float]] = {name: [] for name in contenders}
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    said: dict[str, list[str]] = {}
    for _ in range(args.repeats):
        for name, work in contenders.items():
            spent, passed, said[name] = timed(work)
            times[name].append(round(passed if args.device == "cuda" else spent, 3))
            wall[name].append(round(passed, 3))
    best = {name: min(found) for name, found in times.items()}
    pairs = {name: zip(texts, said["one"], strict=True) for name, texts in said.items()}
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": torch.cuda.get_device_name() if args.device == "cuda" else f"{platform.machine()} CPU",
        "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        **vars(args),
        "seconds": times,
        "wall": wall,
        "rows_per_second": {name: round(args.rows / seconds, 2) for name, seconds in best.items()},
        "times_faster_than": {name: round(best[name] / best["engine"], 2) for name in ("one", "fixed")},
        "equal": {name: sum(a == b for a, b in pair) / args.rows for name, pair in pairs.items()},
        "cer": {name: cer(samples, texts) for name, texts in said.items()},
    }
    text = json.dumps(result, indent=1)
    name = f"generation-{args.device}-{args.shape}-{args.precision}-{args.of}.json"
    (Path(__file__).parent / "results" / name).write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
