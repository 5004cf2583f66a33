"""What an ingest needs to know of snapshots that are there: eval sides to keep clear of, and who has changed sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from vlmrecipes.data.declaration import Declaration
from vlmrecipes.data.lookalikes import Picture, pictures_of
from vlmrecipes.data.manifests import numbers
from vlmrecipes.data.sample import Sample
from vlmrecipes.data.snapshot import Snapshot, open_snapshot
from vlmrecipes.errors import InputError, Problem


def eval_pictures(uri: str, names: Sequence[str], file: str) -> list[tuple[str, Picture]]:
    """Return the pictures on the eval sides of snapshots `names`, each with `NAME@N ID` of its sample.

    Raises InputError for all snapshots that are not there; `file` is the declaration that names them.
    """
    snapshots, problems = [], []
    for place, name in enumerate(names):
        try:
            snapshots.append(open_snapshot(uri, name))
        except InputError as error:
            problems += [Problem(file, f"dedup.decontaminate[{place}]", problem.problem) for problem in error.problems]
    if problems:
        raise InputError(problems)
    return [named for snapshot in snapshots for named in _eval_pictures(snapshot)]


def _eval_pictures(snapshot: Snapshot) -> list[tuple[str, Picture]]:
    pictures = {picture.key: picture for picture in pictures_of(snapshot.pictures("eval", Picture._fields))}
    return [
        (f"{snapshot.name} {sample.id}", pictures[key]) for sample in snapshot.samples("eval") for key in sample.images
    ]


def held_groups(uri: str, declaration: Declaration) -> frozenset[str]:
    """Return the groups that the newest snapshot has in eval, when it was stratified by the same rule."""
    if not declaration.split.stratify or not numbers(uri, declaration.name):
        return frozenset()
    newest = open_snapshot(uri, declaration.name)
    if newest.manifest["declaration"]["split"] != declaration.split.model_dump(mode="json"):
        return frozenset()
    return frozenset(sample.group for sample in newest.samples("eval"))


def moves(parent: Snapshot | None, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return how many samples of `parent` have changed sides: `to_eval` (joined to a group there) and `to_train`."""
    table = parent.columns("samples", ("id", "split")) if parent else None
    old = dict(zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True)) if table else {}
    moved = Counter(sample.split for sample in samples if old.get(sample.id, sample.split) != sample.split)
    return {"to_eval": moved["eval"], "to_train": moved["train"]}
