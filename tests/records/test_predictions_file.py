from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from vlmrecipes.errors import StoreError
from vlmrecipes.records import predictions


def test_predictions_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / predictions.NAME
    row = {"model": "tuned", "id": "a", "prediction": None, "references": ["x"], "cer/ws@1.numerator": 2}
    predictions.write(path, [row], ["cer/ws@1"])
    table = predictions.read(path)
    assert table.schema.equals(predictions.schema(["cer/ws@1"]))
    assert table.to_pylist()[0] | row == table.to_pylist()[0]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / predictions.NAME
    predictions.write(path, [], [])
    with pytest.raises(pa.ArrowException):
        predictions.write(path, [{"model": "tuned", "id": 3}], [])
    assert predictions.read(path).num_rows == 0
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(b"PAR1")
    for name in ("p.parquet", "none.parquet"):
        with pytest.raises(StoreError, match=name):
            predictions.read(tmp_path / name)
