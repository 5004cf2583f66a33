"""Whether a run still is what its record says: its seal, its inputs, its environment, its scores."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vlmrecipes.data.snapshot import Snapshot, open_snapshot, samples_fingerprint
from vlmrecipes.errors import StoreError, VlmRecipesError
from vlmrecipes.evaluate.engines.external import model_of
from vlmrecipes.fingerprint import file_sha256, fingerprint, sha256
from vlmrecipes.models.catalog import ModelRef, resolve
from vlmrecipes.plan.checks import EXTERNAL
from vlmrecipes.recipe import Eval
from vlmrecipes.records import predictions, record
from vlmrecipes.records.environment import environment
from vlmrecipes.records.rescore import rescored

READ = 256
"""Images read at once."""
Problems = Iterator[str]


def levels(folder: Path, *, store: str, strict: bool = False) -> dict[str, dict[str, Any]]:
    """Return `{seal, inputs, environment, rescore}` of the run in `folder`, each `{ok, problems}`.

    - `seal`: the record and the files it lists have the hashes that they were sealed with.
    - `inputs`: recipe, plan, model files, snapshots, scored samples and their images are there, with the recorded hashes.
    - `environment`: this machine and its packages against the recorded ones; differences are told, and only `strict` makes
      them a failure.
    - `rescore`: every score computed again from the stored predictions is equal, to the last bit.
    """
    found = {
        "seal": record.check_seal(folder),
        "inputs": _told(lambda: _inputs(folder, store)),
        "environment": _told(lambda: _environment(folder)),
        "rescore": _told(lambda: _scores(folder)),
    }
    lenient = () if strict else ("environment",)
    return {level: {"ok": level in lenient or not problems, "problems": problems} for level, problems in found.items()}


def _told(check: Callable[[], Problems]) -> list[str]:
    """Return the problems that `check` yields; what keeps it from going on is one of them."""
    problems: list[str] = []
    try:
        problems.extend(check())
    except VlmRecipesError as error:
        problems.append(str(error))
    except (AttributeError, OSError, KeyError, TypeError, ValueError) as error:
        problems.append(f"damaged: {error!r}")
    return problems


def _inputs(folder: Path, store: str) -> Problems:
    found = record.read(folder)
    yield from _told(lambda: _recipe(folder, found))
    yield from _told(lambda: _model(found))
    for part in {part["snapshot"]: part for part in found["data"]}.values():
        yield from _told(lambda part=part: _snapshot(store, part))  # type: ignore[misc]
    if (folder / predictions.NAME).exists():
        yield from _told(lambda: _scored(folder, found, store))


def _recipe(folder: Path, found: Mapping[str, Any]) -> Problems:
    recipe, file = found["recipe"], folder / "recipe.toml"
    if not file.is_file():
        yield "recipe.toml: missing"
    elif file_sha256(file) != recipe["source_sha256"]:
        yield "recipe.toml: not the file that was run"
    if fingerprint(recipe["resolved"]) != recipe["fingerprint"]:
        yield "the resolved recipe in the record does not have its recorded fingerprint"
    # As it stands in the file: a later version may have settings that the plan knew nothing of.
    plan = json.loads((folder / "plan.json").read_text("utf-8"))
    if (plan["fingerprint"], plan["recipe"]) != (found["plan"]["fingerprint"], recipe["resolved"]):
        yield "plan.json: not the plan that was run"


def _model(found: Mapping[str, Any]) -> Problems:
    """Compare the model's files, which may have been replaced under the same name; of a program, its version too."""
    model = found["model"]
    there = _there(model, found["recipe"]["resolved"]["eval"])
    if model["revision"] not in ("", there.revision):
        yield f"model {model['id']}: {model['revision']} then, {there.revision or 'none'} now"
    for name, digest in model["files"].items():
        if there.files.get(name) != digest:
            yield f"model {model['id']}: {name} {'has changed' if name in there.files else 'is gone'}"


def _there(model: Mapping[str, Any], scoring: Mapping[str, Any]) -> ModelRef:
    """Return what stands under the model's name today; nobody can say that of a server's."""
    if scoring["engine"] in EXTERNAL:
        return model_of(Eval.model_validate_json(json.dumps(scoring)))
    return resolve(model["id"], model["revision"], weights=any(_is_weights(name) for name in model["files"]))


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors")


def _snapshot(store: str, part: Mapping[str, Any]) -> Problems:
    """Compute the fingerprint of a snapshot's samples again: the one of its manifest could have been written by anyone."""
    snapshot = open_snapshot(store, part["snapshot"])
    if snapshot.fingerprint != part["fingerprint"]:
        yield f"{part['snapshot']}: its manifest has another fingerprint than the record"
    elif samples_fingerprint([(sample.id, sample.digest()) for sample in snapshot.samples()]) != part["fingerprint"]:
        yield f"{part['snapshot']}: its samples do not have the recorded fingerprint"


def _scored(folder: Path, found: Mapping[str, Any], store: str) -> Problems:
    """Compare the rows of predictions.parquet with the samples of the store, and the images' bytes with their keys."""
    rows = predictions.read(folder / predictions.NAME).to_pylist()
    snapshots = [
        open_snapshot(store, name) for name in {part["snapshot"] for part in found["data"] if part["role"] == "eval"}
    ]
    samples = {sample.id: sample for snapshot in snapshots for sample in snapshot.samples("eval")}
    for row in rows:
        sample = samples.get(row["id"])
        if sample is None:
            yield f"sample {row['id']}: predicted, but on no eval side of the store"
        elif (tuple(row["references"]), tuple(row["images"])) != (sample.references, sample.images):
            yield f"sample {row['id']}: its references or images are not those of the store"
    yield from _changed_images(snapshots, {key for row in rows for key in row["images"]})


def _changed_images(snapshots: list[Snapshot], keys: set[str]) -> Problems:
    left = sorted(keys)
    for snapshot in snapshots:
        mine = set(snapshot.columns("images", ("key",))["key"].to_pylist())
        there = [key for key in left if key in mine]
        left = [key for key in left if key not in mine]
        reader = snapshot.reader()
        for start in range(0, len(there), READ):
            some = there[start : start + READ]
            try:
                yield from (
                    f"image {key}: its bytes have changed"
                    for key, data in zip(some, reader.read(some), strict=True)
                    if sha256(data) != key
                )
            except (OSError, RuntimeError, ValueError) as error:
                raise StoreError(f"images of {snapshot.name} cannot be read: {error}") from None
    yield from (f"image {key}: not in the store" for key in left)


def _environment(folder: Path) -> Problems:
    then, now = record.read(folder)["environment"], environment()
    for name in ("python", "platform", "cpu", "memory_bytes"):
        if then.get(name) != now[name]:
            yield f"{name}: {then.get(name)} then, {now[name]} now"
    machines = [Counter(str(each.get("name")) for each in side.get("accelerators") or ()) for side in (then, now)]
    if machines[0] != machines[1]:
        yield f"accelerators: {_names(machines[0])} then, {_names(machines[1])} now"
    packages = [side.get("packages") or {} for side in (then, now)]
    for name in sorted(packages[0].keys() | packages[1].keys(), key=str.lower):
        before, after = (side.get(name, "absent") for side in packages)
        if before != after:
            yield f"package {name}: {before} then, {after} now"


def _names(machines: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in machines.items()) or "none"


def _scores(folder: Path) -> Problems:
    for each in rescored(folder)["differences"]:
        where = f"{each['model']} {each['metric']} {each['key']}"
        yield f"{where}: recorded {each['recorded']}, computed again {each['found']}"
