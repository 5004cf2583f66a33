from __future__ import annotations

from typing import Any

import pytest

from vlmrecipes.train.curve import POINTS, Judge, figures, summary

JUDGE = Judge(groups_per_step=2, best=1.0)


def entries(*parts: tuple[int, float, float, float], every: int = 10) -> list[dict[str, Any]]:
    """Return logged steps from (count, reward, zero_variance, truncated)."""
    told = [part[1:] for part in parts for _ in range(part[0])]
    names = ("reward", "zero_variance", "truncated")
    return [
        {"step": every * place, "loss": 0.0} | dict(zip(names, each, strict=True)) for place, each in enumerate(told, 1)
    ]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([(9, 0.5, 0.9, 0.1)], None),
        ([(5, 0.5, 0.1, 0.0), (5, 0.2, 1.0, 0.0)], ("zero-variance", 60, False)),
        ([(5, 0.5, 0.1, 0.0), (4, 0.2, 1.0, 0.0)], None),
        ([(5, 0.5, 0.1, 0.0), (5, 0.9, 1.0, 0.0)], ("zero-variance", 60, True)),
        ([(5, 0.5, 0.1, 0.0), (9, 1.0, 1.0, 0.0)], None),
        ([(5, 1.0, 1.0, 0.0)], ("zero-variance", 10, False)),
        ([(1, 0.1, 0.1, 0.0), (5, 0.5, 0.1, 1.0)], ("truncated", 20, False)),
        ([(5, 0.5, 0.1, 1.0), (1, 0.5, 0.1, 0.9)], None),
        ([], None),
    ],
)
def test_a_collapse_is_seen(parts: list[tuple[int, float, float, float]], expected: tuple[str, int, bool]) -> None:
    found = JUDGE.collapse(entries(*parts), ended=False)
    assert (found and (found["reason"], found["since"], found["rose"])) == expected
    if found:
        word = "was stopped" if found["rose"] else "collapsed"
        assert found["message"].startswith(f"the training {word}: from step {found['since']} on, ")


def test_a_short_training_is_judged_at_its_end() -> None:
    short = entries((2, 0.0, 1.0, 0.0))
    assert JUDGE.collapse(short, ended=False) is None
    assert JUDGE.collapse(short, ended=True)
    assert JUDGE.collapse(entries((2, 0.0, 1.0, 0.0), every=1), ended=True) is None, "four groups tell nothing"


def test_figures_have_our_names() -> None:
    logs = {
        "loss": 0.1,
        "reward": 0.5,
        "reward_std": 0.25,
        "rewards/format 2/mean": 0.125,
        "rewards/format 2/std": 0.0,
        "completions/clipped_ratio": 0.75,
        "clip_ratio/region_mean": 0.0,
        "kl": None,
    }
    assert figures(logs) == {
        "reward": 0.5,
        "reward_std": 0.25,
        "truncated": 0.75,
        "clipped": 0.0,
        "rewards": {"format 2": {"mean": 0.125, "std": 0.0}},
    }
    assert figures({"loss": 0.1}) == {}


def test_a_long_curve_is_thinned() -> None:
    told = [
        {"step": step, "reward": float(step), "rewards": {"cer": {"mean": 1.0, "std": 0.0}}} for step in range(1, 121)
    ]
    found = summary([{"step": 0, "loss": 1.0}, *told])
    assert (found["first"], found["last"]) == (1.0, 120.0)
    curve = found["curve"]
    assert len(curve["step"]) == 40 <= POINTS
    assert (curve["step"][0], curve["reward"][0]) == (3, 2.0)
    assert curve["cer/mean"] == [1.0] * 40
    assert summary([{"step": 1, "loss": 1.0}]) == {}
