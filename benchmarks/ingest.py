"""Ingest of 2-megapixel JPEGs to 1000 pixels, against the bare codec, `datasets` and img2dataset; and what growth costs.

    python benchmarks/ingest.py [--images 1000] [--rounds 3] [--grow 10000] [--img2dataset PYTHON] [--part race|growth]

The pictures are cut from clouds of noise, 1632 x 1224, about 300 kB each. Contenders take turns, each in a Python started for
it, with two processes; seconds are from start to end of that Python, and the best round counts, as images a second:

- `vlmrecipes`: the verb `ingest`, everything included: decode, upright, resize, JPEG at quality 95 and 4:4:4, hashes of bytes,
  pixels and looks, exact duplicates, split, store, snapshot.
- `codec_floor`: Pillow reads, drafts, resizes with LANCZOS and encodes with the same settings. Nothing is kept.
- `datasets_map`: `load_dataset("imagefolder")`, `.map` with the same resize, `.to_parquet`. `datasets` writes pictures that a
  function has made as PNG, so it gets a tenth of the pictures; in `datasets_map_jpeg` the function does what the floor does and
  returns its bytes.
- `img2dataset`: its `Resizer` (OpenCV, area, JPEG at quality 95 and 4:2:0), files in, nothing kept; with `--img2dataset`, a
  Python that has it.

`load` is the machine's load average at the end: far above 3 others were at work too, and only processor times can be compared.

Growth: `--grow` pictures are ingested, ingested again unchanged, and again with 1 % more pictures; seconds of processor time of
all processes, and bytes of the store.

Prints one JSON object and writes it to `benchmarks/results/ingest.json`; with `--part`, the other part stays as it is there.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

SIZE, SIDE, QUALITY, PROCESSES = (1632, 1224), 1000, 95, 2
ROOM = (368, 276)
"""Pixels by which clouds are larger than pictures."""
CLOUDS = 8
RESULTS = Path(__file__).parent / "results" / "ingest.json"
FLOOR, OURS, RESIZER = "codec_floor", "vlmrecipes", "img2dataset"
SHARE = {"datasets_map": 10}
"""Which part of the pictures a slow contender gets: one in so many."""


def cloud(seed: int) -> Any:
    """Return noise of several sizes, about as detailed as a photograph."""
    import numpy as np
    from PIL import Image

    draw, size = np.random.default_rng(seed), (SIZE[0] + ROOM[0], SIZE[1] + ROOM[1])
    whole = np.full((size[1], size[0], 3), 128, np.float32)
    for side in (4, 12, 36, 108, 324):
        some = Image.fromarray(draw.integers(0, 256, (side * 3 // 4, side, 3), np.uint8)).resize(size)
        whole += (np.asarray(some, np.float32) - 128) * 2 / side**0.5
    return Image.fromarray(np.clip(whole, 0, 255).astype(np.uint8))


def draw(folder: Path, count: int, base: int) -> None:
    """Write every picture that is cut from one cloud; no two are equal."""
    whole = cloud(base)
    for number in range(base, count, CLOUDS):
        place = number // CLOUDS * 48271 % (ROOM[0] * ROOM[1])
        left, top = place % ROOM[0], place // ROOM[0]
        whole.crop((left, top, left + SIZE[0], top + SIZE[1])).save(folder / f"{number:06}.jpg", quality=90)


def linked(files: Sequence[Path], folder: Path) -> Path:
    """Return a folder that holds `files`."""
    folder.mkdir(parents=True)
    for file in files:
        (folder / file.name).hardlink_to(file)
    return folder


def resized(raw: bytes) -> Any:
    """Return the picture at its new size."""
    from PIL import Image

    image = Image.open(io.BytesIO(raw))
    scale = SIDE / max(image.size)
    size = round(image.width * scale), round(image.height * scale)
    image.draft("RGB", size)
    return image.resize(size, Image.Resampling.LANCZOS)


def coded(image: Any) -> bytes:
    """Return the picture as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def bare(file: Path) -> int:
    """Do what the floor does."""
    return len(coded(resized(file.read_bytes())))


def each(work: Callable[[Path], int], folder: Path) -> None:
    """Do `work` on all files in two processes."""
    with get_context("spawn").Pool(PROCESSES) as pool:
        assert all(pool.imap_unordered(work, sorted(folder.iterdir()), chunksize=8))  # noqa: S101 - all were done


def floor(folder: Path, _: Path) -> None:
    """Run the floor."""
    each(bare, folder)


def resizer(folder: Path, _: Path) -> None:
    """Run img2dataset's resizer."""
    each(one_resized, folder)


def one_resized(file: Path) -> int:
    """Return how many bytes img2dataset makes of a file. Raises ValueError when it fails."""
    from img2dataset.resizer import Resizer

    resize = Resizer(SIDE, "keep_ratio_largest", resize_only_if_bigger=True, encode_quality=QUALITY)
    data, *_, error = resize(io.BytesIO(file.read_bytes()))
    if error:
        raise ValueError(error)
    return len(data)


def mapped(folder: Path, out: Path, *, as_jpeg: bool) -> None:
    """Run `datasets`."""
    import datasets

    rows = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(out / "cache"))
    work = jpeg_row if as_jpeg else picture_row
    rows = rows.cast_column("image", datasets.Image(decode=not as_jpeg))
    features = datasets.Features({"image": datasets.Image()})
    rows.map(work, num_proc=PROCESSES, features=features).to_parquet(str(out / "rows.parquet"))


def picture_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its picture resized."""
    from PIL import Image

    scale = SIDE / max(row["image"].size)
    size = round(row["image"].width * scale), round(row["image"].height * scale)
    return {"image": row["image"].resize(size, Image.Resampling.LANCZOS)}


def jpeg_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its picture resized and encoded."""
    return {"image": {"bytes": coded(resized(Path(row["image"]["path"]).read_bytes())), "path": None}}


def declared(folder: Path) -> Path:
    """Write the declaration of a folder of pictures."""
    file = folder.parent / f"{folder.name}.toml"
    source = f'type = "folder"\npath = "{folder.name}"\nimage = "{{path}}"\nprompt = "?"\nanswer = "{{name}}"\n'
    file.write_text(f'name = "pictures"\n[[source]]\n{source}[prepare]\nmax_side = {SIDE}\n', "utf-8")
    return file


def ours(folder: Path, out: Path) -> None:
    """Run the verb."""
    from vlmrecipes.cli import main as verb

    sys.argv = ["vlmrecipes", "ingest", str(declared(folder)), "--store", str(out), "--workers", str(PROCESSES)]
    if code := verb():
        sys.exit(code)


CONTENDERS: dict[str, Callable[[Path, Path], None]] = {
    OURS: ours,
    FLOOR: floor,
    "datasets_map": partial(mapped, as_jpeg=False),
    "datasets_map_jpeg": partial(mapped, as_jpeg=True),
    RESIZER: resizer,
}


def taken(name: str, folder: Path, out: Path, python: str = sys.executable) -> dict[str, float]:
    """Run a contender in a fresh Python; return `seconds` and `cpu_seconds`, those of its processes included."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [python, __file__, "--run", name, str(folder), str(out)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 2), "cpu_seconds": round(used, 2)}


def race(files: Sequence[Path], work: Path, rounds: int, python: str) -> dict[str, Any]:
    """Let the contenders take turns; return what each took, and the ratios."""
    folders = {share: linked(files[::share], work / f"share{share}" / "pictures") for share in {1, *SHARE.values()}}
    names = [name for name in CONTENDERS if name != RESIZER or python]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            out = Path(tempfile.mkdtemp(dir=work))
            interpreter = python if name == RESIZER else sys.executable
            found[name].append(taken(name, folders[SHARE.get(name, 1)], out, interpreter))
            shutil.rmtree(out)
            print(name, found[name][-1], file=sys.stderr)
    counts = {name: len(files[:: SHARE.get(name, 1)]) for name in names}
    speeds = {
        key: {name: round(counts[name] / min(one[key] for one in found[name]), 2) for name in names}
        for key in ("seconds", "cpu_seconds")
    }
    ratios = {name: round(speeds["seconds"][OURS] / speeds["seconds"][name], 3) for name in names if name != OURS}
    return {
        **about(),
        "images": len(files),
        "bytes_per_image": sum(file.stat().st_size for file in files) // len(files),
        "taken": found,
        "images_per_second": speeds["seconds"],
        "of_codec_floor": ratios.pop(FLOOR),
        "of_codec_floor_in_processor_time": round(speeds["cpu_seconds"][OURS] / speeds["cpu_seconds"][FLOOR], 3),
        **{f"times_{name}": ratio for name, ratio in ratios.items()},
    }


def growth(files: Sequence[Path], more: Sequence[Path], work: Path) -> dict[str, Any]:
    """Ingest `files`, the same again, and the same with `more`."""
    folder, out = linked(files, work / "growing"), work / "store"
    found = {}
    for turn in ("first", "unchanged", "grown"):
        if turn == "grown":
            for file in more:
                (folder / file.name).hardlink_to(file)
        before = held(out)
        found[turn] = taken(OURS, folder, out) | {"bytes": held(out) - before}
        print(turn, found[turn], file=sys.stderr)
    first, unchanged, grown = found.values()
    extra = grown["cpu_seconds"] - unchanged["cpu_seconds"]
    return {
        **about(),
        "images": len(files),
        "new": len(more),
        **found,
        "unchanged_of_first": round(unchanged["seconds"] / first["seconds"], 4),
        "new_work_of_first": round(extra / first["cpu_seconds"], 4),
        "new_bytes_of_first": round(grown["bytes"] / first["bytes"], 4),
    }


def about() -> dict[str, Any]:
    """Return when and on what is measured."""
    packages = ("datasets", "lancedb", "pillow", "pyarrow")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "load": round(os.getloadavg()[0], 1),
        "versions": {package: version(package) for package in packages},
    }


def held(store: Path) -> int:
    """Return the bytes of a store."""
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file())


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--grow", type=int, default=10_000)
    parser.add_argument("--img2dataset", default="", metavar="PYTHON")
    parser.add_argument("--folder", default=None, help="where pictures and stores are made for a while")
    parser.add_argument("--part", choices=("race", "growth"))
    parser.add_argument("--run", nargs=3, metavar=("CONTENDER", "FOLDER", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        CONTENDERS[args.run[0]](Path(args.run[1]), Path(args.run[2]))
        return
    parts = (args.part,) if args.part else ("race", "growth")
    result = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    new = args.grow // 100
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        work = Path(name)
        (work / "drawn").mkdir()
        count = max({"race": args.images, "growth": args.grow + new}[part] for part in parts)
        with get_context("spawn").Pool(PROCESSES) as pool:
            pool.map(partial(draw, work / "drawn", count), range(CLOUDS), chunksize=1)
        files = sorted((work / "drawn").iterdir())
        if "race" in parts:
            result["race"] = race(files[: args.images], work, args.rounds, args.img2dataset)
        if "growth" in parts:
            result["growth"] = growth(files[: args.grow], files[args.grow : args.grow + new], work)
    text = json.dumps(result, indent=1, sort_keys=True)
    RESULTS.write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
