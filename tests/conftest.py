from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from scored import Scored, made


@pytest.fixture(scope="session")
def scored_store(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """Return a store that tests only read."""
    return made(tmp_path_factory.mktemp("scored") / "project")


@pytest.fixture
def scored(scored_store: Scored, tmp_path: Path) -> Scored:
    """Return a copy of the store with its runs, to be tampered with."""
    shutil.copytree(scored_store.store, tmp_path / "store")
    return Scored(str(tmp_path / "store"), scored_store.whole, scored_store.cut)
