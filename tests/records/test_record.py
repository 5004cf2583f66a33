from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vlmrecipes.errors import RunError, StoreError
from vlmrecipes.records import exports, process, record
from vlmrecipes.records.graph import Graph, add_run

GOLDEN = Path(__file__).parent.parent / "golden" / "record_v1.json"
WRITER = """
import sys
from pathlib import Path
from vlmrecipes.records import record
folder = Path(sys.argv[1])
record.start(folder, run="r", kind="train", recipe={}, environment={"python": "3"})
step = 0
while True:
    record.update(folder, train={"steps": step, "padding": "x" * 20000})
    step += 1
"""


def begin(folder: Path, **fields: object) -> dict[str, object]:
    return record.start(folder, run=folder.name, kind="train", recipe={"name": "lines"}, environment={"p": 1}, **fields)


def test_a_record_is_there_from_the_start_and_is_sealed_last(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    begin(folder)
    assert (record.read(folder)["status"], record.read(folder)["seal"]) == ("running", None)
    assert record.check_seal(folder) == ["record.json: not sealed, the run is running"]
    record.update(folder, train={"steps": 3, "loss_last": float("nan")})
    (folder / "recipe.toml").write_text("name = 'x'")
    done = record.finish(folder, "complete")
    assert done["train"] == {"steps": 3, "loss_last": None}
    assert [output["path"] for output in done["outputs"]] == ["recipe.toml"]
    assert done["ended"] >= done["created"]
    assert record.check_seal(folder) == []


def test_a_start_without_environment_gathers_it(tmp_path: Path) -> None:
    assert "jinja2" in {
        name.lower() for name in record.start(tmp_path, run="r", kind="train", recipe={})["environment"]["packages"]
    }


def test_a_sealed_record_does_not_change(finished: Callable[..., Path]) -> None:
    folder = finished()
    for change in (
        lambda: record.update(folder, train={}),
        lambda: record.finish(folder, "failed", "late"),
        lambda: record.resume(folder),
        lambda: begin(folder),
    ):
        with pytest.raises(RunError):
            change()
    assert record.check_seal(folder) == []


def test_callers_cannot_set_the_fields_of_the_record_itself(tmp_path: Path) -> None:
    begin(tmp_path)
    with pytest.raises(ValueError, match="seal, status"):
        record.update(tmp_path, status="complete", seal="sha256:0")


def test_outputs_leave_out_the_report_and_checkpoints(finished: Callable[..., Path]) -> None:
    folder = finished()
    (folder / "report.html").write_text("made later")
    listed = [output["path"] for output in record.read(folder)["outputs"]]
    assert listed == ["adapter/weights.bin", "metrics.jsonl", "predictions.parquet"]
    shutil.rmtree(folder / "checkpoint-5")
    assert record.check_seal(folder) == []


def test_every_changed_byte_of_an_output_breaks_the_seal(finished: Callable[..., Path]) -> None:
    folder = finished()
    (folder / "adapter" / "weights.bin").write_bytes(b"weightz")
    assert record.check_seal(folder) == ["adapter/weights.bin: changed since it was sealed"]
    (folder / "adapter" / "weights.bin").unlink()
    assert record.check_seal(folder) == ["adapter/weights.bin: missing"]
    with pytest.raises(RunError, match="missing"):
        record.seal(folder)


def test_every_changed_byte_of_the_record_breaks_the_seal(finished: Callable[..., Path]) -> None:
    folder = finished()
    path = folder / record.NAME
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert record.check_seal(folder), place
    path.write_bytes(whole)
    assert record.check_seal(folder) == []


def test_added_files_are_told_and_sealed_again(finished: Callable[..., Path]) -> None:
    folder = finished()
    (folder / "merged.bin").write_bytes(b"m")
    assert record.check_seal(folder) == ["merged.bin: added since the run was sealed"]
    record.seal(folder)
    assert record.check_seal(folder) == []


def test_exports_come_after_the_seal_and_leave_it_whole(finished: Callable[..., Path]) -> None:
    folder = finished()
    assert exports.listed(folder) == []
    entries = [{"format": "adapter", "path": "/a"}, {"format": "merged_16bit", "path": "/b"}]
    for entry in entries:
        exports.add(folder, entry)
    (folder / "exports" / "merged_16bit").mkdir()
    (folder / "exports" / "merged_16bit" / "config.json").write_text("{}")
    (folder / "exports" / "00000000-cut.json").write_text('{"format"')
    assert exports.listed(folder) == entries
    assert record.check_seal(folder) == []


def test_a_cut_off_record_names_its_path(tmp_path: Path) -> None:
    begin(tmp_path)
    path = tmp_path / record.NAME
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"record\.json: damaged"):
        record.read(tmp_path)
    assert "damaged" in record.check_seal(tmp_path)[0]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": true}', '{"version": "1"}', '{"version": NaN}', "\xff", "[" * 99999]
)
def test_what_is_no_record_is_a_store_error(tmp_path: Path, text: str) -> None:
    (tmp_path / record.NAME).write_text(text, encoding="latin-1")
    with pytest.raises(StoreError, match=r"record\.json"):
        record.read(tmp_path)


def test_a_newer_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / record.NAME).write_text('{"version": 999}')
    with pytest.raises(StoreError, match="record version 999; this vlmrecipes reads up to 1"):
        record.read(tmp_path)


def test_a_killed_writer_leaves_a_record_that_reads_as_interrupted(tmp_path: Path) -> None:
    for turn in range(4):
        folder = tmp_path / str(turn)
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)])
        limit = time.monotonic() + 60
        while time.monotonic() < limit and not ((folder / record.NAME).exists() and record.read(folder)["train"]):
            time.sleep(0.01)
        assert record.read(folder)["status"] == "running"
        time.sleep(0.013 * turn)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        found = record.read(folder)
        assert found["status"] == "interrupted"
        assert len(found["train"]["padding"]) == 20000
        record.resume(folder)
        assert record.finish(folder, "complete")["status"] == "complete"
        assert record.check_seal(folder) == []


def test_another_process_with_the_same_number_is_not_the_run() -> None:
    own = process.identity()
    assert not process.gone(own)
    assert not process.gone(own | {"host": "elsewhere", "pid": 2**22 + 1})
    assert process.gone(own | {"pid": 2**22 + 1})
    if own["pid_started"] is not None:
        assert process.gone(own | {"pid_started": own["pid_started"] - 1})
    assert not process.gone({})


def test_a_run_of_another_host_is_taken_over_only_by_force(tmp_path: Path) -> None:
    begin(tmp_path)
    own = json.loads((tmp_path / record.NAME).read_text())
    with pytest.raises(RunError, match="still going on; stop it first"):
        record.resume(tmp_path, force=True)
    (tmp_path / record.NAME).write_text(json.dumps(own | {"host": "gpu-7"}))
    os.utime(tmp_path / record.NAME, (1_700_000_000, 1_700_000_000))
    why = "on host 'gpu-7', which cannot be asked from here, and has written nothing since 2023-11-14T22:13:20"
    with pytest.raises(RunError, match=why):
        record.resume(tmp_path)
    assert record.resume(tmp_path, force=True)["host"] == own["host"]


def test_a_failed_run_says_why_without_its_secrets_and_is_resumed(tmp_path: Path) -> None:
    begin(tmp_path)
    failed = record.finish(tmp_path, "failed", OSError("no https://me:hunter2@host/x?token=abc"))
    assert failed["error"] == "OSError: no https://host/x?token=***"
    again = record.resume(tmp_path, train={"resumed_from": ["checkpoint-5"]})
    assert (again["status"], again["error"], again["seal"]) == ("running", None, None)
    assert record.finish(tmp_path, "complete")["seconds"] >= failed["seconds"]


def test_ids_sort_by_time_and_differ() -> None:
    ids = [record.new_run_id() for _ in range(200)]
    assert len(set(ids)) == len(ids)
    assert [each[:15] for each in ids] == sorted(each[:15] for each in ids)


def test_the_golden_record_is_read_and_its_format_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "now", lambda: datetime(2026, 11, 21, 10, 15, 30, tzinfo=UTC))
    monkeypatch.setattr(process, "identity", lambda: {"pid": 4242, "host": "machine", "pid_started": 99})
    monkeypatch.setattr(sys, "argv", ["/opt/bin/vlmrecipes", "run", "lines.toml", "--hf-token", "hf_secret"])
    begin(tmp_path)
    record.update(
        tmp_path, metrics={"tuned": {"cer": {"spec": "cer/ws@1", "value": 0.25, "by": {"kind": {"é": {"n": 1}}}}}}
    )
    (tmp_path / "recipe.toml").write_text("name = 'lines'\n")
    record.finish(tmp_path, "complete")
    written = (tmp_path / record.NAME).read_text(encoding="utf-8").replace(tmp_path.name, "golden")
    sealed = json.loads(written)
    sealed["seal"] = record.fingerprint({key: value for key, value in sealed.items() if key != "seal"})
    written = json.dumps(sealed, indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(written, encoding="utf-8")
    assert GOLDEN.read_text(encoding="utf-8") == written
    shutil.copy(GOLDEN, tmp_path / record.NAME)
    assert record.read(tmp_path)["command"] == ["vlmrecipes", "run", "lines.toml", "--hf-token", "***"]
    assert record.check_seal(tmp_path) == []


def test_a_record_written_before_parents_and_kinds_were_told_is_read(tmp_path: Path) -> None:
    shutil.copy(GOLDEN.with_name("record_v1_early.json"), tmp_path / record.NAME)
    (tmp_path / "recipe.toml").write_text("name = 'lines'\n")
    assert record.check_seal(tmp_path) == []
    assert record.read(tmp_path)["metrics"]["tuned"]["cer"]["value"] == 0.25
    graph = Graph()
    assert add_run(graph, record.read(tmp_path)) == "run:golden"
