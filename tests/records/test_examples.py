from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vlmrecipes.evaluate.metrics import best
from vlmrecipes.records import examples, predictions

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa


@pytest.mark.parametrize(
    ("spec", "better", "most"),
    [("chrf/sacrebleu@1", "higher", 100.0), ("cider/words@1", "higher", 10.0), ("gone/x@1", "higher", 1.0)],
)
def test_worst_and_best_are_told_by_how_far_a_sample_is_from_the_best_value(
    spec: str, better: str, most: float, tmp_path: Path
) -> None:
    said = {"half": 0.5 * most, "right": most, "wrong": 0.0, "near": 0.9 * most}
    rows = [
        {
            "model": "tuned",
            "id": name,
            "prediction": name,
            "references": ["x"],
            "m.numerator": value,
            "m.denominator": 1,
        }
        for name, value in said.items()
    ]
    predictions.write(tmp_path / "p.parquet", rows, ["m"])
    table: pa.Table = predictions.read(tmp_path / "p.parquet")
    assert best(spec, better) == most
    found = {group.title: [one.id for one in group.examples] for group in examples.groups(table, "m", most, 2)}
    assert found == {"Worst": ["wrong", "half"], "Best": ["right"]}
