"""What is compared: one model's predictions of one run, and the samples that all sides have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmrecipes.errors import InputError, Problem, VlmRecipesError
from vlmrecipes.evaluate.metrics import Score, resolve
from vlmrecipes.evaluate.paired import too_few
from vlmrecipes.evaluate.score import score
from vlmrecipes.fingerprint import file_sha256
from vlmrecipes.records import ledger, predictions, record
from vlmrecipes.records.predictions import MODELS
from vlmrecipes.records.scoring import answer

Row = Mapping[str, Any]
SHOWN = 12
"""Digits of a commit."""


@dataclass(frozen=True, slots=True)
class Side:
    """One model's predictions."""

    name: str
    """As it was asked for: `RUN`, or `RUN:base`."""
    folder: Path
    model: str
    record: Mapping[str, Any]
    rows: Mapping[str, Row]
    """Rows of predictions.parquet by sample id."""

    @property
    def title(self) -> str:
        """What answered, for people: the model, and what tuned it."""
        name = _named(self.record["model"])
        if self.model == "base":
            return f"{name}, untuned"
        if self.record["kind"] == "evaluate":
            tuned = [parent["run"] for parent in self.record.get("parents") or [] if parent["as"] == "model"]
            return f"{name} tuned by run {tuned[0]}" if tuned else name
        recipe = self.record["recipe"]
        return f"{name} tuned by {recipe.get('name') or self.folder.name} {recipe.get('version') or ''}".strip()

    def about(self) -> dict[str, Any]:
        """Return what a comparison's JSON says of this side."""
        evals = {part["snapshot"]: part["fingerprint"] for part in self.record["data"] if part["role"] == "eval"}
        return {
            "name": self.name,
            "title": self.title,
            "run": self.folder.name,
            "model": self.model,
            "recipe": self.record["recipe"].get("name"),
            "base": self.record["model"].get("id"),
            "snapshots": evals,
            "n": len(self.rows),
        }


def _named(model: Mapping[str, Any]) -> str:
    """Return a model's name with its version or commit, or the address of its server."""
    name, revision = model.get("id") or "unknown model", model.get("revision") or ""
    return f"{name} at {revision}" if "://" in revision else f"{name} {revision[:SHOWN]}".strip()


@dataclass(frozen=True, slots=True)
class Common:
    """The samples that every side predicted, in order of id."""

    ids: Sequence[str]
    only: Sequence[int]
    """How many more each side has."""
    changed: int
    """Samples that all sides have by id, but with other references or images: left out."""
    same_snapshot: bool
    """Whether all sides were scored on snapshots of the same fingerprints."""

    @property
    def whole(self) -> bool:
        """Whether nothing had to be left out."""
        return self.same_snapshot and not self.changed and not any(self.only)


def sides(names: Sequence[str], store: str) -> list[Side]:
    """Return the sides that `names` ask for. Raises InputError with all that cannot be compared."""
    found, problems = [], []
    for name in names:
        try:
            found.append(_side(name, store))
        except InputError as error:
            problems += error.problems
        except VlmRecipesError as error:
            problems.append(Problem("", name, str(error)))
    twice = {side.name for side in found if sum((side.folder, side.model) == (o.folder, o.model) for o in found) > 1}
    problems += [Problem("", name, "is compared with itself; name another run, or RUN:base") for name in sorted(twice)]
    if problems:
        raise InputError(problems)
    return found


def _side(name: str, store: str) -> Side:
    run, _, model = name.partition(":")
    folder = ledger.find(ledger.home(store), run)
    found = record.read(folder)
    if not (folder / predictions.NAME).exists():
        raise InputError.one(f"run {folder.name} is {found['status']} and has no predictions to compare", key=name)
    table = predictions.read(folder / predictions.NAME).to_pylist()
    there = [each for each in MODELS if any(row["model"] == each for row in table)]
    wanted = model or (there[-1] if there else "")
    if wanted not in there:
        has = ", ".join(there) or "no model"
        raise InputError.one(f"run {folder.name} has no predictions of {wanted!r}; it has: {has}", key=name)
    return Side(name, folder, wanted, found, {row["id"]: row for row in table if row["model"] == wanted})


def notes(found: Sequence[Side], common: Common) -> list[str]:
    """Return what a reader must know before the numbers, the loudest first."""
    told = []
    if not common.whole:
        told.append(_partial(found, common))
    groups = {found[0].rows[key]["group"] for key in common.ids}
    if few := too_few(len(groups), math.comb(len(found), 2)):
        told.append(few)
    for side in found:
        listed = {output["path"]: output["sha256"] for output in side.record["outputs"]}
        if listed.get(predictions.NAME) != file_sha256(side.folder / predictions.NAME):
            told.append(f"{side.name}: {predictions.NAME} is not the one that the run was sealed with")
        if side.record["status"] != "complete":
            told.append(f"{side.name}: the run is {side.record['status']}")
    return told


def _partial(found: Sequence[Side], common: Common) -> str:
    counts = ", ".join(f"{only} only in {side.name}" for side, only in zip(found, common.only, strict=True) if only)
    parts = [f"NOT THE SAME SAMPLES: only the {len(common.ids)} that all have are compared"]
    parts += [counts] if counts else []
    parts += [f"{common.changed} have other references or images"] if common.changed else []
    parts += [] if common.same_snapshot else ["the snapshots differ"]
    return "; ".join(parts)


def common_part(found: Sequence[Side]) -> Common:
    """Return the samples that all sides have. Raises InputError when there are none."""
    shared = set.intersection(*(set(side.rows) for side in found))
    same = {key for key in shared if len({_asked(side.rows[key]) for side in found}) == 1}
    if not same:
        names = ", ".join(side.name for side in found)
        raise InputError.one(f"{names} have no sample in common: score them on the same snapshot to compare them")
    snapshots = {tuple(sorted(side.about()["snapshots"].values())) for side in found}
    only = [len(side.rows) - len(shared) for side in found]
    return Common(sorted(same), only, len(shared) - len(same), len(snapshots) == 1)


def _asked(row: Row) -> tuple[Any, ...]:
    return tuple(row["references"]), tuple(row["images"]), row["prompt"]


def chosen_metrics(found: Sequence[Side], asked: Sequence[str]) -> list[str]:
    """Return the metrics to compare: those asked for, or the ones that all runs were scored by."""
    if asked:
        return list(dict.fromkeys(asked))
    scored = [side.record["metrics"].get(side.model) or {} for side in found]
    shared = [name for name in scored[0] if all(name in each for each in scored)]
    if not (chosen := shared or list(scored[0])):
        name = found[0].name
        raise InputError.one("has no metrics in its record: say by which to compare, as --metrics cer", key=name)
    return chosen


def scored(side: Side, common: Common, metrics: Sequence[str]) -> tuple[dict[str, Any], dict[str, list[Score]]]:
    """Return the summary of each metric on the common samples, and each sample's score.

    Always computed from the stored predictions, so both sides are measured by one definition. Raises InputError for
    metrics that are not known or mean nothing here.
    """
    return score([answer(side.rows[key]) for key in common.ids], metrics)


def lower_is_better(metric: str) -> bool:
    """Tell whether less of a metric is better."""
    return resolve(metric).better == "lower"
