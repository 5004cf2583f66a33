"""What changed between two snapshots of a dataset.

Samples are paired by id. Those left over are paired when they have the same source and

1. images, messages and references (only their group or metadata changed),
2. images and messages (other references),
3. original image files, messages and references (the images were prepared otherwise),
4. images and references (other messages),

in this order; they are *changed*. What is left then was *added* or *removed*. Where several samples could be paired they
are taken in the order of their ids, so the outcome is always the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

from vlmrecipes.data.sample import Sample
from vlmrecipes.data.snapshot import Snapshot
from vlmrecipes.data.statistics import statistics
from vlmrecipes.errors import InputError
from vlmrecipes.fingerprint import canonical

SHOWN = 20
"""How many samples of a kind are listed; all are counted."""
_PARTS = ("images", "messages", "references", "group", "metadata")

Pair = tuple[Sample, Sample]


def difference(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """Return `added`, `removed` and `changed` (numbers of samples), `splits` (moves between sides) and `stats`.

    `changes` counts which parts of the changed samples differ, `examples` lists a few of each kind. Raises InputError for
    snapshots of different datasets: their samples have no common identity.
    """
    if before.manifest["name"] != after.manifest["name"]:
        raise InputError.one(
            f"{before.name} and {after.name} are different datasets; compare two snapshots of one dataset"
        )
    same, changed, removed, added = pair(before, after)
    moves = Counter(f"{a.split}->{b.split}" for a, b in [*same, *changed] if a.split != b.split)
    return {
        "before": before.name,
        "after": after.name,
        "added": len(added),
        "removed": len(removed),
        "changed": len(changed),
        "unchanged": sum(a.digest() == b.digest() for a, b in same),
        "changes": dict(sorted(Counter(part for a, b in changed for part in _differing(a, b)).items())),
        "splits": {move: moves[move] for move in ("train->eval", "eval->train")},
        "stats": moved(_numbers(statistics(before)), _numbers(statistics(after))),
        "examples": {
            "added": [sample.content() for sample in added[:SHOWN]],
            "removed": [sample.content() for sample in removed[:SHOWN]],
            "changed": [_example(a, b) for a, b in changed[:SHOWN]],
        },
    }


def pair(before: Snapshot, after: Snapshot) -> tuple[list[Pair], list[Pair], list[Sample], list[Sample]]:
    """Return the pairs with one id, the changed pairs, the samples only before and those only after, ordered by id."""
    old, new = ({sample.id: sample for sample in snapshot.samples()} for snapshot in (before, after))
    same = [(old[key], new[key]) for key in old.keys() & new.keys()]
    left = [old[key] for key in sorted(old.keys() - new.keys())]
    right = [new[key] for key in sorted(new.keys() - old.keys())]
    originals = _originals(before) | _originals(after)
    changed: list[Pair] = []
    for identity in _identities(originals):
        found, left, right = _matched(left, right, identity)
        changed += found
    return sorted(same, key=_first_id), sorted(changed, key=_first_id), left, right


def _originals(snapshot: Snapshot) -> dict[str, str]:
    """Return the SHA-256 of the file that each image was made from, by image key."""
    table = snapshot.columns("images", ("key", "source_sha256"))
    return dict(zip(table["key"].to_pylist(), table["source_sha256"].to_pylist(), strict=True))


def _first_id(samples: Pair) -> str:
    return samples[0].id


def _identities(originals: Mapping[str, str]) -> Iterator[Callable[[Sample], Hashable]]:
    def files(sample: Sample) -> tuple[str, ...]:
        return tuple(originals.get(key, key) for key in sample.images)

    yield lambda sample: (sample.source, sample.images, canonical(sample.messages), sample.references)
    yield lambda sample: (sample.source, sample.images, canonical(sample.messages))
    yield lambda sample: (sample.source, files(sample), canonical(sample.messages), sample.references)
    yield lambda sample: (sample.source, sample.images, sample.references) if sample.images else sample.id


def _matched(
    left: Sequence[Sample], right: Sequence[Sample], identity: Callable[[Sample], Hashable]
) -> tuple[list[Pair], list[Sample], list[Sample]]:
    """Pair samples of equal identity, in their order; return the pairs and what is left on both sides."""
    waiting: defaultdict[Hashable, list[Sample]] = defaultdict(list)
    for sample in reversed(right):
        waiting[identity(sample)].append(sample)
    pairs, alone = [], []
    for sample in left:
        twins = waiting.get(identity(sample))
        if twins:
            pairs.append((sample, twins.pop()))
        else:
            alone.append(sample)
    taken = {after.id for _, after in pairs}
    return pairs, alone, [sample for sample in right if sample.id not in taken]


def _differing(before: Sample, after: Sample) -> list[str]:
    return [part for part in _PARTS if getattr(before, part) != getattr(after, part)]


def _example(before: Sample, after: Sample) -> dict[str, Any]:
    parts = _differing(before, after)
    old, new = before.content(), after.content()
    return {"before": before.id, "after": after.id} | {
        part: {"before": old[part], "after": new[part]} for part in parts
    }


def moved(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return `{name: {"before", "after", "change"}}` of the numbers that moved."""
    names = sorted(before.keys() | after.keys())
    pairs = {name: (before.get(name, 0), after.get(name, 0)) for name in names}
    return {
        name: {"before": old, "after": new, "change": round(new - old, 6)}
        for name, (old, new) in pairs.items()
        if old != new
    }


def _numbers(value: Any, path: str = "") -> dict[str, float]:
    """Return the numbers inside statistics by their dotted path; histograms and single answers are left out."""
    if isinstance(value, Mapping):
        inner = (
            _numbers(each, f"{path}.{key}" if path else key) for key, each in value.items() if key not in _LEFT_OUT
        )
        return {name: number for found in inner for name, number in found.items()}
    return {path: value} if isinstance(value, int | float) else {}


_LEFT_OUT = {"histogram", "top", "sizes"}
