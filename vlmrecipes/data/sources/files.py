"""What a declared path leads to: one file or folder, or several by wildcards and braces."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

from vlmrecipes.errors import InputError

VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
BRACES = re.compile(r"\{([^{}]*(?:,|\.\.)[^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
WILD = re.compile(r"[*?\[]")
MOST = 100_000
"""So many files one path may name."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a source, in the order of their paths."""

    base: Path
    """The folder that all lie in: the path up to the first wildcard."""
    paths: tuple[Path, ...]

    def named(self) -> list[tuple[str, Path]]:
        """Return (name relative to `base`, path) of each: the same names wherever the data lies."""
        return [(path.relative_to(self.base).as_posix(), path) for path in self.paths]


def declared_path(text: str, file: Path, key: str) -> Path:
    """Return the file or folder that `text` names, relative to the declaration. Raises InputError when it is not there."""
    filled = _filled(text, file, key)
    path = file.parent / filled
    if not path.exists():
        raise InputError.one(f"no such file or folder: {filled!r} (looked in {file.parent})", file=str(file), key=key)
    return path


def declared_folder(text: str, file: Path, key: str) -> Path:
    """Return the folder that `text` names. Raises InputError when it is none."""
    path = declared_path(text, file, key)
    if not path.is_dir():
        raise InputError.one(f"{text!r} is not a folder", file=str(file), key=key)
    return path


def declared_files(text: str, file: Path, key: str) -> Files:
    """Return the files that `text` names: one, or by `*`, `?`, `[…]`, `**`, `{a,b}` and `{000..012}` several.

    Raises InputError when one that is named outright is not there, or a wildcard finds none.
    """
    filled = _filled(text, file, key)
    if (file.parent / filled).is_dir():
        problem = f"{text!r} is a folder; give a file or a glob such as '{text.rstrip('/')}/*', or type = 'folder'"
        raise InputError.one(problem, file=str(file), key=key)
    if (file.parent / filled).exists() or not (WILD.search(filled) or BRACES.search(filled)):
        path = declared_path(text, file, key)
        return Files(path.parent, (path,))
    try:
        found = [path for name in _expanded(filled) for path in _globbed(file.parent / name)]
    except (OSError, ValueError) as error:
        raise InputError.one(str(error), file=str(file), key=key) from None
    paths = sorted(set(found))
    return Files(Path(os.path.commonpath([_fixed(file.parent / name) for name in _expanded(filled)])), tuple(paths))


def _filled(text: str, file: Path, key: str) -> str:
    missing = [name for name in VARIABLE.findall(text) if name not in os.environ]
    if missing:
        ways = "; set it, or give --root DIR" if missing == ["VLMRECIPES_DATA"] else "; set it"
        raise InputError.one(f"the environment variable {missing[0]} is not set{ways}", file=str(file), key=key)
    return VARIABLE.sub(lambda match: os.environ[match.group(1)], text)


def _expanded(text: str) -> list[str]:
    """Return `text` with each brace spelled out, as a shell does. Raises ValueError for more than MOST names."""
    names = [text]
    while any(BRACES.search(name) for name in names):
        names = [longer for name in names for longer in _one_brace(name)]
        if len(names) > MOST:
            raise ValueError(f"{text!r} names more than {MOST} files")
    return names


def _one_brace(text: str) -> list[str]:
    match = BRACES.search(text)
    if match is None:
        return [text]
    if bounds := RANGE.fullmatch(match.group(1)):
        first, last = (int(bound) for bound in bounds.groups())
        numbers = range(first, last + 1) if first <= last else range(first, last - 1, -1)
        if len(numbers) > MOST:
            raise ValueError(f"{match.group()!r} names more than {MOST} files")
        choices = [str(number).zfill(len(bounds.group(1))) for number in numbers]
    else:
        choices = match.group(1).split(",")
    return [text[: match.start()] + choice + text[match.end() :] for choice in choices]


def _globbed(path: Path) -> list[Path]:
    base = _fixed(path)
    pattern = path.relative_to(base).as_posix()
    if not WILD.search(pattern):
        if not path.is_file():
            raise ValueError(f"no such file: {path.name!r} (looked in {path.parent})")
        return [path]
    if ".." in pattern.split("/"):
        raise ValueError("'..' may not follow a wildcard")
    found = fitting(base, pattern)
    if not found:
        raise ValueError(f"no file fits {pattern!r} (looked in {base})")
    return found


def fitting(base: Path, pattern: str) -> list[Path]:
    """Return the files below `base` that fit a glob, and links that lead to none, in the order of their paths.

    As `Path.glob`, but `**` enters linked folders too. Raises OSError for a folder that cannot be read, and ValueError.
    """
    *steps, last = PurePosixPath(pattern).parts
    if last == "**":
        steps, last = [*steps, last], "*"
    folders = [base]
    for step in steps:
        inner = [_folders_in(folder) if step == "**" else folder.glob(step) for folder in folders]
        folders = list(dict.fromkeys(path for paths in inner for path in paths if path.is_dir()))
    found = {path for folder in folders for path in folder.glob(last)}
    return sorted(path for path in found if path.is_file() or not path.exists())


def _folders_in(base: Path) -> Iterator[Path]:
    """Yield `base` and every folder below it, linked ones too, but none inside itself."""
    waiting: list[tuple[Path, frozenset[tuple[int, int]], bool]] = [(base, frozenset(), False)]
    links = 0
    while waiting:
        folder, above, linked = waiting.pop()
        about = folder.stat()
        if (about.st_dev, about.st_ino) in above:
            continue
        yield folder
        links += linked
        if links > MOST:
            raise ValueError(f"links below {base} lead to more than {MOST} folders")
        around = above | {(about.st_dev, about.st_ino)}
        with os.scandir(folder) as entries:
            waiting += [
                (folder / entry.name, around, linked or entry.is_symlink()) for entry in entries if _is_folder(entry)
            ]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and Path(entry.path).is_dir())


def _fixed(path: Path) -> Path:
    """Return the folder of `path` before its first wildcard."""
    return Path(*takewhile(lambda part: not WILD.search(part), path.parent.parts))
