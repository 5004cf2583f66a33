from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command import ROOT, environment, inside, one_object, vlmrecipes

from vlmrecipes.again.plans import plan_again
from vlmrecipes.records import predictions, record
from vlmrecipes.records.scored import scored_model

RECIPE = "recipes/example.toml"
STEPS, SCORED = 4, 4
SETTINGS = (
    *("--set", f"train.steps={STEPS}"),
    *("--set", "train.save_steps=2"),
    *("--set", "train.batch_size=4"),
    *("--set", f"eval.limit={SCORED}"),
    *("--set", "eval.cache=false"),
)
KEYS = {"run", "status", "record", "snapshot", "metrics", "adapter", "report", "seconds"}


@dataclass
class Project:
    """What `init` writes, ingested, and one run of it."""

    folder: Path
    run: dict[str, Any]

    @property
    def runs(self) -> Path:
        return self.folder / ".vlmrecipes" / "runs"

    @property
    def run_folder(self) -> Path:
        return self.runs / str(self.run["run"])

    def says(self, *words: object, code: int = 0) -> Any:
        """Return the JSON object of a verb that ends with `code`."""
        return one_object(inside(*words, "--json", cwd=self.folder), code)

    def refuses(self, *words: object) -> dict[str, str]:
        """Return key → problem of a verb that must end with 2 and make no run."""
        before = sorted(self.runs.iterdir())
        found = self.says(*words, code=2)
        assert sorted(self.runs.iterdir()) == before
        return {problem["key"]: problem["problem"] for problem in found["problems"]}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("run") / "project"
    assert vlmrecipes("init", folder).returncode == 0
    made = Project(folder, {})
    assert made.says("ingest", "datasets/example.toml", "--workers", 1)["snapshot"] == "example@1"
    made.run = one_object(vlmrecipes("run", RECIPE, *SETTINGS, "--json", cwd=folder))
    return made


def changed(project: Project, name: str, *changes: tuple[str, str]) -> str:
    """Write the recipe with some texts replaced beside it; return its name."""
    text = (project.folder / RECIPE).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (project.folder / "recipes" / name).write_text(text)
    return f"recipes/{name}"


def until(happened: Callable[[], Any], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if happened():
            return True
        time.sleep(0.02)
    return False


def children(pid: int) -> list[int]:
    """Return the processes that `pid` has started and that still run."""
    others = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [other for other in others if state(other)[1:] == (str(pid),)]


def state(pid: int) -> tuple[str, ...]:
    """Return a process's state letter and parent; nothing when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ()
    return () if fields[0] == "Z" else (fields[0], fields[1])


def test_plan_tells_what_a_run_will_do(project: Project) -> None:
    found = project.says("plan", RECIPE, *SETTINGS)
    assert {"plan", "fingerprint", "snapshot", "samples", "tokens", "steps", "memory_bytes", "problems"} <= set(found)
    assert (found["snapshot"], found["samples"], found["steps"], found["problems"]) == ("example@1", 26, STEPS, [])
    assert 0 < found["tokens"]["p50"] <= found["tokens"]["p95"] <= found["tokens"]["max"]
    assert found["memory_bytes"] > 0
    sealed = record.read(project.run_folder)["plan"]
    assert (sealed["plan"], sealed["fingerprint"]) == (found["plan"], found["fingerprint"])
    assert len(list(project.runs.iterdir())) == 1, "a plan makes no run"


def test_run_scores_tunes_scores_again_and_tells(project: Project) -> None:
    found = project.run
    assert set(found) >= KEYS
    assert (found["status"], found["snapshot"]) == ("complete", "example@1")
    for model in ("base", "tuned"):
        assert set(found["metrics"][model]) == {"wer", "cer"}
        cer = found["metrics"][model]["cer"]
        assert cer["low"] <= cer["value"] <= cer["high"]
        assert cer["n"] == SCORED
        assert cer["value"] == pytest.approx(cer["numerator"] / cer["denominator"])
    assert found["seconds"] > 0
    assert Path(found["adapter"], "adapter_model.safetensors").is_file()
    assert Path(found["report"]).is_file()
    assert Path(found["record"]).parent == project.run_folder


def test_run_leaves_a_sealed_folder_of_plain_files(project: Project) -> None:
    assert record.check_seal(project.run_folder) == []
    found = record.read(project.run_folder)
    assert (found["status"], found["error"]) == ("complete", None)
    assert found["recipe"]["resolved"]["train"]["steps"] == STEPS
    assert found["data"][0]["snapshot"] == "example@1"
    assert found["metrics"] == project.run["metrics"]
    names = {path.name for path in project.run_folder.iterdir()}
    assert names >= {"record.json", "recipe.toml", "plan.json", "metrics.jsonl", "predictions.parquet", "adapter"}
    assert not names & {"checkpoints", "failure.txt", "rows.arrow", "lengths.npy"}
    assert (project.run_folder / "recipe.toml").read_bytes() == (project.folder / RECIPE).read_bytes()
    rows = predictions.read(project.run_folder / "predictions.parquet").to_pylist()
    assert [row["model"] for row in rows] == ["base"] * SCORED + ["tuned"] * SCORED
    assert sum(row["cer.numerator"] for row in rows[:SCORED]) == found["metrics"]["base"]["cer"]["numerator"]


def test_runs_are_listed_and_shown(project: Project) -> None:
    listed = project.says("runs", "list")["runs"]
    mine = next(run for run in listed if run["run"] == project.run["run"])
    assert (mine["status"], mine["recipe"], mine["snapshot"]) == ("complete", "example", "example@1")
    assert mine["metrics"]["tuned"]["cer"] == project.run["metrics"]["tuned"]["cer"]["value"]
    shown = project.says("runs", "show", "latest" if len(listed) == 1 else project.run["run"])
    assert shown == record.read(project.run_folder) | {"exports": []}


def test_report_is_one_page_that_needs_nothing_else(project: Project) -> None:
    found = project.says("report", project.run["run"], "-o", "x.html")
    page = Path(found["path"]).read_text("utf-8")
    assert Path(found["path"]) == project.folder / "x.html"
    assert re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:|#)[^"'>\s]+""", page) == []
    assert "<script" not in page
    assert project.run["run"] in page
    assert "example@1" in page
    assert "data:image/" in page
    assert record.check_seal(project.run_folder) == []


def test_a_report_that_cannot_be_written_is_told(project: Project) -> None:
    found = project.says("report", project.run["run"], "-o", "absent/x.html", code=2)
    assert found["problems"][0]["file"] == "absent/x.html"


@pytest.mark.parametrize("scored", ["base", "tuned"])
def test_evaluate_gives_the_scores_that_the_run_gave(project: Project, scored: str) -> None:
    model = project.run["run"] if scored == "tuned" else "builtin:reader"
    found = project.says("evaluate", RECIPE, "--model", model, *SETTINGS)
    assert set(found["metrics"]) == {"tuned"}
    assert found["metrics"]["tuned"] == project.run["metrics"][scored]
    assert (found["status"], found["snapshot"], found["adapter"]) == ("complete", "example@1", None)
    folder = Path(found["record"]).parent
    assert record.check_seal(folder) == []
    assert record.read(folder)["kind"] == "evaluate"


def test_an_evaluation_stands_for_the_model_that_it_scored(project: Project) -> None:
    store = str(project.folder / ".vlmrecipes")
    first = project.says("evaluate", RECIPE, "--model", project.run["run"], *SETTINGS)
    again = project.says("evaluate", RECIPE, "--model", first["run"], *SETTINGS)
    assert again["metrics"]["tuned"] == project.run["metrics"]["tuned"]
    assert record.read(project.runs / again["run"])["parents"] == [{"run": project.run["run"], "as": "model"}]
    weights = str(project.run_folder / "adapter")
    assert plan_again(project.runs / again["run"], store=store).tuned == weights
    for name, tuned in ((again["run"], weights), (f"{again['run']}:base", ""), (f"{project.run['run']}:base", "")):
        about, found = scored_model(name, store)
        assert (about["id"], found) == ("builtin:reader", tuned)
    gone = project.folder / "gone"
    Path(weights).rename(gone)
    try:
        assert "no adapter/ or model/" in project.refuses("evaluate", RECIPE, "--model", first["run"])["--model"]
    finally:
        gone.rename(weights)


def test_absent_snapshots_and_models_are_told_together(project: Project) -> None:
    recipe = changed(
        project, "absent.toml", ('"example"\n\n[model]', '"nothing@7"\n\n[model]'), ("builtin:reader", "./no")
    )
    found = project.refuses("run", recipe)
    assert set(found) == {"data.train", "model.id"}
    assert "nothing" in found["data.train"]


def test_unknown_metrics_are_told_with_the_known(project: Project) -> None:
    found = project.refuses("run", RECIPE, "--set", 'eval.metrics=["cerr", "wer", "nonsense"]')
    assert set(found) == {"eval.metrics[0]", "eval.metrics[2]"}
    assert "did you mean 'cer'" in found["eval.metrics[0]"]


def test_everything_that_would_go_wrong_is_told_before_a_run_is_made(project: Project) -> None:
    wrong = ("--set", 'eval.metrics=["vqa"]', "--set", "model.max_length=16", "--set", "model.load_in=4bit")
    found = project.refuses("run", RECIPE, *wrong)
    assert "26 rows are longer than 16 tokens" in found["model.max_length"]
    assert any(key.startswith("eval") for key in found)
    assert ("model.load_in" in found) == (not on_a_gpu())


def on_a_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None


def test_settings_and_data_that_cannot_be_read_are_told(project: Project) -> None:
    assert "train.stepps" in project.refuses("run", RECIPE, "--set", "train.stepps=3")
    assert project.refuses("run", RECIPE, "--set", "train.steps") != {}
    assert "test=example@1" in project.refuses("run", RECIPE, "--data", "test=example@1")
    assert project.refuses("evaluate", RECIPE, "--model", "builtin:reader", "--engine", "magic").keys() == {"--engine"}


def rewarded(project: Project, name: str, reward: str) -> str:
    """Write the recipe with training by a reward, four answers to each of two prompts a step."""
    table = f"[grpo]\nrewards = [{reward}]\ngroup = 4\nmax_completion_length = 4\n\n[eval]\nbaseline = false"
    return changed(project, name, ("[train]", '[train]\nmethod = "grpo"'), ("[eval]", table))


def test_a_training_by_rewards_that_collapses_is_no_success(project: Project) -> None:
    recipe = rewarded(project, "constant.toml", '{ name = "length", least = 0 }')
    settings = (*SETTINGS, "--set", "train.steps=8", "--set", "train.batch_size=8", "--set", "eval.limit=2")
    found = project.says("run", recipe, *settings, code=1)
    assert "all answers to a prompt got the same reward (mean 1.000), so nothing was learned" in found["error"]
    left = record.read(max(project.runs.iterdir()))
    assert (left["status"], left["train"]["collapse"]["since"]) == ("failed", 1)
    assert left["metrics"]["tuned"]["cer"]["n"] == 2
    assert left["train"]["rewards"]["terms"] == [{"name": "length", "weight": 1.0, "spec": "least 0, most None"}]
    told = [warning["message"] for warning in left["warnings"] if warning["code"] == "constant-reward"]
    assert told == ["the reward length was 1.000 for every answer: it taught nothing"]
    assert ">mean reward<" in (project.runs / left["run"] / "report.html").read_text()


def test_a_reward_of_ones_own_must_be_allowed(project: Project) -> None:
    (project.folder / "own_rewards.py").write_text(
        "def short(answer, references, prompt):\n    return 1 / len(answer)\n"
    )
    recipe = rewarded(project, "own.toml", '{ name = "own_rewards:short" }')
    assert "say --allow-code" in project.refuses("run", recipe)["grpo.rewards[0].name"]
    assert "say --allow-code" in project.refuses("plan", recipe)["grpo.rewards[0].name"]
    assert project.says("plan", recipe, "--allow-code")["problems"] == []


def broken_reader(folder: Path) -> Path:
    """Return a copy of the built-in model whose weights break off."""
    shutil.copytree(ROOT / "vlmrecipes" / "models" / "reader", folder)
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    return folder


def test_a_run_that_fails_leaves_a_record_that_says_why(project: Project) -> None:
    reader = broken_reader(project.folder / "reader")
    recipe = changed(project, "broken.toml", ('"builtin:reader"', json.dumps(str(reader))))
    found = project.says("run", recipe, *SETTINGS, "--openlineage", "events.jsonl", code=1)
    folder = max(project.runs.iterdir())
    assert folder.name in found["error"]
    events = [json.loads(line) for line in (project.folder / "events.jsonl").read_text().splitlines()]
    assert [event["eventType"] for event in events] == ["START", "FAIL"]
    assert "its weights cannot be loaded" in events[1]["run"]["facets"]["errorMessage"]["message"]
    assert "--resume" in found["error"]
    left = record.read(folder)
    assert left["status"] == "failed"
    assert "its weights cannot be loaded" in left["error"]
    assert record.check_seal(folder) == []
    assert (folder / "report.html").is_file()
    assert next(run for run in project.says("runs", "list")["runs"] if run["run"] == folder.name)["status"] == "failed"


def test_a_killed_run_is_resumed_and_ends_with_the_same_bytes(project: Project) -> None:
    before = set(project.runs.iterdir())
    command = [sys.executable, "-m", "vlmrecipes", "run", RECIPE, *SETTINGS]
    log = (project.folder / "killed.txt").open("w")
    with log, subprocess.Popen(command, cwd=project.folder, env=environment(), stdout=log, stderr=log) as one:
        try:
            saved = until(lambda: list(project.runs.glob("*/checkpoints/checkpoint-2")) or one.poll() is not None, 240)
            jobs = children(one.pid)
        finally:
            one.send_signal(signal.SIGKILL)
    assert saved
    assert len(jobs) == 1, (project.folder / "killed.txt").read_text()
    assert until(lambda: not state(jobs[0]), 5), "the training process outlives the run by more than 5 s"
    (folder,) = set(project.runs.iterdir()) - before
    assert not (folder / "trained.json").exists()
    assert project.says("runs", "show", "latest")["status"] == "interrupted"
    assert dies_when_it_has_trained(project, folder)
    assert not (folder / "trained.json").exists()
    found = project.says("run", "--resume", "latest")
    assert (found["run"], found["status"]) == (folder.name, "complete")
    assert record.check_seal(folder) == []
    assert found["metrics"] == project.run["metrics"]
    name = "adapter_model.safetensors"
    assert Path(found["adapter"], name).read_bytes() == Path(project.run["adapter"], name).read_bytes()
    assert json.loads((folder / "trained.json").read_text())["samples_seen"] < STEPS * 4, "from the checkpoint on"
    again = project.says("run", "--resume", "latest")
    assert again == found, "a complete run is left as it is"


DYING = """
import os, signal, sys
from pathlib import Path
from vlmrecipes import job
from vlmrecipes.records import atomic
write = atomic.write_bytes
def dying(path, data):
    if path.name == "trained.json":
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, data)
atomic.write_bytes = dying
job.main(Path(sys.argv[1]))
"""


def dies_when_it_has_trained(project: Project, folder: Path) -> bool:
    """Go on with the training, and end its process just before it writes down that it is done."""
    command = [sys.executable, "-c", DYING, str(folder)]
    with subprocess.Popen(command, cwd=project.folder, env=environment(), stdin=subprocess.PIPE) as one:
        return one.wait(240) == -signal.SIGKILL


def test_a_revision_that_is_set_is_that_of_the_model_that_is_scored(project: Project) -> None:
    words = ("evaluate", RECIPE, "--model", "builtin:reader", "--set", "model.revision=main")
    assert "is a folder and has no revision" in project.refuses(*words)["model.id"]


def test_a_resumed_run_cannot_be_told_other_settings(project: Project) -> None:
    words = ("run", "--resume", "latest", "--set", "train.steps=9", "--data", "other@1")
    assert "--data, --set: a resumed run goes on as it was planned" in project.refuses(*words)["--resume"]


def test_code_from_a_repository_is_run_only_when_the_command_line_says_so(project: Project, tmp_path: Path) -> None:
    trust = ("--set", "model.trust_remote_code=true")
    for verb in ("plan", "run"):
        assert "say --trust-remote-code" in project.refuses(verb, RECIPE, *trust)["model.trust_remote_code"]
    shutil.copytree(project.folder / ".vlmrecipes", tmp_path / "store")
    folder = tmp_path / "store" / "runs" / str(project.run["run"])
    plan = (folder / "plan.json").read_text()
    (folder / "plan.json").write_text(plan.replace('"trust_remote_code": false', '"trust_remote_code": true'))
    store = ("--store", tmp_path / "store")
    for words in (("run", "--resume", folder.name), ("runs", "verify", folder.name, "--regenerate", 1)):
        assert "say --trust-remote-code" in project.refuses(*words, *store)["model.trust_remote_code"]


def test_a_run_is_reproduced_from_its_record_with_the_same_metrics(project: Project) -> None:
    found = project.says("runs", "reproduce", project.run["run"])
    assert (found["ok"], found["equal"], found["environment"]) == (True, True, [])
    assert found["plan"]["equal"]
    assert found["plan"]["differences"] == []
    assert found["predictions"] == {"n": 2 * SCORED, "equal": 2 * SCORED}
    for model, metrics in project.run["metrics"].items():
        for name, told in metrics.items():
            assert found["metrics"][model][name]["found"] == told["value"]
    again = project.runs / found["run"]
    assert record.read(again)["parents"] == [{"run": project.run["run"], "as": "reproduction"}]
    name = "adapter/adapter_model.safetensors"
    assert (again / name).read_bytes() == (project.run_folder / name).read_bytes()


def test_a_grid_is_a_record_each_and_goes_on_after_one_that_fails(project: Project) -> None:
    reader = broken_reader(project.folder / "cut")
    small = ("--set", "train.batch_size=1", "--set", "eval.limit=2", "--set", "eval.baseline=false")
    found = project.says("run", RECIPE, *small, "--grid", f"model.id={reader},builtin:reader", "train.steps=1", code=1)
    failed, whole = found["runs"]
    assert [failed["status"], whole["status"]] == ["failed", "complete"]
    assert "its weights cannot be loaded" in failed["error"]
    assert whole["settings"] == ["model.id=builtin:reader", "train.steps=1"]
    assert (found["best"], found["leaderboard"]) == (whole["run"], {}), "one run makes no ranks"
    sealed = record.read(project.runs / whole["run"])
    assert sealed["sweep"] == {"id": found["sweep"], "place": 2, "settings": whole["settings"]}
    assert sealed["recipe"]["resolved"]["train"]["steps"] == 1
    assert sealed["metrics"]["tuned"] == whole["metrics"]
    listed = project.says("runs", "list", "--where", f"sweep = '{found['sweep']}'")["runs"]
    assert {run["run"] for run in listed} == {failed["run"], whole["run"]}


def test_a_grid_is_planned_whole_before_anything_is_run(project: Project) -> None:
    found = project.refuses("run", RECIPE, "--grid", "lora.r=8,none", "model.max_length=16,2048")
    assert "(with lora.r=none model.max_length=16" in found["lora.r"]
    assert "(with lora.r=8 model.max_length=16)" in found["model.max_length"]
    assert "one recipe at a time" in project.refuses("run", RECIPE, "other.toml")[""]


def test_a_search_draws_tells_failures_and_goes_on_where_it_was(project: Project) -> None:
    reader = broken_reader(project.folder / "searched")
    small = ("--set", "train.batch_size=1", "--set", "eval.limit=2", "--set", "eval.baseline=false")
    words = ("run", RECIPE, *small, "--set", "train.seed=0", "--search", 3, f"model.id={reader},builtin:reader")
    before = set(project.runs.iterdir())
    found = project.says(*words, "train.steps=1", code=1)
    assert len(set(project.runs.iterdir()) - before) == 2, "three draws of two choices: the third has its score already"
    whole, failed = found["runs"]
    assert [whole["status"], failed["status"]] == ["complete", "failed"]
    assert "its weights cannot be loaded" in failed["error"]
    sealed = record.read(project.runs / whole["run"])
    assert sealed["sweep"] == {
        "id": found["sweep"],
        "place": 1,
        "settings": ["model.id=builtin:reader", "train.steps=1"],
    }
    assert (found["best"], found["leaderboard"], found["refused"]) == (whole["run"], {}, [])

    again = ("--resume", found["sweep"])
    assert project.says(*words, "train.steps=1", *again, code=1) == found
    cut = sealed | {"status": "interrupted", "seal": None, "outputs": []}
    (project.runs / whole["run"] / record.NAME).write_bytes(record.rendered(cut))
    assert project.says(*words, "train.steps=1", *again, code=1) == found, "the same run, finished"
    assert record.check_seal(project.runs / whole["run"]) == []
    assert "not what this recipe" in project.refuses(*words, "train.steps=2", *again)[found["sweep"]]
    assert (
        "not what this recipe" in project.refuses(*words, "train.steps=1", "--set", "lora.r=4", *again)[found["sweep"]]
    )


def test_draws_that_cannot_be_planned_together_are_refused_and_told(project: Project) -> None:
    ranges = ("train.learning_rate=1e-5..1e-3", "lora.vision=true,false", "lora.language=false,true")
    settings = (*SETTINGS, "--set", "lora.projector=off", "--set", "train.seed=2")
    before = sorted(project.runs.iterdir())
    found = project.says("run", RECIPE, *settings, "--search", 1, *ranges, code=1)
    assert sorted(project.runs.iterdir()) == before
    (refused,) = found["refused"]
    rate, *rest = refused["settings"]
    assert 1e-5 <= float(rate.removeprefix("train.learning_rate=")) <= 1e-3
    assert rest == ["lora.vision=false", "lora.language=false"]
    assert "nothing would be trained" in refused["error"]
    assert (found["runs"], found["best"]) == ([], None)


def test_a_search_that_means_nothing_is_told(project: Project) -> None:
    search = ("run", RECIPE, "--search")
    assert "say what is searched" in project.refuses(*search, 3)[""]
    assert "0 trials" in project.refuses(*search, 0, "lora.r=8,16")[""]
    assert "(with lora.r=0" in project.refuses(*search, 3, "lora.r=0..8")["lora.r"]
    assert "these settings change it: cer, wer" in project.refuses(*search, 3, 'eval.metrics=["cer"],["wer"]')[""]
    assert "no search 'x'" in project.refuses(*search, 3, "lora.r=8,16", "--resume", "x")[""]
    assert "takes a RECIPE" in project.refuses("run", "--search", 3)[""]
    assert "instead of --grid" in project.refuses(*search, 3, "--grid", "lora.r=8,16")[""]
