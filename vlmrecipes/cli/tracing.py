"""What `lineage` prints: a tree backwards and one forwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SHOWN = 8
"""Children of one kind that are shown below a node."""


def lineage_lines(view: Mapping[str, Any]) -> list[str]:
    """Return the node that was asked for, what it was made from, what it went into, and who has seen it."""
    lines: list[str] = []
    for key in view["of"][:SHOWN]:
        lines += [_node(_nodes(view)[key]), "made from", *_tree(view, key, back=True)]
        lines += ["went into", *_tree(view, key, back=False)]
    return [*lines, *_seen(view.get("seen") or {})]


def touched_lines(view: Mapping[str, Any]) -> list[str]:
    """Return what must be done again when a source is withdrawn."""
    lines = [f"{view['source']} went into"]
    lines += [f"  {each['snapshot']}  {_counted(each['samples'])}" for each in view["snapshots"]]
    lines += [f"  run {run}" for run in view["runs"]]
    lines += [f"  export {path}" for path in view["exports"]]
    return [*lines, "to do again", *(f"  {command}" for command in view["redo"])]


def _counted(samples: int | None) -> str:
    return "" if samples is None else f"{samples} samples"


def _seen(seen: Mapping[str, Any]) -> Iterator[str]:
    for each in seen.get("snapshots", ()):
        yield f"in {each['snapshot']}, {each['split']} side  {_counted(each['samples'])}".rstrip()
    for each in seen.get("runs", ()):
        verb = "learned from" if each["role"] == "train" else "scored on"
        yield f"{verb} by {each['run']} ({each['snapshot']})"
    for each in seen.get("left_out", ()):
        yield f"left out of {each['snapshot']}: {each['source']} {each['row']}: {each['reason']}: {each['message']}"


def _nodes(view: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {node["id"]: node for node in view["nodes"]}


def _tree(view: Mapping[str, Any], start: str, *, back: bool) -> list[str]:
    nodes, following = _nodes(view), dict[str, list[str]]()
    for edge in view["edges"]:
        here, there = (edge["to"], edge["from"]) if back else (edge["from"], edge["to"])
        following.setdefault(here, []).append(there)
    told: set[str] = set()

    def below(key: str, depth: int) -> Iterator[str]:
        counts: dict[str, int] = {}
        for other in following.get(key, ()):
            kind = nodes[other]["kind"]
            counts[kind] = counts.get(kind, 0) + 1
            if counts[kind] > SHOWN:
                continue
            again = other in told and other in following
            yield f"{'  ' * depth}{_node(nodes[other])}{' (as above)' if again else ''}"
            if other not in told:
                told.add(other)
                yield from below(other, depth + 1)
        yield from (
            f"{'  ' * depth}and {count - SHOWN} more of kind {kind}" for kind, count in counts.items() if count > SHOWN
        )

    return list(below(start, 1)) or ["  nothing"]


def _node(node: Mapping[str, Any]) -> str:
    digest = str(node.get("fingerprint") or node.get("sha256") or "").removeprefix("sha256:")[:12]
    kind = "" if node["label"].startswith(node["kind"]) else f"{node['kind']} "
    return f"{kind}{node['label']}{f'  {digest}' if digest else ''}"
