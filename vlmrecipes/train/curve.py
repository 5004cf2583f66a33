"""What a training by rewards tells of itself: figures of a logged step, the curve in the record, and whether it collapsed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

Entry = Mapping[str, Any]
"""A line of `metrics.jsonl`."""
NAMES = {
    "reward": "reward",
    "reward_std": "reward_std",
    "zero_variance": "zero_variance",
    "completions/clipped_ratio": "truncated",
    "completions/mean_length": "length",
    "kl": "kl",
    "entropy": "entropy",
    "clip_ratio/region_mean": "clipped",
}
"""TRL's names of what is logged, and ours."""
POINTS = 50
"""Points of a curve in the record, each the mean of logged steps beside each other."""
WINDOW_GROUPS, WINDOW_ENTRIES = 100, 5
"""A training has collapsed when so many groups, in so many logged steps at least, gave nothing to learn from."""
LEAST_GROUPS = 16
"""A whole training of so many groups is judged at its end, too."""
RISE = 0.01
"""By so much must the mean reward be above that of the first logged step to be higher."""


def figures(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a logged step tells of rewards, by our names; nothing where nothing is rewarded.

    `reward` and `reward_std` are over all answers, `rewards` the same for each reward before its weight; `zero_variance` is
    the share of groups whose answers all got the same, `truncated` of answers that were cut, `clipped` of tokens (answers
    with gspo) whose ratio was; `length` is in tokens, `kl` and `entropy` in nats a token. A step that learns from answers
    once more tells of the learning only.
    """
    told: dict[str, Any] = {ours: round(logs[name], 6) for name, ours in NAMES.items() if logs.get(name) is not None}
    rewards: dict[str, dict[str, float]] = {}
    for name, value in logs.items():
        if name.startswith("rewards/") and value is not None:
            reward, _, figure = name.removeprefix("rewards/").rpartition("/")
            rewards.setdefault(reward, {})[figure] = round(value, 6)
    return told | ({"rewards": rewards} if rewards else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Tells whether there is still something to learn from."""

    groups_per_step: float
    """Groups of answers that an optimizer step learns from, each counted once."""
    best: float
    """The highest reward there can be; infinite where nobody knows."""

    def collapse(self, entries: Sequence[Entry], *, ended: bool) -> dict[str, Any] | None:
        """Return `{reason, since, reward, rose, message}` of a training that has nothing more to learn from, or None.

        That is so when no answers to any of the last prompts got different rewards, or all of them were cut. Where answers
        have come to get the highest reward there is, that is what was wanted. `rose` tells whether the reward is
        higher than in the beginning: then the training has converged; otherwise, or with answers cut, it has collapsed.
        `ended` judges a training that was too short for the window by all that it logged.
        """
        told = [entry for entry in entries if "reward" in entry]
        for reason, name in (("zero-variance", "zero_variance"), ("truncated", "truncated")):
            tail = _tail(told, name)
            if not tail or not self._enough(told, tail, ended=ended):
                continue
            reward = fmean(entry["reward"] for entry in tail)
            reached = len(tail) < len(told) and math.isclose(reward, self.best, abs_tol=1e-6)
            if reason == "truncated" or not reached:
                rose = reason != "truncated" and reward > told[0]["reward"] + RISE
                found = {"reason": reason, "since": tail[0]["step"], "reward": reward, "rose": rose}
                return found | {"message": _message(found)}
        return None

    def _enough(self, told: Sequence[Entry], tail: Sequence[Entry], *, ended: bool) -> bool:
        whole = len(tail) == len(told)
        groups = (tail[-1]["step"] - (0 if whole else told[-len(tail) - 1]["step"])) * self.groups_per_step
        if ended and whole and groups >= LEAST_GROUPS:
            return True
        return len(tail) >= WINDOW_ENTRIES and groups >= WINDOW_GROUPS


def _tail(entries: Sequence[Entry], name: str) -> Sequence[Entry]:
    """Return the last entries in which all groups, or all answers, were so."""
    start = len(entries)
    while start and entries[start - 1].get(name, 0.0) >= 1:
        start -= 1
    return entries[start:]


def _message(found: Mapping[str, Any]) -> str:
    began = f"from step {found['since']} on"
    if found["reason"] == "truncated":
        ways = "raise grpo.max_completion_length, or start from a model that ends its answers"
        return f"the training collapsed: {began}, every answer was cut at its greatest length; {ways}"
    same = f"{began}, all answers to a prompt got the same reward (mean {found['reward']:.3f})"
    if found["rose"]:
        return f"the training was stopped: {same}, so there was nothing more to learn from"
    ways = "a reward that tells answers apart, a higher grpo.temperature or grpo.beta, or a lower train.learning_rate"
    return f"the training collapsed: {same}, so nothing was learned; try {ways}"


def summary(entries: Iterable[Entry]) -> dict[str, Any]:
    """Return the curve for the record: `first` and `last` mean reward, and `curve`, a list for each figure."""
    told = [entry for entry in entries if any(name in entry for name in NAMES.values())]
    rewards = [entry["reward"] for entry in told if "reward" in entry]
    if not rewards:
        return {}
    flat = [_flat(entry) for entry in told]
    size = math.ceil(len(flat) / POINTS)
    pieces = [flat[start : start + size] for start in range(0, len(flat), size)]
    names = dict.fromkeys(name for entry in flat for name in entry)
    curve = {name: [_mean(piece, name) for piece in pieces] for name in names if name != "step"}
    steps = [piece[-1]["step"] for piece in pieces]
    return {"first": rewards[0], "last": rewards[-1], "curve": {"step": steps} | curve}


def _flat(entry: Entry) -> dict[str, Any]:
    kept = {name: entry[name] for name in ("step", *NAMES.values()) if name in entry}
    terms = entry.get("rewards", {}).items()
    return kept | {f"{name}/{figure}": told.get(figure) for name, told in terms for figure in ("mean", "std")}


def _mean(piece: Sequence[Entry], name: str) -> float | None:
    known = [entry[name] for entry in piece if entry.get(name) is not None]
    return round(fmean(known), 6) if known else None
