"""Real pictures and pages, where they are at hand."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vlmrecipes.data.declaration import Prepare
from vlmrecipes.data.images import ImageError
from vlmrecipes.data.prepare import prepare_image
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.ingestion import ingest

DATA = Path(os.environ.get("VLMRECIPES_DATA", "/nowhere"))
SHIPPED = Path(__file__).parents[2] / "datasets" / "sroie-receipts.toml"


@pytest.mark.skipif(not (DATA / "hostile_images").is_dir(), reason="needs $VLMRECIPES_DATA/hostile_images")
def test_hostile_files_are_prepared_or_refused_and_soon() -> None:
    files = sorted(path for path in (DATA / "hostile_images").rglob("*") if path.is_file())
    good = bad = 0
    for path in files[::6]:
        begun = time.monotonic()
        try:
            prepared = prepare_image(path.read_bytes(), None, Prepare())
        except ImageError:
            bad += 1
        else:
            assert max(prepared.width, prepared.height) <= 1000, path
            good += 1
        assert time.monotonic() - begun < 5, path
    assert good > bad / 10 > 0


@pytest.mark.skipif(not (DATA / "sroie_receipts").is_dir(), reason="needs $VLMRECIPES_DATA/sroie_receipts")
def test_all_lines_of_a_receipt_stay_on_one_side(tmp_path: Path) -> None:
    file = tmp_path / "set.toml"
    file.write_text(SHIPPED.read_text("utf-8").replace('explode = "lines"', 'explode = "lines"\nlimit = 600'), "utf-8")
    result = ingest(file, store=str(tmp_path / "store"), workers=1)
    assert result["rows"]["read"] == 600
    samples = open_snapshot(str(tmp_path / "store"), "sroie-receipts").samples()
    sides = [{sample.group for sample in samples if sample.split == side} for side in ("train", "eval")]
    assert not sides[0] & sides[1]
    assert all(sides)
    assert result["leaks"] == {"images": 0, "duplicate_groups": 0, "groups": 0}
