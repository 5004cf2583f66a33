"""All near pairs of many 64-bit hashes, against faiss IndexBinaryFlat. `python benchmarks/near.py [--small]`.

The rival answers a subset of the queries, and its time for all is that times n / queries: printed as extrapolated.
Needs faiss-cpu, which nothing else here needs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from vlmrecipes.data.near import near_pairs

RESULTS = Path(__file__).parent / "results" / "near.json"
PLANTED = 1000


def hashes(count: int, radius: int) -> np.ndarray:
    """Return `count` random hashes, sorted, with PLANTED near pairs of at most `radius` bits among them."""
    random = np.random.default_rng(count + radius)
    found = random.integers(0, 2**64, count, dtype=np.uint64)
    copies = found[:PLANTED].copy()
    for _ in range(radius):
        copies ^= np.uint64(1) << random.integers(0, 64, PLANTED, dtype=np.uint64)
    found[-PLANTED:] = copies
    return np.unique(found)


def ours(found: np.ndarray, radius: int) -> tuple[set[tuple[int, int]], float]:
    """Return all near pairs as (lower place, higher place), and the seconds it took."""
    started = time.perf_counter()
    pieces = list(near_pairs(found, radius))
    seconds = time.perf_counter() - started
    return {
        tuple(sorted(pair)) for one, other in pieces for pair in zip(one.tolist(), other.tolist(), strict=True)
    }, seconds


def rival(found: np.ndarray, radius: int, queries: np.ndarray) -> tuple[set[tuple[int, int]], float]:
    """Return the near pairs of `queries` (places), and the seconds it took. faiss's radius is exclusive."""
    data = found.view(np.uint8).reshape(-1, 8)
    index = faiss.IndexBinaryFlat(64)
    index.add(data)
    started = time.perf_counter()
    limits, _, labels = index.range_search(data[queries], radius + 1)
    seconds = time.perf_counter() - started
    owners = np.repeat(queries, np.diff(limits.astype(np.int64)))
    return {(min(a, b), max(a, b)) for a, b in zip(owners.tolist(), labels.tolist(), strict=True) if a != b}, seconds


def brute(found: np.ndarray, radius: int) -> set[tuple[int, int]]:
    """Return all near pairs by comparing all with all."""
    pairs = set()
    for place in range(len(found) - 1):
        near = np.flatnonzero(np.bitwise_count(found[place + 1 :] ^ found[place]) <= radius)
        pairs.update((place, place + 1 + int(other)) for other in near)
    return pairs


def against_rival(count: int, radius: int) -> dict[str, Any]:
    """Measure both, interleaved, best of two."""
    found = hashes(count, radius)
    random = np.random.default_rng(0)
    queries = np.unique(np.append(random.choice(len(found), 2000), np.arange(0, len(found), len(found) // 2000)))
    mine = theirs = float("inf")
    pairs: set[tuple[int, int]] = set()
    known: set[tuple[int, int]] = set()
    for _ in range(2):
        pairs, seconds = ours(found, radius)
        mine = min(mine, seconds)
        known, seconds = rival(found, radius, queries)
        theirs = min(theirs, seconds)
    asked = set(queries.tolist())
    missed = len(known - pairs) + len({pair for pair in pairs if asked & set(pair)} - known)
    whole = theirs * len(found) / len(queries)
    return {
        "hashes": len(found), "radius": radius, "pairs": len(pairs), "seconds": mine,
        "rival_queries": len(queries), "rival_seconds_extrapolated": whole, "ratio": whole / mine,
        "differences_on_the_rivals_queries": missed,
    }  # fmt: skip


def memory(count: int, radius: int) -> dict[str, Any]:
    """Measure time and the most memory this process has held."""
    pairs, seconds = ours(hashes(count, radius), radius)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"hashes": count, "radius": radius, "pairs": len(pairs), "seconds": seconds, "peak_bytes": peak}


def main() -> None:
    """Run, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a tenth of the size; nothing is written")
    small = parser.parse_args().small
    scale = 10 if small else 1
    few = hashes(50_000 // scale, 6)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "faiss": faiss.__version__},
        "memory": memory(10_000_000 // scale, 4),
        "against_faiss_flat": against_rival(1_000_000 // scale, 6),
        "differences_from_brute_force": len(ours(few, 6)[0] ^ brute(few, 6)),
    }
    print(json.dumps(result, indent=2))
    if not small:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
