"""Check attention in one call against transformers' loop, in loss, gradients and time.

    python benchmarks/attention.py [--images 64] [--repeats 10] [--model builtin:reader] [--weights config]

The rival is transformers' own way: SDPA called once per image (or window) and layer. Both run the same model, weights
and batch: line images of mixed width, forward and backward of the loss over the whole text. On a GPU the weights are
bfloat16 and one call is PyTorch's variable-length flash kernel; on a CPU they are float32 and lines of one size go
together. The float32 loop is the reference for both errors, so a kernel is judged against the rounding that bfloat16
brings anyway: `error.one_call` should be no larger than about `error.loop`.

Prints one JSON object: machine and versions; relative errors of the loss and of all gradients together (Euclidean norm
of the difference over that of the reference); milliseconds per forward and backward (the middle of the repeats).
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from typing import Any

import torch
import transformers
from PIL import Image

from vlmrecipes.models.catalog import ModelRef, resolve
from vlmrecipes.models.load import device, dtype, load_model, load_processor

PROMPT = "Read this line."


def batch(ref: ModelRef, images: int, where: str) -> Any:
    """Return the model's inputs and labels for noise lines 24-64 px high and 100-900 px wide."""
    processor, draw = load_processor(ref), random.Random(7)  # noqa: S311
    sizes = [(draw.randint(100, 900), draw.randint(24, 64)) for _ in range(images)]
    message = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": PROMPT}]}]
    inputs = processor(
        text=[processor.apply_chat_template(message)] * images,
        images=[Image.effect_noise(size, 60).convert("RGB") for size in sizes],
        padding=True,
        return_tensors="pt",
    ).to(where)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    return {**inputs, "labels": labels}


def gradients(model: Any, inputs: Any) -> tuple[float, torch.Tensor]:
    """Return the loss and all gradients in one float32 vector."""
    model.zero_grad(set_to_none=True)
    loss = model(**inputs).loss
    loss.backward()
    return loss.item(), torch.cat([p.grad.float().flatten() for p in model.parameters() if p.grad is not None])


def milliseconds(model: Any, inputs: Any, repeats: int) -> float:
    """Return the median time of a forward and backward, after two that do not count."""
    times = [timed(model, inputs) for _ in range(repeats + 2)]
    return 1000 * statistics.median(times[2:])


def timed(model: Any, inputs: Any) -> float:
    """Return the seconds of one forward and backward."""
    model.zero_grad(set_to_none=True)
    finish()
    start = time.perf_counter()
    model(**inputs).loss.backward()
    finish()
    return time.perf_counter() - start


def finish() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def load(ref: ModelRef, weights: str, precision: str, attention: str | None) -> Any:
    """Return the model on this machine's device; `attention` None takes one call, `sdpa` the loop.

    Weights are made in 32 bits and rounded: random ones would come out different in 16.
    """
    model = load_model(ref, init=weights, load_in="full", device=device(), seed=1, attention=attention)
    return model.to(dtype(precision, device()))


def measure(ref: ModelRef, weights: str, images: int, repeats: int) -> dict[str, Any]:
    """Return errors and times of both ways."""
    inputs = batch(ref, images, device())
    loss, reference = gradients(load(ref, weights, "full", "sdpa"), inputs)
    error, speed = {}, {}
    for name, attention in (("one_call", None), ("loop", "sdpa")):
        model = load(ref, weights, "16bit", attention)
        found, vector = gradients(model, inputs)
        difference = ((vector - reference).norm() / reference.norm()).item()
        error[name] = {"loss": abs(found - loss) / abs(loss), "gradients": difference}
        speed[name] = milliseconds(model, inputs, repeats)
    ratio = speed["loop"] / speed["one_call"]
    return {"loss": loss, "error": error, "milliseconds": speed, "times_faster": ratio, "patches": patches(inputs)}


def patches(inputs: Any) -> dict[str, int]:
    """Return the batch's vision tokens, and how many sizes of image are among them."""
    lengths = inputs["image_grid_thw"].prod(1).tolist()
    return {"total": sum(lengths), "longest": max(lengths), "lengths": len(set(lengths))}


def main() -> None:
    """Print the measurement as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="builtin:reader")
    parser.add_argument("--weights", choices=["weights", "config"], default="config")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    about = {"model": args.model, "device": machine, "threads": torch.get_num_threads(), "versions": versions}
    ref = resolve(args.model, weights=args.weights == "weights")
    result = measure(ref, args.weights, args.images, args.repeats)
    print(json.dumps({"date": time.strftime("%Y-%m-%d"), **about, "images": args.images, **result}, indent=1))


if __name__ == "__main__":
    main()
