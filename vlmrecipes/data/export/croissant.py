"""A Croissant file: JSON-LD that says what the Parquet shards hold (MLCommons Croissant format 1.0)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.data.export.parquet import SPLITS, Shard
from vlmrecipes.data.snapshot import Snapshot
from vlmrecipes.fingerprint import fingerprint

NAME = "croissant.json"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataBiases": "cr:dataBiases",
    "dataCollection": "cr:dataCollection",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "personalSensitiveInformation": "cr:personalSensitiveInformation",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the specification prescribes."""
_FIELDS = {
    "id": "Made from the content of the sample.",
    "answer": "The answer to learn: the commonest reference.",
    "group": "Samples of one group are on one side.",
    "source": "Source of the declaration.",
    "metadata": "Columns kept with the sample, as JSON.",
}


def write(snapshot: Snapshot, folder: Path, shards: Sequence[Shard]) -> None:
    """Write `croissant.json` beside the shards it describes."""
    text = json.dumps(describe(snapshot, shards), ensure_ascii=False, indent=2)
    (folder / NAME).write_text(text + "\n", "utf-8")


def describe(snapshot: Snapshot, shards: Sequence[Shard]) -> dict[str, Any]:
    """Return the JSON-LD: a FileObject a shard, with its SHA-256, and a RecordSet a split."""
    manifest = snapshot.manifest
    declaration = manifest["declaration"]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": manifest["name"],
        "description": declaration.get("description") or f"Image-text samples, frozen as {snapshot.name}.",
        "license": manifest["license"] or "unknown",
        "version": f"{manifest['number']}.0.0",
        "datePublished": manifest["created"][:10],
        "identifier": snapshot.fingerprint,
        **_provenance(snapshot),
        "citeAs": f"{snapshot.name}, {snapshot.fingerprint}, made with {manifest['tool']}",
        "distribution": [*map(_file, shards), *(_files(split) for split in SPLITS if _of(shards, split))],
        "recordSet": [_records(split) for split in SPLITS if _of(shards, split)],
    }


def _provenance(snapshot: Snapshot) -> dict[str, Any]:
    """Return where the snapshot came from, in PROV-O's terms, as Croissant 1.1 recommends: sources, parent, tool, declaration.

    A source is named by the set and commit on the hub, or by the fingerprint of its files, or of its settings.
    """
    manifest = snapshot.manifest
    made = {
        "@type": "prov:Activity",
        "prov:endedAtTime": {"@type": "http://www.w3.org/2001/XMLSchema#dateTime", "@value": manifest["created"]},
        "prov:wasAssociatedWith": {"@type": "prov:SoftwareAgent", "name": manifest["tool"]},
        "prov:used": {"@type": "prov:Plan", "@id": _urn(fingerprint(manifest["declaration"])), "name": "declaration"},
    }
    parent = {"prov:wasRevisionOf": {"@type": "prov:Entity", "name": manifest["parent"]}} if manifest["parent"] else {}
    sources = [_source(source) for source in manifest.get("sources", [])]
    return {"prov:wasGeneratedBy": made, "prov:wasDerivedFrom": sources, **parent}


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    named = _urn(source["files"]["fingerprint"] if source["files"]["count"] else fingerprint(source))
    if source.get("repo"):
        named = f"https://huggingface.co/datasets/{source['repo']}/tree/{source.get('revision', 'main')}"
    return {"@type": "prov:Entity", "@id": named, "name": source["source"], "description": source["type"]}


def _urn(digest: str) -> str:
    return f"urn:{digest}"


def _of(shards: Sequence[Shard], split: str) -> list[Shard]:
    return [shard for shard in shards if shard.split == split]


def _file(shard: Shard) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": shard.path,
        "name": Path(shard.path).name,
        "contentUrl": shard.path,
        "contentSize": f"{shard.bytes} B",
        "encodingFormat": "application/x-parquet",
        "sha256": shard.sha256,
    }


def _files(split: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"files-{split}",
        "name": f"files-{split}",
        "encodingFormat": "application/x-parquet",
        "includes": f"data/{split}-*.parquet",
    }


def _records(split: str) -> dict[str, Any]:
    fields = [_field(split, name, text) for name, text in _FIELDS.items()]
    several = [
        _field(split, "references", "Accepted answers.") | {"repeated": True},
        _field(split, "images", "The pictures, in the order of the chat.", "sc:ImageObject", "[*].bytes")
        | {"repeated": True},
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": split,
        "name": split,
        "description": f"The {split} side, one record a sample.",
        "key": {"@id": f"{split}/id"},
        "field": [*fields, *several],
    }


def _field(split: str, name: str, text: str, kind: str = "sc:Text", path: str = "") -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": f"files-{split}"}, "extract": {"column": name}}
    if path:
        source["transform"] = {"jsonPath": path}
    field = {"@type": "cr:Field", "@id": f"{split}/{name}", "name": name, "description": text}
    return field | {"dataType": kind, "source": source}
