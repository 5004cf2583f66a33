"""Time WER and CER of many pairs against jiwer and a textbook distance, and bootstrap intervals; check the numbers equal.

    python benchmarks/metrics.py [--pairs 100000] [--rounds 3] [--textbook 300] [--output benchmarks/results/metrics.json]

The pairs are made-up receipt lines of 3 to 14 words with up to three wrong characters. All contenders score the same
pairs: jiwer one call for the corpus, as its documentation shows; the textbook distance is the two-row dynamic programme
in plain Python that evaluation suites carry along, timed on the first `--textbook` pairs and extrapolated. Contenders
take turns; each one's best round counts. All run in one thread, and seconds are those of the processor, which other work
on the machine does not lengthen. Memory of the bootstrap is the most that was allocated at once while resampling, here and
for four times the samples. The verb `score` is timed from outside on a file of one row, and on one of all pairs.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import rapidfuzz

from vlmrecipes.evaluate.metrics import resolve
from vlmrecipes.evaluate.resample import Draws, Floats, bootstrap_totals, cluster_sums

WORDS = "total cash receipt amount date 12.50 3.00 tax street no change thank you very much store shop item qty sum"
Pairs = Sequence[tuple[str, str]]


def made(count: int) -> Pairs:
    """Return `count` (reference, prediction) pairs."""
    draw, words = random.Random(0), WORDS.split()  # noqa: S311
    return [damaged(draw, " ".join(draw.choices(words, k=draw.randint(3, 14)))) for _ in range(count)]


def damaged(draw: random.Random, reference: str) -> tuple[str, str]:
    """Return a reference with a prediction of up to three wrong characters."""
    letters = list(reference)
    for _ in range(draw.randint(0, 3)):
        letters[draw.randrange(len(letters))] = draw.choice("abcde ")
    return reference, "".join(letters)


def ours(pairs: Pairs) -> list[float]:
    """Return WER and CER under jiwer's definitions, with S, D and I of every pair."""
    return [corpus(name, pairs) for name in ("wer/jiwer4@1", "cer/jiwer4@1")]


def corpus(name: str, pairs: Pairs) -> float:
    """Return a metric's value over all pairs."""
    metric = resolve(name)
    scores = [metric.score(prediction, [reference]) for reference, prediction in pairs]
    return sum(score.numerator for score in scores) / sum(score.denominator for score in scores)


def jiwers(pairs: Pairs) -> list[float]:
    """Return WER and CER by jiwer."""
    references, predictions = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return [jiwer.wer(references, predictions), jiwer.cer(references, predictions)]


def textbooks(pairs: Pairs) -> list[float]:
    """Return WER and CER by the textbook distance."""
    values = []
    for split in (jiwer_words, str.strip):
        sides = [(split(reference), split(prediction)) for reference, prediction in pairs]
        values.append(sum(textbook(*side) for side in sides) / sum(len(side[0]) for side in sides))
    return values


def jiwer_words(text: str) -> list[str]:
    """Return the words of a made-up line."""
    return [word for word in text.split(" ") if word]


def textbook(left: Sequence[str], right: Sequence[str]) -> int:
    """Return the Levenshtein distance by Wagner and Fischer's table, two rows at a time."""
    above = list(range(len(right) + 1))
    for row, one in enumerate(left, 1):
        current = [row]
        for column, two in enumerate(right, 1):
            current.append(min(above[column] + 1, current[-1] + 1, above[column - 1] + (one != two)))
        above = current
    return above[-1]


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how much of the processor's time a call took, and what it returned."""
    start = time.process_time()
    value = work()
    return time.process_time() - start, value


def error_rates(pairs: Pairs, rounds: int, few: int) -> dict[str, Any]:
    """Return seconds for all pairs by contender, ratios and values."""
    times: dict[str, list[float]] = {"vlmrecipes": [], "jiwer": [], "textbook": []}
    for _ in range(rounds):
        spent, found = seconds(lambda: ours(pairs))
        times["vlmrecipes"].append(spent)
        spent, theirs = seconds(lambda: jiwers(pairs))
        times["jiwer"].append(spent)
        spent, plain = seconds(lambda: textbooks(pairs[:few]))
        times["textbook"].append(spent * len(pairs) / few)
    if found != theirs or plain != ours(pairs[:few]):
        raise SystemExit(f"the numbers differ: {found} {theirs} {plain}")
    best = {name: min(spent) for name, spent in times.items()}
    ratios = {name: best[name] / best["vlmrecipes"] for name in ("jiwer", "textbook")}
    return {
        "pairs": len(pairs),
        "textbook_extrapolated_from": few,
        "seconds": best,
        "times_faster_than": ratios,
        "wer_cer": found,
        "equal": True,
    }


def bootstrap(samples: int, resamples: int, rounds: int, per_cluster: int, what: str) -> dict[str, Any]:
    """Return the seconds and memory of resampling so many samples: counts of errors, or scores that all differ."""
    sums = made_sums(samples, per_cluster, what)
    spent = min(seconds(lambda: bootstrap_totals(sums, Draws(0, resamples)))[0] for _ in range(rounds))
    return {
        "samples": samples,
        "of": what,
        "clusters": len(sums),
        "resamples": resamples,
        "seconds": spent,
        "memory_mib": {len(each): allocated(each, resamples) for each in (sums, np.tile(sums, (4, 1)))},
    }


def made_sums(samples: int, per_cluster: int, what: str) -> Floats:
    """Return the clusters' sums of made-up samples."""
    generator = np.random.default_rng(0)
    numerators = (generator.poisson(2, samples) if what == "counts" else generator.random(samples)).tolist()
    denominators = (generator.integers(20, 60, samples) if what == "counts" else np.ones(samples)).tolist()
    return cluster_sums([str(row // per_cluster) for row in range(samples)], numerators, denominators)


def allocated(sums: Floats, resamples: int) -> float:
    """Return the MiB that resampling `sums` holds at most, beside them."""
    tracemalloc.start()
    bootstrap_totals(sums, Draws(0, resamples))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return round(peak / 2**20, 1)


def verb(pairs: Pairs, rounds: int) -> dict[str, float]:
    """Return the least processor seconds of `vlmrecipes score` with WER and CER on one pair, its start, and on all."""
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, some in (("start", pairs[:1]), ("all", pairs)):
            file = Path(folder) / f"{name}.jsonl"
            rows = ({"reference": reference, "prediction": prediction} for reference, prediction in some)
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
            found[name] = min(spent_by(file) for _ in range(rounds))
    return found


def spent_by(file: Path) -> float:
    """Return the processor seconds of scoring `file` in a process of its own."""
    before = os.times()
    command = [sys.executable, "-m", "vlmrecipes", "score", str(file), "--metrics", "wer,cer", "--json"]
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Print the measurement as JSON and write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--textbook", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "metrics.json")
    args = parser.parse_args()
    samples = args.pairs
    pairs = made(args.pairs)
    kinds = ((1, "counts"), (10, "counts"), (1, "scores"))
    drawn = [bootstrap(samples, args.resamples, args.rounds, *kind) for kind in kinds]
    result = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {"jiwer": version("jiwer"), "rapidfuzz": rapidfuzz.__version__, "numpy": np.__version__},
        "error_rates": error_rates(pairs, args.rounds, min(args.textbook, args.pairs)),
        "bootstrap": drawn,
        "score_seconds": verb(pairs, args.rounds),
    }
    text = json.dumps(result, indent=1)
    args.output.write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
