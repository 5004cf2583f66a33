"""Two runs that were scored on different eval sides: how much of the change is the data's, and how much the model's.

The first model's own value is walked to the second's in steps that add up exactly, each on stored predictions:

1. `removed`: the first model without the samples that the second run did not have,
2. `corrected`: the same answers of the first model, held against the second run's references,
3. `model`: both models on what both were asked, by the second run's references; this step has an interval and a test,
4. `added`: the second model with the samples that only its run had.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from vlmrecipes.compare.pair import differences
from vlmrecipes.compare.sides import Row, Side
from vlmrecipes.data.difference import difference
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.evaluate.score import score
from vlmrecipes.fingerprint import canonical
from vlmrecipes.records.scoring import answer

Pairs = Sequence[tuple[Row, Row]]
STEPS = ("removed", "corrected", "model", "added")


def attribution(a: Side, b: Side, metrics: Sequence[str], store: str) -> dict[str, Any]:
    """Return `samples` and `metrics` of the walk from a's own values to b's.

    `samples` counts those of `a`, of `b`, `common` to both, `corrected`, `removed` and `added`. A metric has `a` and `b`
    (each on its own eval side), `change`, the four steps, `data` (all steps but the model's) and `test`, the model's step
    as `compare` tells a difference. Raises InputError for snapshots that are not in the store.
    """
    pairs = _pairs(a, b, _asked(a, store) | _asked(b, store))
    corrected = sum(_references(one) != _references(other) for one, other in pairs)
    counted = {"a": len(a.rows), "b": len(b.rows), "common": len(pairs) - corrected, "corrected": corrected}
    counted |= {"removed": len(a.rows) - len(pairs), "added": len(b.rows) - len(pairs)}
    return {"samples": counted, "metrics": _walks(a, b, pairs, metrics) if pairs else {}}


def _asked(side: Side, store: str) -> dict[str, Hashable]:
    """Return what a model is shown of every eval sample, by id: the images and the whole chat."""
    return {
        sample.id: (sample.images, canonical(sample.messages))
        for name in side.about()["snapshots"]
        for sample in open_snapshot(store, name).samples("eval")
    }


def _pairs(a: Side, b: Side, asked: Mapping[str, Hashable]) -> Pairs:
    """Pair rows that were asked the same, first those of one id, then the others in the order of their ids.

    An id comes from the content of its sample, so a corrected reference gives another one.
    """
    same = [key for key in sorted(a.rows) if key in b.rows and _shown(a.rows[key]) == _shown(b.rows[key])]
    waiting: defaultdict[Hashable, list[Row]] = defaultdict(list)
    for key in sorted(b.rows.keys() - set(same), reverse=True):
        waiting[asked.get(key, key)].append(b.rows[key])
    pairs = [(a.rows[key], b.rows[key]) for key in same]
    left = [(a.rows[key], waiting[asked.get(key, key)]) for key in sorted(a.rows.keys() - set(same))]
    return pairs + [(row, twins.pop()) for row, twins in left if twins]


def _shown(row: Row) -> tuple[Any, ...]:
    return tuple(row["images"]), row["prompt"]


def _references(row: Row) -> tuple[str, ...]:
    return tuple(row["references"])


def _walks(a: Side, b: Side, pairs: Pairs, metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    before = [one for one, _ in pairs]
    judged = [{**one, "references": other["references"]} for one, other in pairs]
    after = [other for _, other in pairs]
    stations = [
        _scores(rows, metrics) for rows in (list(a.rows.values()), before, judged, after, list(b.rows.values()))
    ]
    values = [summaries for summaries, _ in stations]
    tests = differences(stations[2][1], stations[3][1], [row["group"] for row in after])
    return {name: _walk([one[name]["value"] for one in values]) | {"test": tests[name]} for name in metrics}


def _scores(rows: Sequence[Row], metrics: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    return score([answer(row) for row in rows], metrics, resamples=1)


def _walk(values: Sequence[float | None]) -> dict[str, float | None]:
    steps = [_less(after, before) for before, after in pairwise(values)]
    found = {"a": values[0], "b": values[-1], "change": _less(values[-1], values[0])}
    found |= dict(zip(STEPS, steps, strict=True))
    return found | {"data": None if found["change"] is None else _less(found["change"], found["model"])}


def _less(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def changed_data(a: Side, b: Side, store: str) -> list[dict[str, Any]]:
    """Return `{role, …}` with the difference of the snapshots, for every dataset that both runs used in different versions."""
    found = []
    for role in ("train", "eval"):
        before, after = (_datasets(side, role) for side in (a, b))
        for name in sorted(before.keys() & after.keys()):
            if before[name] != after[name]:
                told = difference(open_snapshot(store, before[name]), open_snapshot(store, after[name]))
                found.append({"role": role} | {key: value for key, value in told.items() if key != "examples"})
    return found


def _datasets(side: Side, role: str) -> dict[str, str]:
    names = [str(part["snapshot"]) for part in side.record["data"] if part["role"] == role]
    return {name.partition("@")[0]: name for name in names}
