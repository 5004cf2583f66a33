"""What a folder of images or a hub set holds: the source that reads it, and its first rows."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes import tables
from vlmrecipes.data.declaration import Declaration
from vlmrecipes.errors import InputError, Problem
from vlmrecipes.scaffolding import guess
from vlmrecipes.scaffolding.guess import Choice
from vlmrecipes.scaffolding.texts import Found

ROWS = 200
"""So many rows are looked at."""
TABLES = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet", ".tar": "webdataset"}
PAGES = ("page", "alto")
READING = ("config", "part", "pattern", "root", "level", "explode", "limit")
"""Keys that change which rows there are."""
FARTHEST = 3
"""So many `..` a path in a declaration may have; from there on it is absolute."""
SHOWN = 60

if TYPE_CHECKING:
    from vlmrecipes.data.sources import Opened

Keys = dict[str, Any]


def at_images(images: Path, folder: Path, overrides: Sequence[str]) -> Found:
    """Return what the folder (or file of rows) `images` holds, for a project in `folder`."""
    if not images.exists():
        raise InputError.one("no such file or folder", file=str(images), key="--from-images")
    return _first(_readings(images.absolute()), folder, _name(images.stem), overrides, str(images))


def at_hub(name: str, folder: Path, overrides: Sequence[str]) -> Found:
    """Return what the hub set `name` holds, `owner/name` or with `@revision`; or one in a local folder."""
    if Path(name).is_dir():
        keys: Keys = {"type": "hub", "path": Path(name).absolute()}
    else:
        repo, _, revision = name.partition("@")
        keys = {"type": "hub", "repo": repo, "revision": _commit(repo, revision)}
    return _first([keys], folder, _name(name.partition("@")[0].rpartition("/")[2]), overrides, name)


def _commit(repo: str, revision: str) -> str:
    """Return the commit that `revision` (default: the main branch) of a hub set stands for now."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        return str(HfApi().dataset_info(repo, revision=revision or None).sha)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
        told = " ".join(str(error).split())[:300]
        raise InputError.one(
            f"no folder here, and the hub does not give it: {told}", file=repo, key="--from-hub"
        ) from None


def _readings(images: Path) -> list[Keys]:
    """Return the sources that could read `images`, the likeliest first."""
    if images.is_file():
        return [{"type": TABLES.get(images.suffix.lower(), "jsonl"), "path": images}]
    tables_ = sorted(path for path in images.iterdir() if path.suffix.lower() in TABLES and path.is_file())
    own = [path for path in tables_ if not path.name.startswith("metadata.")]
    found: list[Keys] = []
    if any(images.rglob("*.xml")):
        found += [{"type": kind, "path": images / "**" / "*.xml"} for kind in PAGES]
    if len(own) == len(tables_):
        shards = len(own) > 1 and len({path.suffix for path in own}) == 1
        paths = [images / f"*{own[0].suffix}"] if shards else own
        found += [{"type": TABLES[path.suffix.lower()], "path": path} for path in paths]
    return [*found, {"type": "folder", "path": images}]


def _first(sources: Sequence[Keys], folder: Path, name: str, overrides: Sequence[str], given: str) -> Found:
    """Return what the first source says that has rows with an answer. Raises InputError with the trouble of each."""
    problems = []
    for keys in sources:
        try:
            return _found(keys, folder.absolute() / "datasets" / f"{name}.toml", name, overrides)
        except InputError as error:
            told = [f"{each.key}: {each.problem}".removeprefix(": ") for each in error.problems]
            problems.append(Problem(given, f"as {keys['type']}", "; ".join(dict.fromkeys(told))))
    raise InputError(problems)


def _found(keys: Keys, file: Path, name: str, overrides: Sequence[str]) -> Found:
    asked: Keys = {}
    tables.override(asked, overrides)
    columns = _columns(keys | {key: asked[key] for key in READING if key in asked}, file)
    given = [Choice(key, value, "") for key, value in _shown_from(file, keys).items() if key not in asked]
    given += [
        Choice(key, tuple(value) if isinstance(value, list) else value, "as given") for key, value in asked.items()
    ]
    if keys["type"] in PAGES:
        given += [Choice(key, value, "") for key, value in PAGE.items() if key not in asked]
    elif "explode" not in asked and (column := guess.exploded(columns)):
        given.append(Choice("explode", column, "one row an element"))
        columns = _columns(keys | {"explode": column}, file)
    chosen = [*given, *guess.choices(columns, {choice.key: choice.value for choice in given})]
    source = {choice.key: choice.value for choice in chosen}
    if not {"answer", "messages"} & source.keys():
        raise InputError.one(_no_answer(columns))
    _opened(source | keys, file)
    shown = {column: _example(values[0]) for column, values in columns.items() if values}
    return Found(name, tuple(chosen), guess.metrics(columns, source), shown)


def _shown_from(file: Path, keys: Keys) -> Keys:
    """Return `keys` with the path as the declaration `file` says it: relative where that is short."""
    if "path" not in keys:
        return keys
    near = os.path.relpath(keys["path"], file.parent)
    return keys | {"path": near if near.count("..") <= FARTHEST else str(keys["path"])}


PAGE = {"image": "{image}", "crop": "{polygon}", "prompt": guess.TEXT, "answer": "{text}", "group": "{page}"}


def _no_answer(columns: guess.Columns) -> str:
    names = ", ".join(columns)
    return (
        f"no column looks like the answers (there are: {names}): name it with --set 'answer={{COLUMN}}', or lay a .txt with "
        "the text beside each image, or sort the images into a folder a class"
    )


def _columns(keys: Keys, file: Path) -> dict[str, list[Any]]:
    """Return the values of each column in the first rows. Raises InputError for a source that is not there or damaged."""
    rows = list(islice(_opened(keys | {"image": "x", "prompt": "x", "answer": "x"}, file).rows(), ROWS))
    good = [row.columns for row in rows if row.columns is not None]
    if not good:
        raise InputError.one(f"no row can be read: {rows[0].problem}")
    names = dict.fromkeys(column for row in good for column in row)
    return {column: [row[column] for row in good if row.get(column) is not None] for column in names}


def _opened(source: Keys, file: Path) -> Opened:
    from vlmrecipes.data.sources import open_sources

    plain = {key: str(value) if isinstance(value, Path) else value for key, value in source.items()}
    return open_sources(tables.parse(Declaration, {"name": "x", "source": [plain]}, str(file)), file)[0]


def _example(value: Any) -> str:
    text = "(bytes)" if isinstance(value, bytes) else " ".join(str(value).split())
    text = "(image)" if isinstance(value, dict) and {"bytes", "path"} >= value.keys() else text
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _name(text: str) -> str:
    """Return `text` as a snapshot's name: lower-case letters, digits, `.`, `_`, `-`."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:64] or "images"
