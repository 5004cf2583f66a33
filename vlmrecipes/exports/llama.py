"""What llama.cpp answers with an exported GGUF.

llama.cpp brings pictures to size in its own way, which costs small models on small text. So that weights are compared and not
ways of resizing, it is given pictures that have the size already, where the processor tells it (the Qwen-VL families).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.exports.judge import most_apart
from vlmrecipes.exports.parity import Probe
from vlmrecipes.records.scoring import rows_of, values

PROGRAM = "llama-mtmd-cli"
ROWS = 4
SECONDS = 600
MARKER = "<__media__>"
"""Where llama.cpp puts a picture."""
ENDS = re.compile(r"<\|im_end\|>\s*$")


def find(folder: Path) -> Path | None:
    """Return llama.cpp's program for pictures: built beside its converter, else on the PATH."""
    built = [folder / "build" / "bin" / PROGRAM, folder / PROGRAM]
    there = next((path for path in built if path.is_file()), None) or shutil.which(PROGRAM)
    return Path(there) if there else None


def compare(program: Path, model: Path, mmproj: Path, probe: Probe) -> dict[str, Any]:
    """Return `answers` {program, rows, same, metrics, texts} of a few rows of one turn, and `problems`."""
    source = probe.source
    asked = [place for place, row in enumerate(probe.rows) if len(row["messages"]) == 1][:ROWS]
    if not asked:
        return {"answers": {"program": program.name, "rows": 0}}
    live = probe.live("16bit" if source.quantised else source.load_in)
    processor, command = source.processor(), [str(program), "-m", str(model), "--mmproj", str(mmproj)]
    command += ["--jinja", "--temp", "0", "--no-warmup", "-n", str(source.plan.max_new_tokens), *_limits(processor)]
    texts, problems = [], []
    for place in asked:
        text, problem = _answer(command, probe.rows[place], processor)
        texts.append(text)
        problems += [problem] if problem else []
    own = [live[place]["text"] for place in asked]
    metrics, most = _metrics(probe, asked, own, texts), most_apart(len(asked), loose=True)
    problems += [
        f"{PROGRAM}: {name} is {each['export']:.4g} where the run's model has {each['live']:.4g}"
        for name, each in metrics.items()
        if each["live"] is not None and each["export"] is not None and abs(each["live"] - each["export"]) > most
    ]
    same = sum(mine.strip() == other for mine, other in zip(own, texts, strict=True))
    told = {"program": program.name, "rows": len(asked), "same": same, "metrics": metrics, "texts": texts}
    return {"answers": told, "problems": problems}


def _metrics(probe: Probe, asked: Sequence[int], own: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
    samples = [probe.samples[place] for place in asked]
    names = probe.source.plan.recipe.eval.metrics
    sides = []
    for said in (own, texts):
        told = [
            {"id": sample.id, "text": text, "tokens": 0, "truncated": False}
            for (_, sample), text in zip(samples, said, strict=True)
        ]
        sides.append(values(rows_of("tuned", samples, told), names))
    return {name: {"live": sides[0][name], "export": sides[1][name]} for name in names}


def _answer(command: Sequence[str], row: Mapping[str, Any], processor: Any) -> tuple[str, str]:
    """Return the program's answer to a row of one turn, and why there is none."""
    content = row["messages"][0]["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    prompt = "".join(part["text"] if part["type"] == "text" else MARKER for part in parts)
    images = [word for path in row["images"] for word in ("--image", str(_sized(Path(path), processor)))]
    try:
        done = subprocess.run(  # noqa: S603 - the user's own program, no shell
            [*command, *images, "-p", prompt],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return "", f"{PROGRAM} took longer than {SECONDS} s"
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["no word of why"]
        return "", f"{PROGRAM} ended with code {done.returncode}: {words[-1]}"
    return ENDS.sub("", done.stdout).strip(), ""


def _sized(path: Path, processor: Any) -> Path:
    """Return the picture in the size that the processor brings it to, beside the one given."""
    from PIL import Image

    images = processor.image_processor
    with Image.open(path) as picture:
        plain = picture.convert("RGB")
    grid = images(images=[plain], return_tensors="pt").get("image_grid_thw")
    if grid is None:
        return path
    _, height, width = (int(number) * images.patch_size for number in grid[0])
    target = path.with_name(f"{path.name}.{width}x{height}.png")
    plain.resize((width, height), Image.Resampling(int(images.resample))).save(target)
    return target


def _limits(processor: Any) -> list[str]:
    """Return the image processor's limits of size as llama.cpp takes them, in tokens."""
    images = processor.image_processor
    size, patch, merge = (getattr(images, name, None) for name in ("size", "patch_size", "merge_size"))
    least, most = (getattr(size, name, None) for name in ("shortest_edge", "longest_edge"))
    if not (patch and merge and least and most):
        return []
    token = (patch * merge) ** 2
    return ["--image-min-tokens", str(least // token), "--image-max-tokens", str(most // token)]
