from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import lancedb
import pyarrow as pa
import pytest

from vlmrecipes.compare.work import compare_runs
from vlmrecipes.errors import InputError
from vlmrecipes.fingerprint import fingerprint
from vlmrecipes.records import predictions, record
from vlmrecipes.records.prune import prune_runs
from vlmrecipes.records.rescore import rescore
from vlmrecipes.verification import verify_run

if TYPE_CHECKING:
    from scored import Scored


def failing(scored: Scored, run: str = "") -> set[str]:
    found = verify_run(run or scored.whole, store=scored.store)
    return {level for level, told in found["levels"].items() if not told["ok"]}


def problems(scored: Scored, level: str) -> str:
    return "\n".join(verify_run(scored.whole, store=scored.store)["levels"][level]["problems"])


def change_predictions(folder: Path, **columns: object) -> None:
    """Write predictions.parquet again with the first row's columns replaced."""
    rows = predictions.read(folder / predictions.NAME).to_pylist()
    rows[0] |= columns
    predictions.write(folder / predictions.NAME, rows, ["wer", "cer"])


def change_record(folder: Path, change: str, to: str) -> None:
    path = folder / record.NAME
    text = path.read_text("utf-8")
    assert change in text
    path.write_text(text.replace(change, to), "utf-8")


def test_an_untouched_run_verifies(scored_store: Scored) -> None:
    found = verify_run(scored_store.whole, store=scored_store.store)
    assert list(found["levels"]) == ["seal", "inputs", "environment", "rescore"]
    assert found["ok"]
    assert found["levels"]["environment"] == {"ok": True, "problems": []}


def test_a_tampered_prediction_breaks_seal_and_rescore(scored: Scored) -> None:
    change_predictions(scored.folder(), prediction="something else entirely")
    assert failing(scored) == {"seal", "rescore"}
    assert "predictions.parquet: changed" in problems(scored, "seal")
    assert "tuned wer value: recorded" in problems(scored, "rescore")


def test_a_tampered_prediction_that_was_sealed_again_is_caught_by_rescore(scored: Scored) -> None:
    folder = scored.folder()
    change_predictions(folder, prediction="something else entirely")
    found = record.read(folder)
    output = next(each for each in found["outputs"] if each["path"] == predictions.NAME)
    output |= {
        "sha256": record.file_sha256(folder / predictions.NAME),
        "bytes": (folder / predictions.NAME).stat().st_size,
    }
    found["seal"] = fingerprint({key: value for key, value in found.items() if key != "seal"})
    (folder / record.NAME).write_bytes(record.rendered(found))
    assert failing(scored) == {"rescore"}


def test_tampered_references_are_caught_against_the_store(scored: Scored) -> None:
    first = predictions.read(scored.folder() / predictions.NAME).to_pylist()[0]
    change_predictions(scored.folder(), references=[first["prediction"] + "?"])
    assert failing(scored) == {"seal", "inputs", "rescore"}
    assert f"sample {first['id']}: its references" in problems(scored, "inputs")


def test_a_tampered_record_breaks_its_seal(scored: Scored) -> None:
    change_record(scored.folder(), '"status": "complete"', '"status":  "complete"')
    assert failing(scored) == {"seal"}


def test_a_tampered_score_is_named_with_both_values(scored: Scored) -> None:
    value = record.read(scored.folder())["metrics"]["tuned"]["cer"]["value"]
    change_record(scored.folder(), f'"value": {value}', '"value": 0.001')
    found = rescore(scored.whole, store=scored.store)
    assert not found["equal"]
    assert {"model": "tuned", "metric": "cer", "key": "value", "recorded": 0.001, "found": value} in found[
        "differences"
    ]


def test_a_tampered_recipe_breaks_seal_and_inputs(scored: Scored) -> None:
    recipe = scored.folder() / "recipe.toml"
    recipe.write_text(recipe.read_text() + "# one more line\n")
    assert failing(scored) == {"seal", "inputs"}
    assert "recipe.toml: not the file that was run" in problems(scored, "inputs")


def test_a_tampered_image_breaks_inputs(scored: Scored) -> None:
    shown = predictions.read(scored.folder() / predictions.NAME)["images"][0].as_py()[0]
    store = Path(scored.store)
    manifest = next((store / "snapshots" / "example").glob("*.json"))
    table = lancedb.connect(scored.store).open_table("images")
    rows = table.to_arrow().to_pylist()
    changed = next(row for row in rows if row["key"] == shown)
    changed["data"] = changed["data"][:-1] + b"x"
    table.add(pa.Table.from_pylist(rows, schema=table.schema), mode="overwrite")
    told = json.loads(manifest.read_text())
    told["tables"]["images"]["version"] = table.version
    manifest.write_text(json.dumps(told))
    assert failing(scored) == {"inputs"}
    assert problems(scored, "inputs") == f"image {shown}: its bytes have changed"


def test_a_snapshot_that_is_gone_or_another_breaks_inputs(scored: Scored) -> None:
    manifest = next((Path(scored.store) / "snapshots" / "example").glob("*.json"))
    text = manifest.read_text()
    told = json.loads(text)
    told["fingerprint"] = "sha256:" + "0" * 64
    manifest.write_text(json.dumps(told))
    assert "example@1: its manifest has another fingerprint" in problems(scored, "inputs")
    manifest.unlink()
    assert failing(scored) == {"inputs"}
    assert "no snapshot 'example@1'" in problems(scored, "inputs")


def test_another_environment_is_told_and_fails_only_when_strict(scored: Scored) -> None:
    found = record.read(scored.folder())
    found["environment"]["packages"]["numpy"] = "0.0.1"
    found["seal"] = fingerprint({key: value for key, value in found.items() if key != "seal"})
    (scored.folder() / record.NAME).write_bytes(record.rendered(found))
    told = verify_run(scored.whole, store=scored.store)
    assert told["ok"]
    assert told["levels"]["environment"]["problems"][0].startswith("package numpy: 0.0.1 then, ")
    assert not verify_run(scored.whole, store=scored.store, strict=True)["ok"]


def test_rows_generated_again_are_equal(scored: Scored) -> None:
    found = verify_run(scored.whole, store=scored.store, regenerate=3)["levels"]["regenerate"]
    assert found == {"ok": True, "problems": [], "n": 3, "equal": 3}


def test_rescore_is_equal_and_needs_no_torch(scored_store: Scored) -> None:
    code = (
        "import sys, vlmrecipes\n"
        "found = vlmrecipes.rescore(sys.argv[1], store=sys.argv[2])\n"
        "assert found['equal'], found['differences']\n"
        "assert not {'torch', 'transformers', 'lancedb'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, scored_store.whole, scored_store.store], check=True)
    found = rescore(scored_store.whole, store=scored_store.store)
    assert found["metrics"] == record.read(scored_store.folder())["metrics"]


def test_specs_of_another_version_are_refused_by_name(scored: Scored) -> None:
    change_record(scored.folder(), "cer/ws@1", "cer/ws@0")
    with pytest.raises(InputError, match=r"'cer/ws@0', which this version does not compute \(it has cer/ws@1\)"):
        rescore(scored.whole, store=scored.store)


def test_a_record_that_does_not_say_how_it_was_scored_is_told(scored: Scored) -> None:
    path = scored.folder() / record.NAME
    told = json.loads(path.read_text("utf-8"))
    for key in ("by", "seed"):
        del told["metrics"]["tuned"]["cer"][key]
    del told["metrics"]["tuned"]["wer"]["spec"]
    path.write_text(json.dumps(told), "utf-8")
    with pytest.raises(InputError) as caught:
        rescore(scored.whole, store=scored.store)
    assert {problem.key: problem.problem.partition(":")[0] for problem in caught.value.problems} == {
        "metrics.tuned.cer": "does not say its seed, by",
        "metrics.tuned.wer": "does not say its spec",
    }
    path.write_text(json.dumps(told | {"metrics": {}}), "utf-8")
    with pytest.raises(InputError, match="has none: there is nothing to compute again"):
        rescore(scored.whole, store=scored.store)
    with pytest.raises(InputError, match="has no metrics in its record"):
        compare_runs([scored.whole, scored.cut], store=scored.store)


def test_prune_takes_leftovers_and_only_the_runs_that_are_asked_for(scored: Scored) -> None:
    checkpoint = scored.folder() / "checkpoints" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.bin").write_bytes(b"x" * 1000)
    failed = scored.folder("20200101-000000-000000")
    record.start(failed, run=failed.name, kind="train", recipe={"name": "x"}, environment={"python": "3"})
    record.finish(failed, "failed", "why")
    told = prune_runs(store=scored.store)
    assert ([each["path"] for each in told["paths"]], told["bytes"]) == ([str(checkpoint.parent)], 1000)
    assert checkpoint.exists(), "nothing goes without yes"
    prune_runs(store=scored.store, failed=True, yes=True)
    assert not checkpoint.exists()
    assert not failed.exists()
    assert failing(scored) == set()
    record.start(failed, run=failed.name, kind="train", recipe={"name": "x"}, environment={"python": "3"})
    with pytest.raises(InputError, match="still going on"):
        prune_runs([failed.name], store=scored.store, force=True, yes=True)
    change_record(failed, '"host": "', '"host": "far-')
    with pytest.raises(InputError, match=r"on host 'far-.*; if it is dead there, say --force"):
        prune_runs([failed.name], store=scored.store, yes=True)
    prune_runs([failed.name], store=scored.store, force=True, yes=True)
    assert not failed.exists()
    prune_runs([scored.cut], store=scored.store, yes=True)
    assert [path.name for path in scored.folder().parent.iterdir()] == [scored.whole]


def test_prune_keeps_a_run_that_another_was_scored_with(scored: Scored) -> None:
    plan = scored.folder(scored.cut) / "plan.json"
    told = json.loads(plan.read_text())
    told["tuned"] = str(scored.folder().absolute() / "adapter")
    plan.write_text(json.dumps(told))
    with pytest.raises(InputError, match="was scored with its result"):
        prune_runs([scored.whole], store=scored.store, yes=True)
    assert scored.folder().exists()


def test_damage_of_any_file_is_told_not_raised(scored: Scored) -> None:
    for name in ("plan.json", predictions.NAME, record.NAME):
        folder = scored.folder()
        kept = (folder / name).read_bytes()
        for damage in (b"", kept[: len(kept) // 2], b"[]"):
            (folder / name).write_bytes(damage)
            assert "seal" in failing(scored), (name, damage[:10])
        (folder / name).write_bytes(kept)
    shutil.rmtree(Path(scored.store) / "snapshots")
    assert failing(scored) == {"inputs"}
