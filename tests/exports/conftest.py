from __future__ import annotations

import pytest
from trained import Trained, made


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return a store that tests only add exports to."""
    return made(tmp_path_factory.mktemp("exports") / "project")
