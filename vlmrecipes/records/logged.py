"""What a training told of itself while it ran."""

from __future__ import annotations

import json
from pathlib import Path

SERIES = {"loss": "loss", "learning_rate": "learning rate", "grad_norm": "gradient norm"}
REWARDED = {
    "reward": "mean reward",
    "length": "tokens an answer",
    "truncated": "share of answers cut",
    "zero_variance": "share of groups of equal reward",
    "kl": "divergence (KL)",
}
"""What a training log says of its steps, and how that is called; of training by rewards, besides."""

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
    order = sorted(found, key=lambda name: (name != "loss", name in SERIES.values()))
    return {name: found[name] for name in order}


def _points(line: str) -> list[tuple[float, str, float]]:
    try:
        entry = json.loads(line)
        named = {title: entry[key] for key, title in SERIES.items() if key in entry}
        named |= {title: entry[key] for key, title in REWARDED.items() if key in entry}
        named |= {f"reward {name}": told["mean"] for name, told in (entry.get("rewards") or {}).items()}
        named |= {f"{name} while training": value for name, value in (entry.get("eval") or {}).items()}
        return [(float(entry["step"]), name, float(value)) for name, value in named.items() if value is not None]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
