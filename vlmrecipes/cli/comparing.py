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
        yield f"{letter}: {side['title']}  {side['name']}"
    rows = [
        (name, told["a"], told["b"], told["difference"], interval(told), _p(told["p"]), _verdict(told))
        for name, told in view["metrics"].items()
    ]
    yield ""
    yield from table(("metric", "a", "b", "difference", "95 %", "p", ""), rows)
    metric = next(iter(view["metrics"]))
    yield ""
    yield f"{view['n']} samples by {metric}: b better on {view['better']}, worse on {view['worse']}, equal on {view['equal']}"
    yield from _attributed(view.get("attribution") or {})
    for told in view.get("data") or ():
        counts = ", ".join(f"{key} {told[key]}" for key in ("added", "removed", "changed"))
        moves = "".join(f", {count} {way.replace('->', ' to ')}" for way, count in told["splits"].items() if count)
        yield f"{told['role']} data {told['before']} to {told['after']}: {counts}{moves}"


def _attributed(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield how each model's own value became the other's: what the eval side did, and what the model did."""
    if not told or not told["metrics"]:
        return
    counts = told["samples"]
    titles = [f"{step} {counts[step]}" for step in ("removed", "corrected", "added")]
    rows = [
        (
            name,
            *(walk[key] for key in ("a", "b", "change", "removed", "corrected", "added", "model")),
            interval(walk["test"]),
        )
        for name, walk in told["metrics"].items()
    ]
    yield ""
    yield f"each on its own eval side (a {counts['a']}, b {counts['b']} samples), and where the change comes from"
    yield from table(("metric", "a", "b", "change", *titles, "model", "95 %"), rows)


def _p(value: float | None) -> str | float | None:
    return "<0.001" if value is not None and value < 0.001 else value  # noqa: PLR2004


def _verdict(told: Mapping[str, Any]) -> str:
    return "no clear difference" if told["verdict"] == "unclear" else f"b is {told['verdict']}"


def _board(view: Mapping[str, Any]) -> Iterator[str]:
    titles = {side["name"]: side["title"] for side in view["sides"]}
    for metric, rows in view["leaderboard"].items():
        cells = [(row["rank"], titles[row["name"]], row["name"], row["value"], interval(row)) for row in rows]
        yield from table(("rank", "model", "run", metric, "95 %"), cells)
        yield ""
    yield f"{view['n']} samples; models of one rank cannot be told apart (paired test, Holm over {len(view['pairs'])} pairs)"
