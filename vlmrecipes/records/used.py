"""What a report says of the data that a run used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmrecipes.page import charts, formats
from vlmrecipes.records.view import Table


@dataclass(frozen=True, slots=True)
class Data:
    """A snapshot as a run used it."""

    table: Table
    sides: tuple[charts.Share, ...]
    """How its rows were divided: training, evaluation, dropped."""


def data(record: Mapping[str, Any]) -> list[Data]:
    """Return what is told of each snapshot that was read, one entry for all its roles."""
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for part in record.get("data") or []:
        parts.setdefault(str(part.get("snapshot") or "unnamed"), []).append(part)
    tokens = (record.get("plan") or {}).get("tokens") or {}
    return [_data(name, roles, tokens if number == 0 else {}) for number, (name, roles) in enumerate(parts.items())]


def _data(name: str, roles: Sequence[Mapping[str, Any]], tokens: Mapping[str, Any]) -> Data:
    part = roles[0]
    splits, rows, drops = part.get("splits") or {}, part.get("rows") or {}, part.get("drops") or {}
    used = [(str(each.get("role") or "data"), (each.get("selection") or {}).get("samples")) for each in roles]
    shared = next((each["images_in_train"] for each in roles if "images_in_train" in each), None)
    lengths = ", ".join(f"{key} {formats.count(tokens[key])}" for key in ("p50", "p95", "max") if key in tokens)
    pairs = [
        ("fingerprint", part.get("fingerprint") or formats.NOTHING),
        ("samples", formats.count(part.get("samples"))),
        *((f"{side} side", formats.count(count)) for side, count in sorted(splits.items(), reverse=True)),
        *((f"used to {USES.get(role, role)}", formats.count(count)) for role, count in used if count is not None),
        ("images", formats.count(part.get("images"))),
        *([("eval images also in train", formats.count(shared))] if shared is not None else []),
        ("rows read", formats.count(rows.get("read"))),
        ("rows dropped", formats.count(rows.get("dropped"))),
        *(
            (f"{formats.NOTHING} {reason}", formats.count(count))
            for reason, count in sorted(drops.items(), key=lambda drop: -drop[1])
        ),
        *(("source", _source(source)) for source in part.get("sources") or []),
        *([("tokens a row", lengths)] if lengths else []),
        ("licence", part.get("license") or "not stated"),
    ]
    title = f"{name} ({', '.join(role for role, _ in used)})"
    sides = [("train", splits.get("train")), ("eval", splits.get("eval")), ("dropped", rows.get("dropped"))]
    counts = [(side, count) for side, count in sides if isinstance(count, int)]
    return Data(Table(title, tuple(pairs)), charts.shares(counts) if len(counts) == len(sides) else ())


USES = {"train": "train", "eval": "score"}


def _source(source: Mapping[str, Any]) -> str:
    files = source.get("files") or {}
    count = files.get("count")
    told = f", {formats.count(count)} file{'s' * (count != 1)}, {formats.size(files.get('bytes'))}" if files else ""
    return f"{source.get('source')} ({source.get('type')}{told})"
