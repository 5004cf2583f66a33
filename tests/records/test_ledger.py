from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vlmrecipes.errors import InputError
from vlmrecipes.records import ledger, record


def test_runs_are_listed_newest_first_and_broken_ones_say_why(finished: Callable[..., Path]) -> None:
    folder = finished("20261121-000001-aaaaaa").parent
    finished("20261121-000001-bbbbbb")
    for name, text in (("20261121-000000-cut", '{"version"'), ("20991121-000000-odd", '{"version": 1, "recipe": 3}')):
        (folder / name).mkdir()
        (folder / name / record.NAME).write_text(text)
    (folder / "20991122-000000-empty").mkdir()
    (folder / "note.txt").write_text("not a run")
    listed = ledger.runs(folder)
    assert [line["run"][-5:] for line in listed] == ["empty", "0-odd", "bbbbb", "aaaaa", "0-cut"]
    assert [line["status"] for line in listed] == ["unreadable"] * 2 + ["complete"] * 2 + ["unreadable"]
    assert "damaged" in listed[1]["why"]
    assert "cannot be read" in listed[0]["why"]
    assert listed[2]["metrics"] == {"base": {"cer": 0.5}, "tuned": {"cer": 0.25}}
    assert (listed[2]["recipe"], listed[2]["recipe_version"], listed[2]["snapshot"]) == ("lines", "1.0.0", "lines@3")
    json.dumps(listed)


@pytest.mark.parametrize(
    "text", ["null", '{"version": 1, "recipe": {}, "metrics": {"tuned": 3}, "status": "x"}', '{"version": 2}']
)
def test_no_record_makes_the_ledger_fail(tmp_path: Path, text: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / record.NAME).write_text(text)
    assert [line["status"] for line in ledger.runs(tmp_path)] == ["unreadable"]


def test_no_folder_is_no_runs(tmp_path: Path) -> None:
    assert ledger.runs(tmp_path / "none") == []
    with pytest.raises(InputError, match="none yet"):
        ledger.find(tmp_path / "none", "x")
    with pytest.raises(InputError, match="no run in"):
        ledger.find(tmp_path / "none", "latest")


def test_a_run_is_found_by_id_prefix_and_latest(finished: Callable[..., Path]) -> None:
    first, second = finished("20261121-000001-aaaaaa"), finished("20261122-000001-bbbbbb")
    folder = first.parent
    assert ledger.find(folder, first.name) == first
    assert ledger.find(folder, "20261122") == second
    assert ledger.find(folder, "latest") == second
    with pytest.raises(InputError, match="start of 2 runs: 20261121-000001-aaaaaa, 20261122-000001-bbbbbb"):
        ledger.find(folder, "2026")
    for unknown in ("7", "", "..", "../runs"):
        with pytest.raises(InputError, match="there is 20261122-000001-bbbbbb, 20261121-000001-aaaaaa"):
            ledger.find(folder, unknown)
