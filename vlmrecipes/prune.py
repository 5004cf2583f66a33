"""`snapshots prune`: which snapshots may go, and their removal."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from vlmrecipes.data.labels import labels
from vlmrecipes.data.manifests import all_manifests
from vlmrecipes.data.place import WRITERS, held
from vlmrecipes.data.removal import remove, unreferenced
from vlmrecipes.errors import InputError, Problem
from vlmrecipes.records import ledger, record

GOING = "running"


def prune_snapshots(store: str, *, keep: int = 1, yes: bool = False) -> dict[str, Any]:
    """Remove all snapshots but the newest `keep` of each dataset, those with a label, and those that a run names.

    Without `yes` nothing is removed, only told. Returns `{"removed", "snapshots", "kept": [{snapshot, why}], "images",
    "bytes_freed"}`; `images` counts those that no kept snapshot names. Raises InputError while a run is going on or a
    record cannot be read: what it names would not be known.
    """
    if keep < 1:
        raise InputError.one("keep at least the newest snapshot of each dataset", key="--keep")
    used = _used(store)
    with held(store, WRITERS):
        manifests = all_manifests(store)
        why = _reasons(manifests, keep, labels(store) if manifests else {}, used)
        doomed = [manifest for manifest in manifests if manifest["snapshot"] not in why]
        stay = [manifest for manifest in manifests if manifest["snapshot"] in why]
        images = len(unreferenced(store, stay))
        freed = remove(store, doomed) if yes else 0
    return {
        "removed": yes,
        "snapshots": [manifest["snapshot"] for manifest in doomed],
        "kept": [{"snapshot": name, "why": ", ".join(reasons)} for name, reasons in why.items()],
        "images": images,
        "bytes_freed": freed,
    }


def _used(store: str) -> dict[str, list[str]]:
    """Return the runs that name each snapshot."""
    home, found = ledger.home(store), defaultdict(list)
    lines = ledger.runs(home)
    ways_out = {
        GOING: "still going on; wait for it, or stop it",
        "unreadable": "its record cannot be read; mend or remove it",
    }
    if problems := [Problem("", line["run"], ways_out[line["status"]]) for line in lines if line["status"] in ways_out]:
        raise InputError(problems)
    for line in lines:
        for part in record.read(home / line["run"])["data"]:
            found[part["snapshot"]].append(line["run"])
    return found


def _reasons(
    manifests: list[dict[str, Any]], keep: int, named: dict[str, list[str]], used: dict[str, list[str]]
) -> dict[str, list[str]]:
    """Return why each snapshot that stays does so."""
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for manifest in manifests:
        numbers[manifest["name"]].append(manifest["number"])
    why: dict[str, list[str]] = {}
    for manifest in manifests:
        name = manifest["snapshot"]
        newest = ["newest"] if manifest["number"] in sorted(numbers[manifest["name"]])[-keep:] else []
        reasons = [
            *newest,
            *(f"label {label}" for label in named.get(name, ())),
            *(f"run {run}" for run in used.get(name, ())),
        ]
        if reasons:
            why[name] = reasons
    return why
