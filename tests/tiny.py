"""A model, a processor and pictures small enough for tests, and a reader that holds its images in memory."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from vlmrecipes.data.sample import Sample

READER = Path(__file__).parents[1] / "vlmrecipes" / "models" / "reader"


def processor() -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(READER)


def model(seed: int = 0) -> Any:
    """Return the built-in model's shape with one layer in each tower and random weights in float32."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(READER)
    config.vision_config.depth = 1
    config.vision_config.fullatt_block_indexes = [0]
    config.text_config.num_hidden_layers = 1
    config.text_config.layer_types = ["full_attention"]
    torch.manual_seed(seed)
    return AutoModelForImageTextToText.from_config(config, dtype=torch.float32)


def png(width: int, height: int, seed: int = 0) -> bytes:
    """Return a picture of noise."""
    pixels = random.Random(seed).randbytes(width * height * 3)
    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), pixels).save(file, "PNG")
    return file.getvalue()


@dataclass
class MemoryReader:
    """Stands in for the store's reader; may be pickled."""

    images: dict[str, bytes] = field(default_factory=dict)

    def add(self, data: bytes) -> str:
        key = hashlib.sha256(data).hexdigest()
        self.images[key] = data
        return key

    def read(self, keys: Sequence[str]) -> list[bytes]:
        return [self.images[key] for key in keys]


def user(text: str, images: int = 1) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image"}] * images + [{"type": "text", "text": text}]}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def sample(number: int, messages: Sequence[dict[str, Any]], answer: str, images: Sequence[str], **more: Any) -> Sample:
    given = {"group": str(number), "split": "train", "source": "test", "metadata": {}} | more
    return Sample(id=f"{number:032x}", images=tuple(images), messages=tuple(messages), references=(answer,), **given)


def lines(reader: MemoryReader, count: int, seed: int = 0, **more: Any) -> list[Sample]:
    """Return samples of one line image each, with answers of different lengths."""
    found = []
    for number in range(count):
        key = reader.add(png(40 + 10 * (number % 5), 32, seed + number))
        found.append(
            sample(seed + number, [user("Read the text.")], f"line {number} " * (1 + number % 3), [key], **more)
        )
    return found
