"""Where the rows of a snapshot came from: each source, and the files it was read from with their hashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlmrecipes.data.sources import Opened
from vlmrecipes.data.sources.row import escaped
from vlmrecipes.fingerprint import file_sha256, fingerprint

IDENTITY = ("repo", "revision", "config", "part", "generator", "seed", "count")
"""Settings that say what a source without files was."""


def read_files(sources: Sequence[Opened]) -> list[dict[str, Any]]:
    """Return `source, path, sha256, bytes` of every file that holds rows; paths are as row keys begin."""
    return [
        {"source": opened.name, "path": escaped(name), "sha256": file_sha256(path), "bytes": path.stat().st_size}
        for opened in sources
        for name, path in opened.files()
    ]


def told_sources(sources: Sequence[Opened], files: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for every source its name, type, what it was, and its files: `count, bytes, fingerprint` over their hashes."""
    return [_told(opened.name, opened.spec, files) for opened in sources]


def _told(name: str, spec: Any, files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    own = [file for file in files if file["source"] == name]
    dump = spec.model_dump(mode="json")
    found = {"count": len(own), "bytes": sum(file["bytes"] for file in own)}
    hashes = sorted((file["path"], file["sha256"]) for file in own)
    about = {key: dump[key] for key in IDENTITY if dump.get(key) not in (None, "")}
    return {"source": name, "type": spec.type, **about, "files": found | {"fingerprint": fingerprint(hashes)}}
