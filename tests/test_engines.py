"""`evaluate` with engines that ask another program, and with an adapter that is not what it was."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command import environment, inside, one_object
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from server import MODEL, Server, serving
from tiny import processor

from vlmrecipes.evaluate.engines import external
from vlmrecipes.models.catalog import resolve
from vlmrecipes.models.load import load_model
from vlmrecipes.records import predictions, record
from vlmrecipes.verification import verify_run

if TYPE_CHECKING:
    from scored import Scored

pytestmark = pytest.mark.filterwarnings("ignore:.*is not writable.*:UserWarning")
ROWS, KEY = 6, "sk-not-to-be-written-anywhere"


@pytest.fixture(scope="module")
def network() -> Any:
    return load_model(resolve("builtin:reader"))


@pytest.fixture
def server(network: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(Server(network, processor(), key=KEY)) as one:
        yield one


def words(scored: Scored, scored_store: Scored, *more: object) -> list[object]:
    recipe = Path(scored_store.store).parent / "recipes" / "example.toml"
    limit = record.read(scored.folder())["generate"]["tuned"]["max_new_tokens"]
    settings = (f"eval.limit={ROWS}", f"eval.max_new_tokens={limit}")
    sets = [word for setting in settings for word in ("--set", setting)]
    return ["evaluate", recipe, "--store", scored.store, *sets, *more]


def served(server: Server) -> tuple[object, ...]:
    return ("--engine", "openai", "--base-url", server.url, "--model", MODEL)


def texts(folder: Path) -> dict[str, str]:
    return {row["id"]: row["prediction"] for row in predictions.read(folder / predictions.NAME).to_pylist()}


def test_a_server_is_scored_as_the_same_model_here(scored: Scored, scored_store: Scored, server: Server) -> None:
    found = one_object(inside(*words(scored, scored_store, *served(server)), "--json"))
    folder = Path(found["record"]).parent
    assert found["metrics"]["tuned"]["cer"]["n"] == ROWS
    said = texts(folder)
    assert said == {key: text for key, text in texts(scored.folder()).items() if key in said}
    told = record.read(folder)
    assert told["generate"]["tuned"]["engine"] == "openai"
    assert told["generate"]["tuned"]["probes"]["batch_vs_single"] == {"rows": ROWS, "equal": ROWS}
    levels = verify_run(folder.name, store=scored.store)["levels"]
    assert [name for name, level in levels.items() if not level["ok"]] == []
    assert not [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    refused = one_object(inside(*words(scored, scored_store, "--model", folder.name, "--json")), code=2)
    assert f"answered by openai ({MODEL}), not by a model" in refused["problems"][0]["problem"]


def test_a_refused_key_makes_a_failed_run_that_says_so(
    scored: Scored, scored_store: Scored, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    found = one_object(inside(*words(scored, scored_store, *served(server)), "--json"), code=1)
    assert "HTTP 401" in found["error"]
    assert "$OPENAI_API_KEY is not set" in found["error"]


def test_killed_while_asking_it_goes_on_with_the_rows_that_are_left(
    scored: Scored, scored_store: Scored, server: Server
) -> None:
    more = ("--set", "eval.openai.concurrency=1")
    command = [sys.executable, "-m", "vlmrecipes", *map(str, words(scored, scored_store, *served(server), *more))]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
        while len(server.asked) < 4:
            assert one.poll() is None
            time.sleep(0.02)
        os.kill(one.pid, signal.SIGKILL)
    (journal,) = (Path(scored.store) / "runs").glob("*/tuned-0.rows.jsonl")
    wait_for_quiet(server)
    kept = len(journal.read_text().splitlines())
    assert 1 <= kept < ROWS
    server.asked.clear()
    found = one_object(inside("run", "--resume", "latest", "--store", scored.store, "--json"))
    told = record.read(Path(found["record"]).parent)["generate"]["tuned"]
    assert told["resumed"] == kept
    assert len(server.asked) == (ROWS - kept) + ROWS + ROWS, "the rows that are left, and two probes"
    assert not journal.exists()


def wait_for_quiet(server: Server) -> None:
    """Wait until the processes of the killed run are gone, too: nothing is asked any more."""
    count, since = -1, time.monotonic()
    while time.monotonic() - since < 2:
        if len(server.asked) != count or server.now:
            count, since = len(server.asked), time.monotonic()
        time.sleep(0.05)


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
def test_plain_ocr_is_scored_like_a_model(
    scored: Scored, scored_store: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = words(scored, scored_store, "--engine", "tesseract", "--json")
    first, second = (record.read(Path(one_object(inside(*given))["record"]).parent) for _ in range(2))
    assert first["metrics"]["tuned"]["cer"]["n"] == ROWS
    assert first["model"]["revision"]
    assert "eng.traineddata" in first["model"]["files"]
    assert [one["generate"]["tuned"]["cached"] for one in (first, second)] == [0, ROWS]
    assert first["metrics"] == second["metrics"]
    found = verify_run(first["run"], store=scored.store, regenerate=2)
    assert found["ok"], found["levels"]
    assert found["levels"]["regenerate"]["equal"] == 2
    monkeypatch.setattr(external, "version", lambda: "0.1")
    problems = verify_run(first["run"], store=scored.store)["levels"]["inputs"]["problems"]
    assert problems == [f"model tesseract: {first['model']['revision']} then, 0.1 now"]


def test_an_adapter_that_is_not_what_it_was_is_told(scored: Scored, scored_store: Scored) -> None:
    run = scored.folder().with_name("20260101-000000-aaaaaa")
    shutil.copytree(scored.folder(), run)
    lora = LoraConfig(r=2, target_modules=["q_proj"])
    get_peft_model(load_model(resolve("builtin:reader")), lora).save_pretrained(run / "adapter")
    file = run / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    weights["base_model.model.nowhere.lora_A.weight"] = weights[min(weights)].clone()
    save_file(weights, file)
    found = one_object(inside(*words(scored, scored_store, "--model", run.name, "--json")))
    told = record.read(Path(found["record"]).parent)
    assert told["generate"]["tuned"]["cached"] == 0, "the base model's answers are not the adapter's"
    (warning,) = [each for each in told["warnings"] if each["code"] == "adapter-not-applied"]
    assert (warning["model"], warning["weights"]) == ("tuned", 1)
    assert "nowhere.lora_A" in Path(found["report"]).read_text("utf-8")
    assert json.loads(record.rendered(told))["generate"]["tuned"]["adapter"] == "live"
