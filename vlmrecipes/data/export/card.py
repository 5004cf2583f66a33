"""The dataset card: `README.md` with the front matter that the Hugging Face hub reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.data.export.parquet import SPLITS, Shard
from vlmrecipes.data.hub_rows import features
from vlmrecipes.data.snapshot import Snapshot
from vlmrecipes.data.statistics import statistics
from vlmrecipes.extras import need

NAME = "README.md"
SHOWN = 5
_SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_HUB_LICENSES = """
    apache-2.0 mit bsd bsd-2-clause bsd-3-clause cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0
    cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
    cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 ecl-2.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
    agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl-2.1 lgpl-3.0 isc mpl-2.0 odbl odc-by pddl unlicense wtfpl zlib
"""
"""Identifiers that the hub knows (huggingface.co/docs/hub/repositories-licenses)."""


def write(snapshot: Snapshot, folder: Path, shards: Sequence[Shard], formats: Sequence[str]) -> None:
    """Write the card."""
    hub = need("huggingface_hub", "write a dataset card")
    front = hub.DatasetCardData(**_front(snapshot, shards, formats)).to_yaml()
    text = f"---\n{front}\n---\n\n" + "\n".join(_body(snapshot, formats)) + "\n"
    (folder / NAME).write_text(text, "utf-8")


def _front(snapshot: Snapshot, shards: Sequence[Shard], formats: Sequence[str]) -> dict[str, Any]:
    total = snapshot.manifest["samples"]
    front: dict[str, Any] = {
        "pretty_name": snapshot.name,
        **hub_license(snapshot.manifest["license"]),
        "tags": ["image-text", "vlmrecipes"],
        "size_categories": [next((name for most, name in _SIZES if total < most), "1M<n<10M")],
    }
    if shards:
        front |= {"configs": [_config("data/{}-*.parquet", snapshot)], "dataset_info": _info(shards)}
    elif "imagefolder" in formats:
        front["configs"] = [_config("imagefolder/{}/**", snapshot)]
    return front


def hub_license(given: str) -> dict[str, str]:
    """Return the front matter that names the licence: an identifier of the hub, or `other` with its name."""
    known = given.lower()
    if not given or known in _HUB_LICENSES.split():
        return {"license": known or "unknown"}
    return {"license": "other", "license_name": known.replace(" ", "-")}


def _config(pattern: str, snapshot: Snapshot) -> dict[str, Any]:
    there = [split for split in SPLITS if snapshot.manifest["splits"][split]]
    return {
        "config_name": "default",
        "data_files": [{"split": split, "path": pattern.format(split)} for split in there],
    }


def _info(shards: Sequence[Shard]) -> dict[str, Any]:
    sizes = {split: [shard for shard in shards if shard.split == split] for split in SPLITS}
    splits = [
        {"name": split, "num_bytes": sum(s.bytes for s in some), "num_examples": sum(s.rows for s in some)}
        for split, some in sizes.items()
        if some
    ]
    total = sum(shard.bytes for shard in shards)
    datasets = need("datasets", "write a dataset card")
    described = datasets.DatasetInfo(features=features())._to_yaml_dict()["features"]  # noqa: SLF001 - as its own cards
    return {"features": described, "splits": splits, "download_size": total, "dataset_size": total}


def _body(snapshot: Snapshot, formats: Sequence[str]) -> Iterator[str]:
    manifest, found = snapshot.manifest, statistics(snapshot)
    rows = manifest["rows"]
    yield f"# {manifest['name']}"
    yield ""
    yield manifest["declaration"].get("description") or f"Image-text samples of the dataset `{manifest['name']}`."
    yield ""
    yield f"Licence: {manifest['license'] or 'not given'}. Formats here: {', '.join(formats)}."
    yield from _table("Splits", ("split", "samples", "groups", "images"), found["splits"])
    yield from _table("Sources", ("source", "train", "eval"), found["sources"])
    yield from ("", "## Where it comes from", "")
    yield f"- Snapshot: `{snapshot.name}`, frozen {manifest['created']} by {manifest['tool']}"
    yield f"- Fingerprint: `{snapshot.fingerprint}`"
    yield f"- Parent: `{manifest['parent']}`" if manifest["parent"] else "- Parent: none"
    yield f"- Rows read {rows['read']} = samples {rows['samples']} + dropped {rows['dropped']}"
    yield from (f"- Dropped as `{reason}`: {count}" for reason, count in manifest["drops"].items())
    yield from ("", "## What is in it", "")
    yield f"- Images: {found['images']['count']} ({_shares(found['images']['formats'])})"
    yield f"- Scripts of the references, characters: {_shares(_characters(found['references']['scripts']))}"
    answers = found["answers"]
    yield f"- Distinct answers: {answers['distinct']}; the commonest is {answers['majority']:.1%} of samples"
    yield from ("", "## Columns", "")
    yield "`id`, `images`, `messages` (the chat up to the answer), `answer` (the commonest reference), `references` (all"
    yield "accepted answers), `group` (never on both sides), `source`, `metadata` (JSON)."


def _table(title: str, head: Sequence[str], rows: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    yield from ("", f"## {title}", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}")
    for name, values in rows.items():
        yield f"| {' | '.join([_cell(name), *(str(values[key]) for key in head[1:])])} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _characters(scripts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return {name: counts["characters"] for name, counts in scripts.items()}


def _shares(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
