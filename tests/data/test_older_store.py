"""A store whose tables were made before some columns were known."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from curated import declared, ingested, project

from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.data.store import ORIGINS, Store
from vlmrecipes.errors import StoreError
from vlmrecipes.lineage.trace import lineage_of

LACKING = {"samples-pages": "key", "images": "phash256", "drops-pages": "images", "files-pages": "bytes"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("older")
    rows = [*project(folder, 3), {"image": "gone.png", "q": "?", "text": "x"}]
    ingested(declared(folder, rows, "max_dropped = 0.5"), folder / "store")
    return folder


@pytest.mark.parametrize("table", LACKING)
def test_ingest_into_it_is_refused_before_any_work(made: Path, tmp_path: Path, table: str) -> None:
    store = shutil.copytree(made / "store", tmp_path / "store")
    Store(str(store)).table(table).drop_columns([LACKING[table]])
    with pytest.raises(StoreError) as error:
        ingested(made / "set.toml", store)
    assert str(error.value).startswith(
        f"the table '{table}' has no {LACKING[table]}: an older version of vlmrecipes made this store; "
    )
    assert str(error.value).endswith("ingest and run in a fresh one (--store DIR)")


def test_origins_that_name_no_file_are_brought_up_to_date(made: Path, tmp_path: Path) -> None:
    store = str(shutil.copytree(made / "store", tmp_path / "store"))
    Store(store).table(ORIGINS).drop_columns(["source_sha256"])
    digest = open_snapshot(store, "pages").columns("images", ("source_sha256",))["source_sha256"][0].as_py()
    assert lineage_of(digest, store=store)["of"]
    assert ingested(made / "set.toml", Path(store))["unchanged"]
    assert "source_sha256" in Store(store).table(ORIGINS).schema.names


def test_a_column_that_a_snapshot_has_not_is_told(made: Path) -> None:
    with pytest.raises(StoreError, match="the table 'drops-pages' has no colour: an older version"):
        open_snapshot(str(made / "store"), "pages").columns("drops", ("source", "colour"))


def test_a_run_is_refused_before_any_work(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = open_snapshot(str(made / "store"), "pages")
    found.need_today()
    monkeypatch.setattr(
        "vlmrecipes.data.snapshot.image_schema", lambda: pa.schema({"key": pa.string(), "new": pa.int8()})
    )
    with pytest.raises(StoreError, match="the table 'images' has no new: an older version"):
        found.need_today()
