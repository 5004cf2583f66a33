"""Snapshots, and what is done with them, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vlmrecipes.cli.output import quoted, table

SHOWN = 5
WIDTH = 60
"""Longest text shown of an answer."""
_SPREAD = ("min", "p5", "p50", "p95", "max", "mean")


def list_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what `snapshots list` prints."""
    if not rows:
        return ["no snapshots yet"]
    keys = ("snapshot", "fingerprint", "samples", "created")
    return table((*keys, "labels"), [[*(row[key] for key in keys), ", ".join(row["labels"])] for row in rows])


def show_lines(view: Mapping[str, Any]) -> list[str]:
    """Return what `snapshots show` prints."""
    rows, statistics = view["rows"], view["statistics"]
    images = statistics["images"]
    return [
        f"{view['snapshot']}  {view['fingerprint']}  {view['created']}  {view['license'] or 'no licence given'}",
        f"  rows read {rows['read']} = samples {rows['samples']} + dropped {rows['dropped']}",
        f"  images {images['count']}, on both sides {view['leaks']['images']}, {_shares(images['formats'])}",
        "",
        *table(("split", "samples", "groups", "images"), _rows(statistics["splits"], ("samples", "groups", "images"))),
        "",
        *table(("source", "train", "eval"), _rows(statistics["sources"], ("train", "eval"))),
        "",
        *_spreads(statistics),
        "",
        *(f"scripts of {part}s: {_scripts(statistics[name]['scripts'])}" for name, part in _TEXTS),
        *_answers(statistics["answers"]),
        *_drops(view),
    ]


_TEXTS = (("prompt", "prompt"), ("references", "reference"))


def _rows(table: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> list[list[Any]]:
    return [[name, *(values[key] for key in keys)] for name, values in table.items()]


def _spreads(statistics: Mapping[str, Any]) -> list[str]:
    """Return one table of everything that is measured, a line a quantity."""
    images = statistics["images"]
    measured = {name: images[name] for name in ("width", "height", "megapixels", "aspect")}
    for name, part in _TEXTS:
        measured |= {f"{part} {unit}": statistics[name][unit] for unit in ("characters", "words")}
    rows = [[name, *(spread.get(key) for key in _SPREAD)] for name, spread in measured.items() if spread["count"]]
    return table(("", *_SPREAD), rows)


def _shares(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _scripts(scripts: Mapping[str, Mapping[str, int]]) -> str:
    return _shares({name: found["characters"] for name, found in scripts.items()}) + " characters"


def _answers(answers: Mapping[str, Any]) -> Iterator[str]:
    yield f"answers: {answers['distinct']} distinct, the commonest is {answers['majority']:.1%} of samples"
    for row in answers["top"][:SHOWN]:
        yield f"  {row['count']:>7}  {quoted(row['answer'], WIDTH)}"


def _drops(view: Mapping[str, Any]) -> Iterator[str]:
    for reason, count in view["drops"].items():
        yield f"dropped as {reason}: {count}"
        found = [drop for drop in view["dropped"] if drop["reason"] == reason]
        yield from (f"  {drop['source']} {drop['key']}: {drop['message']}" for drop in found[:SHOWN])
        if count > SHOWN:
            yield f"  … and {count - SHOWN} more; --json gives all"


def difference_lines(view: Mapping[str, Any]) -> list[str]:
    """Return what `snapshots diff` prints."""
    parts = f" ({_shares(view['changes'])})" if view["changes"] else ""
    head = [
        f"{view['before']} → {view['after']}",
        f"  added {view['added']}, removed {view['removed']}, changed {view['changed']}{parts}, same {view['unchanged']}",
        f"  moved between sides: {_shares(view['splits'])}",
    ]
    marks = {"added": "+", "removed": "-"}
    lines = [
        f"  {mark} {sample['split']:5} {quoted(sample['references'][0], WIDTH)}"
        for kind, mark in marks.items()
        for sample in view["examples"][kind][:SHOWN]
    ]
    lines += [f"  ~ {_change(change)}" for change in view["examples"]["changed"][:SHOWN]]
    rows = [[name, *moved.values()] for name, moved in view["stats"].items()]
    return [*head, *lines, *(["", *table(("statistic", "before", "after", "change"), rows)] if rows else [])]


def _change(change: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{part} {quoted(str(values['before']), WIDTH)} → {quoted(str(values['after']), WIDTH)}"
        for part, values in change.items()
        if isinstance(values, Mapping)
    )


def prune_lines(view: Mapping[str, Any]) -> list[str]:
    """Return what `snapshots prune` prints."""
    verb = "removed" if view["removed"] else "would remove"
    last = f"{view['bytes_freed']} bytes freed" if view["removed"] else "nothing was removed; --yes does it"
    return [
        *(f"kept {item['snapshot']}: {item['why']}" for item in view["kept"]),
        *(f"{verb} {name}" for name in view["snapshots"]),
        f"{verb} {view['images']} images that no kept snapshot names; {last}",
    ]
