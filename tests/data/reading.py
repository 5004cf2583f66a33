"""Declarations written, opened and read, for tests of sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmrecipes.data.declaration import Declaration, read_declaration
from vlmrecipes.data.sample import Drop
from vlmrecipes.data.sources import open_sources
from vlmrecipes.data.sources.candidate import Candidate, read_row
from vlmrecipes.errors import InputError


def declared(folder: Path, *sources: str) -> tuple[Declaration, Path]:
    file = folder / "set.toml"
    file.write_text('name = "set"\n' + "".join(f"[[source]]\n{source}\n" for source in sources), "utf-8")
    return read_declaration(file), file


def rows(folder: Path, *sources: str) -> list[Candidate | Drop]:
    declaration, file = declared(folder, *sources)
    return [read_row(opened, row) for opened in open_sources(declaration, file) for row in opened.rows()]


def good(folder: Path, *sources: str) -> list[Candidate]:
    found = rows(folder, *sources)
    assert not [row for row in found if isinstance(row, Drop)]
    return [row for row in found if isinstance(row, Candidate)]


def problems(folder: Path, *sources: str) -> dict[str, str]:
    declaration, file = declared(folder, *sources)
    with pytest.raises(InputError) as caught:
        open_sources(declaration, file)
    assert {problem.file for problem in caught.value.problems} == {str(file)}
    return {problem.key: problem.problem for problem in caught.value.problems}
