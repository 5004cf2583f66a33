from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlmrecipes.again.trials import told
from vlmrecipes.cli.again import swept_lines
from vlmrecipes.records import record

NAME = "20261121-000000-sweep0"


def answered(right: int) -> list[dict[str, Any]]:
    """Return predictions of forty lines, the first so many of them right."""
    return [
        {
            "model": "tuned",
            "id": f"{number:032x}",
            "prediction": "TOTAL" if number < right else "T0T4L",
            "references": ["TOTAL"],
            "prompt": "Read the text.",
            "images": [f"{number:064x}"],
            "group": str(number),
            "split": "eval",
            "source": "lines",
            "metadata": "{}",
            "tokens": 3,
            "truncated": False,
        }
        for number in range(40)
    ]


def test_a_sweep_is_ranked_by_what_its_records_say(finished: Callable[..., Path]) -> None:
    made = {}
    for place, (right, rate) in enumerate([(38, "1e-3"), (2, "1e-4"), (38, "2e-3")], 1):
        tried = {"id": NAME, "place": place, "settings": [f"train.learning_rate={rate}"]}
        metrics = {"tuned": {"cer": {"spec": "cer/ws@1", "value": (40 - right) * 2 / 200}}}
        folder = finished(f"2026112{place}-000001-aaaaaa", answered(right), sweep=tried, metrics=metrics)
        made[folder.name] = tried["settings"]
    finished("20261125-000001-bbbbbb", answered(40))
    failed = folder.with_name("20261124-000001-aaaaaa")
    tried = {"id": NAME, "place": 4, "settings": ["train.learning_rate=9"]}
    record.start(failed, run=failed.name, kind="train", recipe={}, environment={"python": "3"}, sweep=tried)
    record.finish(failed, "failed", "it burst")

    view = told(NAME, str(folder.parents[1]))
    assert {run["run"]: run["settings"] for run in view["runs"]} == made | {failed.name: tried["settings"]}
    assert [run["status"] for run in view["runs"]] == ["complete"] * 3 + ["failed"]
    names = list(made)
    assert [(row["name"], row["rank"]) for row in view["leaderboard"]["cer"]] == [
        (names[0], 1), (names[2], 1), (names[1], 3)
    ]  # fmt: skip
    assert (view["best"], view["n"], len(view["pairs"])) == (names[0], 40, 3)
    assert "the best of 3 was chosen on these very samples" in view["notes"][-1]
    lines = "\n".join(swept_lines(view))
    assert f"best: {names[0]} (train.learning_rate=1e-3)" in lines
    assert f"{failed.name} failed: train.learning_rate=9: it burst" in lines
    assert lines.index(names[2]) < lines.index(names[1])


def test_a_sweep_without_two_whole_runs_has_no_ranks(finished: Callable[..., Path]) -> None:
    tried = {"id": NAME, "place": 1, "settings": ["lora.r=8"]}
    folder = finished(sweep=tried)
    view = told(NAME, str(folder.parents[1]))
    assert (view["best"], view["leaderboard"], view["notes"]) == (folder.name, {}, [])
    assert told("none", str(folder.parents[1]))["runs"] == []
