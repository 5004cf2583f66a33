"""What `compare` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vlmrecipes.cli.output import interval, table


def compare_lines(view: Mapping[str, Any]) -> list[str]:
    """Return the notes, loud, then a table of differences or of ranks, and where the page lies."""
    lines = [f"!! {note}" for note in view["notes"]]
    lines += list(_board(view) if "leaderboard" in view else _pair(view))
    return [*lines, "", f"page: {view['path']}"] if "path" in view else lines


def _pair(view: Mapping[str, Any]) -> Iterator[str]:
    for letter in ("a", "b"):
        side = view[letter]
        yield f"{letter}: {side['recipe']}, {side['model']}  {side['name']}"
    rows = [
        (name, told["a"], told["b"], told["difference"], interval(told), told["p"], _verdict(told))
        for name, told in view["metrics"].items()
    ]
    yield ""
    yield from table(("metric", "a", "b", "difference", "95 %", "p", ""), rows)
    metric = next(iter(view["metrics"]))
    yield ""
    yield f"{view['n']} samples by {metric}: b better on {view['better']}, worse on {view['worse']}, equal on {view['equal']}"


def _verdict(told: Mapping[str, Any]) -> str:
    return "no clear difference" if told["verdict"] == "unclear" else f"b is {told['verdict']}"


def _board(view: Mapping[str, Any]) -> Iterator[str]:
    titles = {side["name"]: f"{side['recipe']}, {side['model']}" for side in view["sides"]}
    for metric, rows in view["leaderboard"].items():
        cells = [(row["rank"], titles[row["name"]], row["name"], row["value"], interval(row)) for row in rows]
        yield from table(("rank", "model", "run", metric, "95 %"), cells)
        yield ""
    yield f"{view['n']} samples; models of one rank cannot be told apart (paired test, Holm over {len(view['pairs'])} pairs)"
