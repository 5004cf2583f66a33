from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vlmrecipes.masking import without_secrets
from vlmrecipes.records.environment import command, environment


def test_the_environment_is_plain_json_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "VLMRECIPES_API_KEY",
        "VLMRECIPES_TOKEN",
        "VLMRECIPES_DB_PASSWORD",
    ):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.delenv("VLMRECIPES_DATA", raising=False)
    monkeypatch.setenv("VLMRECIPES_STORE", "s3://me:hunter2@bucket/path")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = environment()
    assert "hunter2" not in json.dumps(found)
    assert found["variables"] == {"OMP_NUM_THREADS": "1", "VLMRECIPES_STORE": "s3://bucket/path"}
    assert found["cpu"]["count"] >= 1
    assert list(found["packages"]) == sorted(found["packages"], key=str.lower)


def test_the_code_revision_has_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment()["git"] is None
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for step in (
        ("init", "-q"),
        (*identity, "commit", "-q", "--allow-empty", "-m", "x"),
        ("remote", "add", "origin", "https://me:hunter2@example.org/repo.git"),
    ):
        subprocess.run(["git", *step], check=True)
    found = environment()["git"]
    assert (found["dirty"], found["remote"]) == (False, "https://example.org/repo.git")
    (tmp_path / "new").write_text("x")
    assert environment()["git"]["dirty"] is True


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["--hf-token", "abc", "--x", "1"], ["--hf-token", "***", "--x", "1"]),
        (["--api-key=abc"], ["--api-key=***"]),
        (["--set", "eval.max_new_tokens=64"], ["--set", "eval.max_new_tokens=64"]),
        (["--set", "hub.token=abc"], ["--set", "hub.token=***"]),
        (["--store", "s3://me:pw@host/x?X-Amz-Signature=abc&a=1"], ["--store", "s3://host/x?X-Amz-Signature=***&a=1"]),
    ],
)
def test_a_recorded_command_keeps_no_secret(given: list[str], kept: list[str]) -> None:
    assert command(["/home/me/bin/vlmrecipes", *given]) == ["vlmrecipes", *kept]


def test_known_token_shapes_are_hidden_anywhere() -> None:
    assert without_secrets("denied for hf_AbCdEfGhIjKlMnOpQr.") == "denied for ***."
    assert command([]) == []
    assert command(["/x/vlmrecipes/__main__.py"]) == ["vlmrecipes"]


def test_records_load_nothing_heavy() -> None:
    code = "import sys, vlmrecipes.records.ledger, vlmrecipes.records.report as r; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "pyarrow", "polars", "PIL", "lancedb", "jinja2", "numpy", "rapidfuzz"} & set(loaded)
