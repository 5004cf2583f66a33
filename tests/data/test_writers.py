"""Several writers of one table: what Lance gives up is done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from lancedb.merge import LanceMergeInsertBuilder

from vlmrecipes.data import store as stores
from vlmrecipes.data.sample import origin_schema
from vlmrecipes.data.store import Store, columns

TOLD = "lance error: Too many concurrent writers. Attempted 2 times, but failed on retry_timeout of 30.000 seconds."


def origins(*names: str) -> pa.Table:
    return pa.Table.from_pylist([{"origin": name, "key": "k"} for name in names], schema=origin_schema())


@pytest.mark.parametrize("told", [TOLD, "Retryable commit conflict for version 7"])
def test_a_change_that_others_were_faster_than_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    store = Store(str(tmp_path))
    store.add_origins(origins("a"))
    left = [RuntimeError(told)] * 2
    execute = LanceMergeInsertBuilder.execute

    def crowded(self: Any, rows: pa.Table) -> Any:
        if left:
            raise left.pop()
        return execute(self, rows)

    monkeypatch.setattr(LanceMergeInsertBuilder, "execute", crowded)
    monkeypatch.setattr(stores.random, "uniform", lambda *_: 0)
    store.add_origins(origins("a", "b"))
    assert not left
    assert sorted(columns(store.origins(), ("origin",))["origin"].to_pylist()) == ["a", "b"]


def test_other_errors_are_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))

    def broken(*_: Any) -> Any:
        raise RuntimeError("lance error: encountered corrupt file")

    monkeypatch.setattr(LanceMergeInsertBuilder, "execute", broken)
    with pytest.raises(RuntimeError, match="corrupt"):
        store.add_origins(origins("a"))
