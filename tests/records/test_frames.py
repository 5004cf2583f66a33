from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command import inside, one_object

from vlmrecipes.errors import InputError
from vlmrecipes.records import predictions
from vlmrecipes.records.frames import ledger, list_runs

FIRST, SECOND, THIRD = "20261121-000001-aaaaaa", "20261122-000001-bbbbbb", "20261123-000001-cccccc"


def scored(value: float) -> dict[str, object]:
    metric = {"spec": "cer/ws@1", "value": value, "low": value, "high": value, "n": 4, "better": "lower"}
    return {"metrics": {"base": {"cer": metric | {"value": 0.9}}, "tuned": {"cer": metric}}}


@pytest.fixture
def store(finished: Callable[..., Path]) -> str:
    """Return a store with three complete runs and one that cannot be read."""
    part = {"role": "train", "fingerprint": "sha256:ab", "samples": 9}
    finished(FIRST, **scored(0.3), data=[part | {"snapshot": "lines@3"}])
    finished(SECOND, **scored(0.1), data=[part | {"snapshot": "lines@4"}])
    folder = finished(THIRD, **scored(0.2), data=[part | {"snapshot": "other@3"}], recipe={"name": "o'ther"})
    (folder.parent / "broken").mkdir()
    return str(folder.parents[1])


def names(lines: list[dict[str, object]]) -> list[object]:
    return [line["run"] for line in lines]


def test_runs_are_filtered_and_sorted(store: str) -> None:
    assert names(list_runs(store)) == [THIRD, SECOND, FIRST, "broken"]
    assert names(list_runs(store, metric="cer")) == [SECOND, THIRD, FIRST, "broken"]
    assert names(list_runs(store, data="lines")) == [SECOND, FIRST]
    assert names(list_runs(store, data="lines@3")) == [FIRST]
    assert names(list_runs(store, where="cer < 0.25 and status = 'complete'")) == [THIRD, SECOND]
    assert names(list_runs(store, where="recipe = 'o''ther'")) == [THIRD]
    assert names(list_runs(store, where="status = 'unreadable'")) == ["broken"]
    assert names(list_runs(store, where="base_cer > cer", data="lines", metric="cer")) == [SECOND, FIRST]


def test_the_ledger_follows_folders_that_are_copied_in_and_deleted_by_hand(store: str) -> None:
    home = Path(store) / "runs"
    shutil.copytree(home / FIRST, home / "20261124-000001-dddddd")
    assert "20261124-000001-dddddd" in names(list_runs(store))
    assert len(ledger(store).runs) == 5
    shutil.rmtree(home / SECOND)
    assert SECOND not in names(list_runs(store, metric="cer"))
    assert SECOND not in ledger(store).predictions.collect()["run"].to_list()


def test_the_ledger_answers_sql_over_runs_metrics_data_and_predictions(store: str) -> None:
    found = ledger(store)
    assert found.sql("SELECT run, value FROM metrics WHERE model = 'tuned' ORDER BY value")["run"].to_list() == [
        SECOND, THIRD, FIRST
    ]  # fmt: skip
    assert set(found.sql("SELECT run FROM data WHERE name = 'lines' AND role = 'train'")["run"]) == {FIRST, SECOND}
    query = (
        "SELECT r.recipe, count(*) AS n FROM predictions p JOIN runs r ON p.run = r.run GROUP BY r.recipe ORDER BY n"
    )
    counted = {row["recipe"]: row["n"] for row in found.sql(query).to_dicts()}
    rows = len(predictions.read(Path(store) / "runs" / FIRST / predictions.NAME))
    assert counted == {"lines": 2 * rows, "o'ther": rows}


def test_an_empty_store_has_an_empty_ledger(tmp_path: Path) -> None:
    found = ledger(str(tmp_path))
    assert (len(found.runs), len(found.metrics), len(found.data)) == (0, 0, 0)
    assert found.sql("SELECT run FROM predictions").is_empty()
    assert list_runs(str(tmp_path), where="recipe = 'x'", metric="cer") == []


def test_damaged_predictions_are_left_out_of_the_ledger(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    (Path(store) / "runs" / FIRST / predictions.NAME).write_bytes(b"PAR1 no")
    assert FIRST not in ledger(store).predictions.collect()["run"].to_list()
    assert FIRST in capsys.readouterr().err


@pytest.mark.parametrize("where", ["", "recip = 'x'", "'", "run = ", "1; DROP TABLE runs"])
def test_a_condition_that_means_nothing_is_wrong_input(store: str, where: str) -> None:
    done = inside("runs", "list", "--store", store, "--json", "--where", where or "nonsense")
    assert done.returncode == 2, done.stdout
    assert "cannot be answered" in one_object(done, 2)["error"]


def test_a_metric_that_no_run_has_is_wrong_input(store: str) -> None:
    with pytest.raises(InputError, match="no run has 'wer'; there is: cer"):
        list_runs(store, metric="wer")


def test_the_command_line_lists_best_first(store: str) -> None:
    found = one_object(
        inside("runs", "list", "--store", store, "--json", "--metric", "cer", "--where", "kind = 'train'")
    )
    assert names(found["runs"]) == [SECOND, THIRD, FIRST]
