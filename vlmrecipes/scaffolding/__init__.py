"""`init`: a project to start from, of drawn examples or of a user's own images, that runs as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.errors import InputError
from vlmrecipes.scaffolding import example, look, texts


def scaffold(
    folder: Path, *, from_images: Path | None = None, from_hub: str = "", overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Write a project into `folder`: of drawn lines, or of the images in `from_images`, or of the hub set `from_hub`.

    `from_hub` is `owner/name` or `owner/name@revision`, or a local folder in the hub's format. `overrides` set keys of the
    `[[source]]` that would be guessed (`answer={text}`). Returns the files, what was guessed and why, and the columns.
    Raises InputError when a file is there already, the images hold nothing to learn, or both sources are given.
    """
    if from_images and from_hub:
        raise InputError.one("give either --from-images or --from-hub")
    if not (from_images or from_hub):
        if overrides:
            raise InputError.one("--set needs --from-images or --from-hub")
        return {"files": _written(folder, example.project()), "guessed": [], "columns": {}}
    found = look.at_images(from_images, folder, overrides) if from_images else look.at_hub(from_hub, folder, overrides)
    project = {name: text.encode() for name, text in texts.project(found).items()}
    guessed = [{"key": one.key, "value": one.value, "why": one.why} for one in found.choices]
    return {"files": _written(folder, project), "guessed": guessed, "columns": found.columns}


def _written(folder: Path, project: Mapping[str, bytes]) -> list[str]:
    """Write all files of a project, or none when one of them is there already."""
    there = [name for name in project if (folder / name).exists()]
    if there:
        raise InputError.one(f"{there[0]} is there already; nothing was written", file=str(folder))
    try:
        for name, data in project.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    except OSError as error:
        raise InputError.one(f"cannot be written: {error.strerror}", file=str(folder)) from None
    return [str(folder / name) for name in project]
