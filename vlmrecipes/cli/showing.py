"""Plans and records as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.cli.output import interval, quoted, table
from vlmrecipes.records.predictions import MODELS

WIDTH = 200
"""Letters shown of what a row reads and learns."""


def init_lines(view: Mapping[str, Any], folder: Path) -> list[str]:
    """Return what `init` prints: its files (pictures counted), what was guessed, and what to do next."""
    pictures = [name for name in view["files"] if name.endswith(".png")]
    lines = [name for name in view["files"] if name not in pictures]
    lines += [f"{len(pictures)} pictures in {Path(pictures[0]).parent}"] if pictures else []
    if view["guessed"]:
        columns = table(("column", "first value"), view["columns"].items())
        rows = [(one["key"], _listed(one["value"]), one["why"]) for one in view["guessed"]]
        lines += ["", *columns, "", *table(("key", "guessed", "why"), rows), "", "Wrong? Change the declaration."]
    return [
        *lines,
        "",
        "next:",
        f"  cd {folder}",
        "  make -n all    # the commands: ingest, look, plan, run, report",
        "  make all",
    ]


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def plan_lines(view: Mapping[str, Any]) -> list[str]:
    """Return what `plan` prints."""
    tokens = view["tokens"]
    return [
        f"plan {view['plan']}  {view['fingerprint']}",
        f"  {view['snapshot']}, {view['samples']} samples, {view['steps']} steps",
        f"  tokens a row: p50 {tokens['p50']}, p95 {tokens['p95']}, max {tokens['max']}",
        *([f"  left out, longer than model.max_length: {view['overlong']} rows"] if view["overlong"] else []),
        f"  memory, estimated: {view['memory_bytes'] / 2**30:.2f} GiB",
        *(line for row in view["rows"] for line in _row_lines(row)),
        *(f"  problem: {problem['key']}: {problem['problem']}" for problem in view["problems"]),
    ]


def _row_lines(row: Mapping[str, Any]) -> list[str]:
    """Return a row as the model sees it: sizes of pictures, what is read and what is learned."""
    return [
        f"  sample {row['sample']}: {row['tokens']} tokens, {row['learned'] or 'none'} of them learned",
        *(f"    picture {_size(*one['size'])} seen as {_seen(one['seen'])}" for one in row["pictures"]),
        f"    reads  {quoted(row['text'], WIDTH)}",
        f"    {'learns' if row['learned'] else 'is rewarded for'} {quoted(row['answer'], WIDTH)}",
    ]


def _size(width: int, height: int) -> str:
    return f"{width} x {height}"


def _seen(view: Mapping[str, int]) -> str:
    size = _size(view["width"], view["height"])
    return size if view["parts"] == 1 else f"{view['parts']} parts of {size}"


def run_lines(view: Mapping[str, Any]) -> list[str]:
    """Return what `run` prints: the scores, before and after, and where things lie."""
    lines = [*score_table([view]), *caveat_lines(view)]
    paths = [(name, view.get(name)) for name in ("record", "adapter", "report")]
    paths += [(each["format"], each["path"]) for each in view.get("exports") or ()]
    return [*lines, "", *(f"{name}: {path}" for name, path in paths if path)]


def caveat_lines(view: Mapping[str, Any]) -> list[str]:
    """Return what the most frequent answer would score, and every warning."""
    found = (view.get("baselines") or {}).get("majority") or {}
    lines = [
        f"always {found['answer']!r}: {name} {value:.3f}"
        for name, value in (found.get("metrics") or {}).items()
        if value is not None
    ]
    return [*lines, *(f"warning: {each['message']}" for each in view.get("warnings") or ())]


def report_lines(view: Mapping[str, Any]) -> list[str]:
    """Return what `report` prints: one table for all its runs, and where things lie."""
    records = [f"record: {run['record']}" for run in view["runs"]]
    return [*score_table(view["runs"]), "", *records, f"report: {view['path']}"]


def score_table(views: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one table of the scores of several runs: before, after, 95 % interval, n."""
    rows = [row for view in views for row in _score_rows(view)]
    return table(("recipe", "metric", "before", "", "after", "", "n"), rows) if rows else ["no scores"]


def _score_rows(view: Mapping[str, Any]) -> Iterator[list[Any]]:
    metrics = view["metrics"]
    names = dict.fromkeys(name for model in MODELS for name in metrics.get(model, {}))
    for name in names:
        base, tuned = (metrics.get(model, {}).get(name) for model in MODELS)
        n = (tuned or base)["n"]
        yield [view.get("recipe", ""), name, *_value(base), *_value(tuned), n]
        yield from _by_rows(base or {}, tuned or {})


def _by_rows(base: Mapping[str, Any], tuned: Mapping[str, Any]) -> Iterator[list[Any]]:
    for column, labels in (tuned.get("by") or base.get("by") or {}).items():
        for label, value in labels.items():
            before = base.get("by", {}).get(column, {}).get(label)
            after = tuned.get("by", {}).get(column, {}).get(label)
            yield ["", f"  {column} {label}", *_value(before), *_value(after), value["n"]]


def _value(metric: Mapping[str, Any] | None) -> tuple[Any, str]:
    if not metric or metric["value"] is None:
        return None, ""
    return float(metric["value"]), interval(metric)


def runs_lines(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what `runs list` prints."""
    rows = [(run["run"], run["status"], run.get("recipe"), run.get("snapshot"), _short(run)) for run in runs]
    return table(("run", "status", "recipe", "snapshot", "scores"), rows) if rows else ["no runs yet"]


def _short(run: Mapping[str, Any]) -> str:
    metrics = run.get("metrics") or {}
    names = dict.fromkeys(name for model in MODELS for name in metrics.get(model, {}))
    arrow = {name: [metrics.get(model, {}).get(name) for model in MODELS] for name in names}
    return ", ".join(
        f"{name} " + " → ".join(f"{value:.3f}" for value in values if value is not None)
        for name, values in arrow.items()
    )


def record_lines(record: Mapping[str, Any]) -> list[str]:
    """Return what `runs show` prints."""
    recipe = record.get("recipe") or {}
    lines = [
        f"{record['run']}  {record['status']}  {recipe.get('name')} {recipe.get('version')}",
        f"  created {record.get('created')}, {record.get('seconds')} s, {record.get('seal') or 'not sealed'}",
        *(f"  {part['role']}: {part['snapshot']}  {part['fingerprint']}" for part in record.get("data") or ()),
    ]
    if record.get("error"):
        lines.append(f"  error: {record['error']}")
    lines += [f"  export {entry.get('format')}: {entry.get('path')}" for entry in record.get("exports") or ()]
    return [*lines, "", *score_table([{"recipe": recipe.get("name"), "metrics": record.get("metrics") or {}}])]
