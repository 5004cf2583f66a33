from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import COMMIT, TOKEN, Hub, serving

from vlmrecipes.errors import InputError, RunError
from vlmrecipes.exports import hub, note


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import huggingface_hub.constants

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving(Hub()) as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield server


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# model\n")
    told = {"format": "merged_16bit", "run": "r1", "files": [{}], "parity": {"samples": 2}}
    (folder / note.NAME).write_text(json.dumps(told))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_byte_arrives_in_a_private_repository(there: Hub, export: Path) -> None:
    hub.check("me/model")
    done = hub.push(export, "me/model", public=False)
    assert done == {"repo": "me/model", "url": f"{there.url}/me/model", "commit": COMMIT}
    assert there.repos["me/model"] == contents(export)
    assert there.private["me/model"]


def test_an_earlier_export_is_replaced(there: Hub, export: Path) -> None:
    there.repos["me/model"] = {note.NAME: b"{}", "model-00001-of-00002.safetensors": b"old", ".gitattributes": b"x"}
    hub.check("me/model")
    hub.push(export, "me/model", public=True)
    assert there.repos["me/model"] == contents(export) | {".gitattributes": b"x"}


def test_a_repository_that_holds_something_else_is_refused(there: Hub) -> None:
    there.repos["me/thesis"] = {"thesis.tex": b"", "README.md": b""}
    with pytest.raises(InputError, match=r"me/thesis holds files that are no export \(thesis\.tex\)"):
        hub.check("me/thesis")
    there.repos["me/thesis"] = {"README.md": b"", ".gitattributes": b""}
    hub.check("me/thesis")


def test_an_upload_that_fails_leaves_the_folder_and_tells_the_way(there: Hub, export: Path) -> None:
    there.full = True
    with pytest.raises(RunError, match=r"is written, but not uploaded; `hf upload me/model .*507"):
        hub.push(export, "me/model", public=False)
    assert contents(export)


def test_no_token_a_wrong_one_and_no_network_are_told_before_any_work(
    there: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(RunError, match=r"nothing was exported: the hub takes nothing for me/model: Invalid user token"):
        hub.check("me/model")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(InputError, match="there is no token for the hub: run `hf auth login` or set HF_TOKEN"):
        hub.check("me/model")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        hub.check("me/model")
    assert not there.repos


def test_wrong_names_and_several_formats_are_told() -> None:
    problems = [each.problem for each in hub.problems("model", ["adapter", "gguf"])]
    assert problems == [
        "expected OWNER/NAME, found 'model'",
        "one format goes to one repository; export the others by themselves",
    ]
    assert hub.problems("", ["adapter", "gguf"]) == []
