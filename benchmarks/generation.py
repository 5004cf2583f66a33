"""Measure how fast predictions are generated, against a loop of one row at a time and fixed batches in file order.

    python benchmarks/generation.py [--rows 96] [--one N] [--source rendered|receipts] [--of lines|pages|mixed] [--repeats 3]
                                    [--device cpu] [--shape reader|2b] [--precision full|16bit] [--longest 128] [--pixels N]

Rows are rendered here, with references: printed lines of 4-50 characters; pages are blocks of three to five such lines. With
`--source receipts` they are real: lines, and whole pictures, of $VLMRECIPES_DATA/sroie_receipts. `mixed` makes every third a
page. All contenders use the same loaded model, prompts and longest answer:

- `one`: transformers' `generate` on one row after the other, as many evaluation scripts do;
- `fixed`: batches of 16 rows in file order, padded on the left, until the last row of each has ended;
- `engine`: this project's engine.

They take turns (one, fixed, engine, one, …), and the best time of each counts; with `--one N`, `one` takes a single turn over
the first N rows. On a CPU, seconds are those of the processor, all threads together, which other work on the machine does
not lengthen; `wall` has those of the clock. On the rows of `one`: `equal` is the share whose text is that of `one`, `cer`
each contender's score with its 95 % interval (meaningless for the random weights of `2b`), and `inside` whether the engine's
lies in the interval of `one`.

Prints every time as it is taken to standard error, then one JSON object, which it also writes to
benchmarks/results/generation-DEVICE-SHAPE-PRECISION-[receipts-]OF.json.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator
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


def rows(count: int, source: str, of: str, pictures: Pictures) -> list[Sample]:
    """Return lines, pages, or both, with what stands in them."""
    draw = random.Random(11)  # noqa: S311 - the same rows every time
    kinds = ["page" if of == "pages" or (of == "mixed" and draw.random() < 1 / 3) else "line" for _ in range(count)]
    found = _receipts(kinds, draw) if source == "receipts" else (_printed(kind, draw) for kind in kinds)
    return [_row(number, image, text, pictures) for number, (image, text) in enumerate(found)]


def _row(number: int, image: Image.Image, text: str, pictures: Pictures) -> Sample:
    return Sample(
        id=f"{number:032x}",
        images=(pictures.add(image),),
        messages=tuple(PROMPT),
        references=(text,),
        group=str(number),
        split="eval",
        source="benchmark",
        metadata={},
    )


def _printed(kind: str, draw: random.Random) -> tuple[Image.Image, str]:
    lines = [_line(draw, draw.randint(4, 50)) for _ in range(1 if kind == "line" else draw.randint(3, 5))]
    return _rendered(lines, draw.randint(18, 28)), "\n".join(lines)


def _receipts(kinds: list[str], draw: random.Random) -> Iterator[tuple[Image.Image, str]]:
    """Yield a line or a whole receipt for each of `kinds`; either come again when there are no more."""
    folder = Path(os.environ["VLMRECIPES_DATA"]) / "sroie_receipts"
    found = [json.loads(row) for row in (folder / "manifest.jsonl").read_text("utf-8").splitlines()]
    lines = [(page, line) for page in found for line in page["lines"] if line["text"].strip()]
    draw.shuffle(lines)
    for place, kind in enumerate(kinds):
        page, line = lines[place % len(lines)]
        if kind == "line":
            with Image.open(folder / page["image"]) as whole:
                yield whole.convert("RGB").crop(line["bbox"]), line["text"]
        else:
            page = found[place % len(found)]
            with Image.open(folder / page["image"]) as whole:
                yield whole.convert("RGB"), "\n".join(one["text"] for one in page["lines"])


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
    parser.add_argument("--one", type=int, default=0, help="rows of the batch-of-one loop; all by default")
    parser.add_argument("--source", choices=["rendered", "receipts"], default="rendered")
    parser.add_argument("--of", choices=["lines", "pages", "mixed"], default="lines")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch on a CPU")
    parser.add_argument("--longest", type=int, default=128, help="most new tokens of an answer")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shape", choices=["reader", "2b"], default="reader")
    parser.add_argument(
        "--pixels", type=int, help="most pixels of a picture; default: as the built-in model was trained"
    )
    parser.add_argument("--precision", choices=["full", "16bit"], default="full")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, processor = load(args.shape, args.device, args.precision)
    if args.pixels:
        images = processor.image_processor
        images.size = {"shortest_edge": images.size["shortest_edge"], "longest_edge": args.pixels}
    pictures = Pictures()
    samples = rows(args.rows, args.source, args.of, pictures)
    about = (model, processor, samples, pictures, args.longest)
    first = samples[: args.one or None]
    contenders: dict[str, Callable[[], list[str]]] = {
        "one": lambda: plain(1, (model, processor, first, pictures, args.longest)),
        "fixed": lambda: plain(FIXED, about),
        "engine": lambda: engine(about),
    }
    counts = {"one": len(first), "fixed": args.rows, "engine": args.rows}
    plain(2, (model, processor, samples[:4], pictures, args.longest))  # warm
    times: dict[str, list[float]] = {name: [] for name in contenders}
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    said: dict[str, list[str]] = {}
    for turn in range(args.repeats):
        for name, work in contenders.items():
            if name == "one" and args.one and turn:
                continue
            spent, passed, said[name] = timed(work)
            times[name].append(round(passed if args.device == "cuda" else spent, 3))
            wall[name].append(round(passed, 3))
            print(json.dumps({"contender": name, "rows": counts[name], "seconds": times[name][-1]}), file=sys.stderr)
    speeds = {name: counts[name] / min(found) for name, found in times.items()}
    common = {name: texts[: len(first)] for name, texts in said.items()}
    scores = {name: cer(first, texts) for name, texts in common.items()}
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": torch.cuda.get_device_name() if args.device == "cuda" else f"{platform.machine()} CPU",
        "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        **vars(args),
        "seconds": times,
        "wall": wall,
        "rows_per_second": {name: round(speed, 2) for name, speed in speeds.items()},
        "times_faster_than": {name: round(speeds["engine"] / speeds[name], 2) for name in ("one", "fixed")},
        "equal": {name: _equal(texts, common["one"]) for name, texts in common.items()},
        "cer": scores,
        "inside": scores["one"]["low"] <= scores["engine"]["value"] <= scores["one"]["high"],
    }
    text = json.dumps(result, indent=1)
    kind = f"{args.source}-{args.of}" if args.source == "receipts" else args.of
    name = f"generation-{args.device}-{args.shape}-{args.precision}-{kind}.json"
    (Path(__file__).parent / "results" / name).write_text(text + "\n", "utf-8")
    print(text)


def _equal(texts: list[str], others: list[str]) -> float:
    return sum(a == b for a, b in zip(texts, others, strict=True)) / len(others)


if __name__ == "__main__":
    main()
