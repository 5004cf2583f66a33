"""Every family under the TRL backend on a CPU; `benchmarks/families.py` does the same for both backends on a GPU."""

from __future__ import annotations

import pytest
from conformance import CHECKS, Case
from families import FAMILIES


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, "trl", tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.filterwarnings("ignore:.hidden_state. is deprecated:FutureWarning")  # transformers' own Llama 3.2 Vision
def test_family(case: Case, check: str) -> None:
    getattr(case, check)()
