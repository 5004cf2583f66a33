"""Views of snapshots, plans and records as lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vlmrecipes.cli.output import table
from vlmrecipes.records.predictions import MODELS

SHOWN = 5


def snapshot_view(store: str, name: str) -> dict[str, Any]:
    """Return a snapshot's manifest with a few samples and all drops."""
    from vlmrecipes.data.snapshot import open_snapshot

    snapshot = open_snapshot(store, name)
    samples = snapshot.samples()
    view = dict(snapshot.manifest)
    view["sources"] = dict(sorted(Counter(sample.source for sample in samples).items()))
    view["answer_characters"] = _spread([len(sample.answer) for sample in samples])
    view["images_a_sample"] = dict(sorted(Counter(str(len(sample.images)) for sample in samples).items()))
    view["examples"] = [sample.content() for sample in samples[:SHOWN]]
    view["dropped"] = snapshot.drops()
    return view


def _spread(values: Sequence[int]) -> dict[str, int]:
    ordered = sorted(values)
    return {"min": ordered[0], "median": ordered[len(ordered) // 2], "max": ordered[-1]} if ordered else {}


def snapshot_lines(view: Mapping[str, Any]) -> list[str]:
    """Return what `snapshots show` prints."""
    rows, splits, spread = view["rows"], view["splits"], view["answer_characters"]
    lines = [
        f"{view['snapshot']}  {view['fingerprint']}  {view['created']}  {view['license'] or 'no licence given'}",
        f"  rows read {rows['read']} = samples {rows['samples']} + dropped {rows['dropped']}",
        f"  train {splits['train']}, eval {splits['eval']}, images {view['images']}, on both sides {view['leaks']['images']}",
        f"  characters an answer: {', '.join(f'{name} {value}' for name, value in spread.items())}",
    ]
    lines += [f"  source {name}: {count} samples" for name, count in view["sources"].items()]
    lines += [f"  dropped as {reason}: {count}" for reason, count in view["drops"].items()]
    lines += [f"    {drop['source']} {drop['key']}: {drop['message']}" for drop in view["dropped"][:SHOWN]]
    lines += [f"  {item['split']:5} {item['references'][0]!r}" for item in view["examples"]]
    return lines


def plan_lines(view: Mapping[str, Any]) -> list[str]:
    """Return what `plan` prints."""
    tokens = view["tokens"]
    return [
        f"plan {view['plan']}  {view['fingerprint']}",
        f"  {view['snapshot']}, {view['samples']} samples, {view['steps']} steps",
        f"  tokens a row: p50 {tokens['p50']}, p95 {tokens['p95']}, max {tokens['max']}",
        f"  memory, estimated: {view['memory_bytes'] / 2**30:.2f} GiB",
        *(f"  problem: {problem['key']}: {problem['problem']}" for problem in view["problems"]),
    ]


def run_lines(view: Mapping[str, Any]) -> list[str]:
    """Return what `run` prints: the scores, before and after, and where things lie."""
    lines = score_table([view])
    paths = ((name, view.get(name)) for name in ("record", "adapter", "report"))
    return [*lines, "", *(f"{name}: {path}" for name, path in paths if path)]


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
    return float(metric["value"]), f"[{metric['low']:.3f}, {metric['high']:.3f}]"


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
    return [*lines, "", *score_table([{"recipe": recipe.get("name"), "metrics": record.get("metrics") or {}}])]
