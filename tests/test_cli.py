from __future__ import annotations

import json
import math
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from command import ROOT, environment, one_object, vlmrecipes

from vlmrecipes.cli.app import app

SHIPPED = sorted([*ROOT.glob("recipes/*.toml"), *ROOT.glob("datasets/*.toml")])
HEAVY = {"torch", "transformers", "lancedb", "pyarrow"}
LEAST, TURNS = 6, 40
NOTHING = (
    "import pydantic, typer; type('T', (pydantic.BaseModel,), {'__annotations__': {'n': int}}); typer.run(lambda: None)"
)


def commands(group: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every verb, those of groups included."""
    for name, command in group.commands.items():
        yield (*words, name)
        if hasattr(command, "commands"):
            yield from commands(command, *words, name)


VERBS = sorted(commands(typer.main.get_command(app)))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "project"
    assert vlmrecipes("init", folder).returncode == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def imported(*words: object, cwd: Path = ROOT) -> set[str]:
    """Return the top packages that a verb, and every process it starts, imports."""
    done = vlmrecipes(*words, cwd=cwd, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE)}


def cpu_seconds(*command: object, kept: Path) -> float:
    """Return the processor time of one process that keeps its bytecode in `kept`, as an installed program has it."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    own = environment(PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=str(kept))
    before = spent()
    assert subprocess.run([str(word) for word in command], capture_output=True, check=False, env=own).returncode == 0
    return spent() - before


def test_every_verb_tells_what_it_takes() -> None:
    assert {("init",), ("check",), ("run",), ("snapshots", "list"), ("runs", "show")} <= set(VERBS)
    everything = vlmrecipes("--help")
    assert everything.returncode == 0
    for verb in VERBS:
        done = vlmrecipes(*verb, "--help")
        assert done.returncode == 0, verb
        assert f"{' '.join(verb)} [" in done.stdout or f"{' '.join(verb)} COMMAND" in done.stdout, verb
        assert verb[0] in everything.stdout
        if verb not in {("runs",), ("snapshots",)}:
            assert "--json" in done.stdout, verb


def test_every_verb_that_the_readme_names_exists() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    code = "\n".join([*re.findall(r"```\w*\n(.*?)```", text, re.DOTALL), *re.findall(r"(?<!`)`([^`\n]+)`", text)])
    named = re.findall(r"(?:^|[\s/$;&|])vlmrecipes ([a-z]+)(?: ([a-z]+))?", code, re.MULTILINE)
    groups = {verb[0] for verb in VERBS if len(verb) > 1}
    unknown = [
        f"{first} {second}".rstrip()
        for first, second in named
        if (first,) not in VERBS or (first in groups and second and (first, second) not in VERBS)
    ]
    assert named
    assert not unknown


def test_every_public_name_can_be_imported() -> None:
    import vlmrecipes as package

    assert {"run_recipe", "ingest", "score", "InputError"} <= set(package.__all__)
    assert [name for name in package.__all__ if getattr(package, name, None) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = package.nonsense


def test_no_public_name_is_hidden_by_a_module_of_that_name() -> None:
    import vlmrecipes as package

    modules = {path.stem for path in (ROOT / "vlmrecipes").iterdir()}
    assert not modules & set(package.__all__)


def test_what_is_shipped_has_no_problems() -> None:
    assert len(SHIPPED) >= 8
    assert one_object(vlmrecipes("check", *SHIPPED, "--json")) == {"problems": []}
    assert vlmrecipes("check", *SHIPPED).stdout == f"{len(SHIPPED)} files, no problems\n"


DECLARATION = """
name = "Not A Name"
licence = "MIT"
[[source]]
type = "jsnl"
[[source]]
type = "csv"
path = 3
[split]
eval = 2
"""
RECIPE = """
name = "broken"
version = "1.0"
[data]
train = 3
[model]
idd = "x"
[train]
batch_size = 0
[eval]
metrics = ["cer"]
"""
METRICS = """
name = "metrics"
version = "1.0.0"
[data]
train = "a"
[model]
id = "x"
[train]
steps = 1
[eval]
metrics = ["werr", "cer/ws@99", "cer"]
"""
BROKEN: dict[str, tuple[bytes, list[str]]] = {
    "declaration": (
        DECLARATION.encode(),
        ["name", "source[0]", "source[1].answer", "source[1].path", "split.eval", "licence"],
    ),
    "recipe": (RECIPE.encode(), ["version", "data.train", "model.id", "model.idd", "train.batch_size"]),
    "metrics": (METRICS.encode(), ["eval.metrics[0]", "eval.metrics[1]"]),
    "empty": (b"", ["name", "version", "data", "model", "train", "eval"]),
    "no-source": (b'name = "x"\nsource = 3', ["source"]),
    "binary": (b"\xff\xfe\x00", [""]),
    "not-toml": (b"name = [", [""]),
    "deep": (b"a = " + b"[" * 5000, [""]),
    "digits": (b"a = " + b"9" * 5000, [""]),
    "large": (b"#" * (1 << 20) + b"\n", [""]),
}


def test_check_tells_every_problem_of_every_file(tmp_path: Path) -> None:
    for name, (data, _) in BROKEN.items():
        (tmp_path / f"{name}.toml").write_bytes(data)
    (tmp_path / "folder.toml").mkdir()
    files = [f"{name}.toml" for name in (*BROKEN, "folder", "absent")]
    found = one_object(vlmrecipes("check", *files, "--json", cwd=tmp_path), 2)
    assert set(found) == {"problems"}
    assert all(set(problem) == {"file", "key", "problem"} and problem["problem"] for problem in found["problems"])
    keys = {name: [item["key"] for item in found["problems"] if item["file"] == name] for name in files}
    assert keys == {f"{name}.toml": wanted for name, (_, wanted) in BROKEN.items()} | {
        "folder.toml": [""],
        "absent.toml": [""],
    }
    told = {(problem["file"], problem["key"]): problem["problem"] for problem in found["problems"]}
    assert "did you mean 'license'?" in told["declaration.toml", "licence"]
    assert "did you mean 'id'?" in told["recipe.toml", "model.idd"]
    assert "did you mean 'wer'?" in told["metrics.toml", "eval.metrics[0]"]


def test_check_prints_one_line_a_problem(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    done = vlmrecipes("check", "recipe.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert lines[0] == "recipe.toml: version: must be three numbers as in 1.0.0, found '1.0'"


def test_schemas_name_the_keys() -> None:
    declaration, recipe = (one_object(vlmrecipes("schema", kind)) for kind in ("declaration", "recipe"))
    assert set(declaration["properties"]) == {
        *("name", "description", "license", "max_dropped"),
        *("source", "prepare", "dedup", "split"),
    }
    assert set(recipe["properties"]) == {
        *("name", "version", "description"),
        *("data", "model", "lora", "train", "grpo", "eval", "export"),
    }
    assert {"max_length", "load_in"} <= set(recipe["$defs"]["Model"]["properties"])
    assert "JsonlSource" in declaration["$defs"]
    for schema in (declaration, recipe):
        assert (schema["type"], schema["additionalProperties"]) == ("object", False)
        assert set(schema["required"]) <= set(schema["properties"])
        known = {f"#/$defs/{name}" for name in schema["$defs"]}
        assert set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(schema))) <= known
    assert "there are: declaration, recipe" in one_object(vlmrecipes("schema", "nonsense"), 2)["error"]


def test_light_verbs_load_nothing_heavy(tmp_path: Path) -> None:
    assert "vlmrecipes" in imported("--help")
    assert not HEAVY & imported("--help")
    assert not HEAVY & imported("check", *SHIPPED)
    assert not HEAVY & imported("schema", "recipe")
    (tmp_path / "rows.jsonl").write_text('{"prediction": "a", "reference": "b"}')
    assert not HEAVY & imported("score", tmp_path / "rows.jsonl", "--metrics", "wer,cer,anls")


def test_verbs_about_data_load_no_torch(project: Path) -> None:
    assert "torch" not in imported("ingest", "datasets/example.toml", "--workers", "2", cwd=project)
    assert "torch" not in imported("snapshots", "list", cwd=project)
    assert "torch" not in imported("snapshots", "show", "example@1", cwd=project)
    assert "torch" not in imported("runs", "list", cwd=project)


@pytest.mark.parametrize(("words", "times"), [(("--help",), 1.5), (("check", *SHIPPED), 2.0)], ids=["help", "check"])
def test_answers_at_once(tmp_path: Path, words: tuple[object, ...], times: float) -> None:
    """Under 0.3 s where a program that does nothing with the same libraries takes 0.16 s; in turns, as machines vary.

    A machine that is busy for seconds may hit one side alone: the best of LEAST to TURNS turns.
    """
    here = [sys.executable, "-m", "vlmrecipes", *words]
    ours = nothing = math.inf
    for turn in range(TURNS):
        ours = min(ours, cpu_seconds(*here, kept=tmp_path))
        nothing = min(nothing, cpu_seconds(sys.executable, "-c", NOTHING, kept=tmp_path))
        if turn >= LEAST and ours < times * nothing:
            break
    assert ours < times * nothing


def test_init_writes_a_project_that_passes_check(tmp_path: Path) -> None:
    found = one_object(vlmrecipes("init", "new/project", "--json", cwd=tmp_path))
    written = contents(tmp_path / "new" / "project")
    assert {f"new/project/{name}" for name in written} == set(found["files"])
    assert {"datasets/example.toml", "recipes/example.toml", "data/rows.jsonl"} <= set(written)
    files = [name for name in found["files"] if name.endswith(".toml")]
    assert one_object(vlmrecipes("check", *files, "--json", cwd=tmp_path)) == {"problems": []}


def test_init_never_writes_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "example.toml").write_text("mine")
    before = contents(tmp_path)
    found = one_object(vlmrecipes("init", "--json", cwd=tmp_path), 2)
    assert "nothing was written" in found["error"]
    assert contents(tmp_path) == before


def test_init_again_changes_nothing(project: Path) -> None:
    before = contents(project)
    assert "there already" in one_object(vlmrecipes("init", project, "--json"), 2)["error"]
    assert contents(project) == before


def test_init_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    found = one_object(vlmrecipes("init", "file", "--json", cwd=tmp_path), 2)
    assert found["problems"][0]["file"] == "file"
    assert (tmp_path / "file").read_text() == "mine"


def test_run_wants_a_recipe_or_a_run(tmp_path: Path) -> None:
    for words in (("run",), ("run", "recipe.toml", "--resume", "latest")):
        found = one_object(vlmrecipes(*words, "--json", cwd=tmp_path), 2)
        assert found["error"] == "give either a RECIPE or --resume RUN"
    found = one_object(vlmrecipes("run", "recipe.toml", "--force", "--json", cwd=tmp_path), 2)
    assert found["problems"][0]["key"] == "--force"
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    for words in (
        ("ingest", "absent.toml"),
        ("plan", "absent.toml"),
        ("run", "absent.toml"),
        ("snapshots", "show", "absent@1"),
        ("runs", "show", "absent"),
        ("report", "absent"),
        ("run", "--resume", "absent"),
    ):
        done = vlmrecipes(*words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert len(done.stderr.splitlines()) == 1, words
        assert "absent" in done.stderr


def test_lists_of_an_empty_store_are_empty(tmp_path: Path) -> None:
    assert one_object(vlmrecipes("snapshots", "list", "--json", cwd=tmp_path)) == {"snapshots": []}
    assert one_object(vlmrecipes("runs", "list", "--json", cwd=tmp_path)) == {"runs": []}
    assert list(tmp_path.iterdir()) == []


def test_doctor_looks_at_packages_device_model_and_store(tmp_path: Path) -> None:
    done = vlmrecipes("doctor", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)["checks"]
    names = {item["check"] for item in found}
    assert {"python", "device", "builtin:reader", "store"} <= names
    assert "torch" in names or "vlmrecipes" in names, "packages, or that they cannot be compared"
    assert all(set(item) == {"check", "state", "detail"} and item["detail"] for item in found)
    states = {item["state"] for item in found}
    assert states <= {"ok", "warning", "error"}
    assert done.returncode == int("error" in states)
