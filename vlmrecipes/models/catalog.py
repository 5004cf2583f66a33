"""Model names become folders: the built-in model, a local folder, or a hub repository. No network is used here."""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from vlmrecipes.errors import InputError, Problem
from vlmrecipes.fingerprint import file_sha256

BUILTIN = "builtin:"
BUILTINS = {"reader": Path(__file__).parent / "reader"}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
WEIGHTS = ".safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
READ_BY_LOADERS = (".json", ".jinja", ".txt", ".model", ".py")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model that was found, and what identifies it."""

    id: str
    """The name as the recipe gives it."""
    path: str
    """Folder with the model's files; the hub id itself where they are still to be downloaded."""
    revision: str
    """Commit of the hub repository; empty for a folder, and for a hub id without one that is not downloaded."""
    files: dict[str, str]
    """SHA-256 of every file of a folder by name (weights only where they are used); empty for a hub id."""


def resolve(id: str, revision: str = "", *, file: str = "", key: str = "model.id", weights: bool = True) -> ModelRef:  # noqa: A002
    """Return where the model `id` is, and check that its files are there: with `weights` false, all but the weights.

    A hub id that is not in the local cache is given back as it is, to be downloaded by the loader, unless
    HF_HUB_OFFLINE is set. Raises InputError at `key` of `file` with everything that is wrong.
    """
    ref, problems = _find(id, revision, weights=weights)
    if ref is None or problems:
        raise InputError([Problem(file, key, problem) for problem in problems])
    return ref


def _find(name: str, revision: str, *, weights: bool) -> tuple[ModelRef | None, list[str]]:
    """Return the model and what is wrong with it; it is None only if something is."""
    if name.startswith(BUILTIN):
        return _builtin(name, revision, weights=weights)
    if (folder := _path(name)).is_dir() and name:
        return _folder(name, folder, revision, weights=weights)
    if HUB_ID.fullmatch(name) and not folder.exists():
        return _hub(name, revision, weights=weights)
    return None, [_unknown(name, folder)]


def _path(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # ~somebody who has no home here
        return Path(name)


def _unknown(name: str, folder: Path) -> str:
    if folder.is_file():
        return f"{name!r} is a file; name the folder that holds the model"
    forms = "a folder, a hub id such as `Qwen/Qwen2.5-VL-3B-Instruct`, or `builtin:reader`"
    near = difflib.get_close_matches(name, [*BUILTINS, *(BUILTIN + known for known in BUILTINS)], n=1)
    hint = f"; did you mean `{BUILTIN}{near[0].removeprefix(BUILTIN)}`?" if near else ""
    return f"found no model {name!r}: give {forms}{hint}"


def _builtin(name: str, revision: str, *, weights: bool) -> tuple[ModelRef | None, list[str]]:
    short = name.removeprefix(BUILTIN)
    if (folder := BUILTINS.get(short)) is not None:
        return _folder(name, folder, revision, weights=weights)
    near = difflib.get_close_matches(short, BUILTINS, n=1)
    hint = f"did you mean `{BUILTIN}{near[0]}`? " if near else ""
    return None, [f"no built-in model {short!r}: {hint}There is {', '.join(BUILTIN + known for known in BUILTINS)}"]


def _folder(name: str, folder: Path, revision: str, *, weights: bool) -> tuple[ModelRef | None, list[str]]:
    problems = [f"{name} is a folder and has no revision; leave `revision` out"] if revision else []
    problems += [f"{name}: {problem}" for problem in _missing(folder, weights=weights)]
    if problems:
        return None, problems
    suffixes = (*READ_BY_LOADERS, WEIGHTS) if weights else READ_BY_LOADERS
    files = sorted(file for file in folder.iterdir() if file.suffix in suffixes and file.is_file())
    return ModelRef(name, str(folder.resolve()), "", {file.name: file_sha256(file) for file in files}), []


def _missing(folder: Path, *, weights: bool) -> list[str]:
    """Return what a model folder lacks."""
    problems = []
    if not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        problems.append("no config.json" + ("; it is an adapter, name its base model" if adapter else ""))
    return problems + (_missing_weights(folder) if weights else [])


def _missing_weights(folder: Path) -> list[str]:
    """Return why the weights of `folder` cannot be loaded; pickled ones run code when read, so they do not count."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        absent = [shard for shard in shards if not (folder / shard).is_file()]
        return [f"weights {', '.join(absent)} are missing"] if absent else []
    if any(file.suffix == WEIGHTS for file in folder.iterdir()):
        return []
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        return [f"{', '.join(pickles)} is pickled and not loaded; convert it to safetensors"]
    return ['no weights (*.safetensors); `init = "config"` starts without any']


def _hub(name: str, revision: str, *, weights: bool) -> tuple[ModelRef | None, list[str]]:
    snapshot = _cached(name, revision)
    missing = _missing(snapshot, weights=weights) if snapshot else []
    if snapshot and not missing:
        return ModelRef(name, str(snapshot), snapshot.name, {}), []
    if not _offline():
        return ModelRef(name, name, snapshot.name if snapshot else revision, {}), []
    state = f"is incomplete in the local cache ({'; '.join(missing)})" if snapshot else "is not in the local cache"
    pinned = f" --revision {revision}" if revision else ""
    download = f"run `hf download {name}{pinned}` where there is a network"
    return None, [f"{name} {state} and HF_HUB_OFFLINE is set: unset it, or {download}, or use `builtin:reader`"]


def _cached(name: str, revision: str) -> Path | None:
    """Return the snapshot folder in the Hugging Face cache, named for its commit."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json", revision=revision or None)
    return Path(found).parent if isinstance(found, str) else None


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
