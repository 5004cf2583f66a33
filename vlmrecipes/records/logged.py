"""What a training told of itself while it ran."""

from __future__ import annotations

import json
from pathlib import Path

TITLES = {
    "grad_norm": "gradient norm",
    "reward": "mean reward",
    "length": "tokens an answer",
    "truncated": "share of answers cut",
    "zero_variance": "share of groups of equal reward",
    "kl": "divergence (KL)",
}
"""How a figure of the log is called, where that is not its name with blanks."""
APART = ("step", "epoch", "seconds", "eval", "rewards")
"""Keys of a line that are no figures of its step."""
FIRST = ("loss", "mean reward")
LAST = ("learning rate", "gradient norm")

Points = list[tuple[float, float]]


def series(folder: Path) -> dict[str, Points]:
    """Return `(step, value)` points by name from a run's training log: loss first, then rewards and metrics scored meanwhile.

    Lines cut off by a crash are passed over.
    """
    try:
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, Points] = {"loss": []}
    for step, name, value in (point for line in lines for point in _points(line)):
        found.setdefault(name, []).append((step, value))
    return {name: found[name] for name in sorted(found, key=_place)}


def _place(name: str) -> tuple[int, bool, bool]:
    return FIRST.index(name) if name in FIRST else len(FIRST), not name.endswith("while training"), name in LAST


def _points(line: str) -> list[tuple[float, str, float]]:
    try:
        entry = json.loads(line)
        named = {TITLES.get(key, key.replace("_", " ")): value for key, value in entry.items() if key not in APART}
        named |= {f"{name} while training": value for name, value in (entry.get("eval") or {}).items()}
        named |= {f"reward {name}": told.get("mean") for name, told in (entry.get("rewards") or {}).items()}
        return [(float(entry["step"]), name, float(value)) for name, value in named.items() if value is not None]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
