"""Damage of every kind is found, on a real store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import one_object, vlmrecipes
from curated import declared, ingested, project

from vlmrecipes.data.labels import find_label, labels, remove_label, set_label
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.data.store import Store
from vlmrecipes.data.verify import verify
from vlmrecipes.errors import InputError, StoreError

RECIPE = """
name = "pages"
version = "1.0.0"
data.train = "pages"
model.id = "builtin:reader"
lora.r = 4
train.steps = 1
eval.metrics = ["cer"]
"""


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    ingested(declared(folder / "a", project(folder / "a", 8)), folder / "store")
    return folder / "store"


@pytest.fixture
def store(frozen: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(frozen, tmp_path / "store"))


def verified(store: Path) -> dict[str, Any]:
    return verify(open_snapshot(str(store), "pages"))


def manifest_file(store: Path) -> Path:
    return store / "snapshots" / "pages" / "1.json"


def test_a_snapshot_is_as_it_was_frozen(store: Path) -> None:
    found = verified(store)
    assert found["ok"]
    assert found["problems"] == []
    assert (found["samples"], found["images"]) == (16, 8)


def test_a_flipped_bit_of_any_image_is_found(store: Path) -> None:
    snapshot = open_snapshot(str(store), "pages")
    key = snapshot.samples()[3].images[0]
    data = snapshot.reader().read([key])[0]
    files = [path for path in (store / "images.lance" / "data").iterdir() if data in path.read_bytes()]
    assert len(files) == 1
    content = bytearray(files[0].read_bytes())
    content[content.index(data) + len(data) // 2] ^= 1
    files[0].write_bytes(content)
    found = verified(store)
    assert not found["ok"]
    assert len(found["problems"]) == 1
    assert f"image {key}: its bytes have the SHA-256" in found["problems"][0]


@pytest.mark.parametrize("table", ["images", "samples-pages"])
def test_a_data_file_that_is_cut_or_gone_is_found(store: Path, table: str) -> None:
    out = store.parent / "out"
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:-20]), Path.unlink):
        for path in (store / f"{table}.lance" / "data").iterdir():
            damage(path)
        assert "cannot be read" in " ".join(verified(store)["problems"])
        done = vlmrecipes(
            "snapshots", "export", "pages@1", "--store", store, "--format", "parquet", "-o", out, "--json"
        )
        assert "cannot be read" in one_object(done, 1)["error"]
        assert not out.exists()


def _pointed(store: Path, role: str, table: Any) -> None:
    """Let the manifest name the newest version of a table, as one who covers his tracks would."""
    manifest = json.loads(manifest_file(store).read_text("utf-8"))
    at = manifest["tables"][role]
    table.checkout_latest()
    table.tags.update(at["tag"], table.version)
    at["version"] = table.version
    manifest_file(store).write_text(json.dumps(manifest), "utf-8")


def test_images_that_changed_places_are_found(store: Path) -> None:
    table, snapshot = Store(str(store)).images(), open_snapshot(str(store), "pages")
    one, other = (snapshot.samples()[place].images[0] for place in (0, -1))
    for old, new in ((one, "aside"), (other, one), ("aside", other)):
        table.update(where=f"key = '{old}'", values={"key": new})
    _pointed(store, "images", table)
    problems = [problem for problem in verified(store)["problems"] if problem.startswith("image ")]
    assert sorted(problems) == sorted(
        f"image {key}: its bytes have the SHA-256 {found}" for key, found in ((one, other), (other, one))
    )


def _remove_row(store: Path) -> str:
    table = Store(str(store)).samples("pages")
    table.delete(f"id = '{open_snapshot(str(store), 'pages').samples()[0].id}'")
    _pointed(store, "samples", table)
    return "samples: 15 found, the manifest says 16"


def _change_row(store: Path) -> str:
    table = Store(str(store)).samples("pages")
    key = open_snapshot(str(store), "pages").samples()[0].id
    table.update(where=f"id = '{key}'", values={"group": "other"})
    _pointed(store, "samples", table)
    return f"sample {key}: does not match its digest"


def _remove_image(store: Path) -> str:
    table = Store(str(store)).images()
    key = open_snapshot(str(store), "pages").samples()[0].images[0]
    table.delete(f"key = '{key}'")
    _pointed(store, "images", table)
    return f"image {key}: is not in the store"


def test_an_image_that_is_gone_is_never_left_out_in_silence(store: Path) -> None:
    _remove_image(store)
    with pytest.raises(StoreError, match=r"1 images of pages@1 are not in the store; `snapshots verify`"):
        open_snapshot(str(store), "pages").pictures(None, ("pixels",))
    recipe = store.parent / "recipe.toml"
    recipe.write_text(RECIPE, "utf-8")
    done = vlmrecipes("plan", recipe, "--store", store, "--json")
    assert "`snapshots verify` tells which" in one_object(done, 1)["error"]


def _remove_tag(store: Path) -> str:
    at = json.loads(manifest_file(store).read_text("utf-8"))["tables"]["drops"]
    Store(str(store)).drops("pages").tags.delete(at["tag"])
    return f"drops: tag {at['tag']} names version None, the manifest {at['version']}"


def _edit_license(store: Path) -> str:
    text = manifest_file(store).read_text("utf-8")
    manifest_file(store).write_text(text.replace('"license": "CC0-1.0"', '"license": "MIT"'), "utf-8")
    return "manifest: was changed after it was written: its seal does not match"


def _edit_counts(store: Path) -> str:
    text = manifest_file(store).read_text("utf-8")
    manifest_file(store).write_text(text.replace('"images": 8', '"images": 9'), "utf-8")
    return "images: 8 found, the manifest says 9"


@pytest.mark.parametrize("damage", [_remove_row, _change_row, _remove_image, _remove_tag, _edit_license, _edit_counts])
def test_tampering_is_found(store: Path, damage: Callable[[Path], str]) -> None:
    expected = damage(store)
    found = verified(store)
    assert not found["ok"]
    assert expected in found["problems"]


def test_the_verb_ends_with_1_when_something_is_wrong(store: Path) -> None:
    assert one_object(vlmrecipes("snapshots", "verify", "pages@1", "--store", store, "--json"))["ok"]
    _edit_license(store)
    assert not one_object(vlmrecipes("snapshots", "verify", "pages", "--store", store, "--json"), 1)["ok"]


def test_a_label_names_a_snapshot_wherever_a_number_does(store: Path) -> None:
    uri = str(store)
    ingested(declared(store.parent / "a", project(store.parent / "a", 3)), store)
    set_label(uri, "pages", 1, "paper")
    assert open_snapshot(uri, "pages@paper").name == "pages@1"
    assert open_snapshot(uri, "pages").name == "pages@2"
    assert labels(uri) == {"pages@1": ["paper"]}
    set_label(uri, "pages", 1, "paper")
    with pytest.raises(InputError, match="pages@paper is pages@1 already; --force moves it"):
        set_label(uri, "pages", 2, "paper")
    set_label(uri, "pages", 2, "paper", force=True)
    assert open_snapshot(uri, "pages@paper").name == "pages@2"
    with pytest.raises(InputError, match="a label begins with a letter"):
        set_label(uri, "pages", 1, "3")
    with pytest.raises(InputError, match="no snapshot 'pages@none'"):
        open_snapshot(uri, "pages@none")
    with pytest.raises(InputError, match="pages@1 has no label 'paper': it is on pages@2"):
        remove_label(uri, "pages", 1, "paper")
    remove_label(uri, "pages", 2, "paper")
    assert find_label(uri, "pages", "paper") is None
    with pytest.raises(InputError, match="has no label 'paper'"):
        remove_label(uri, "pages", 2, "paper")


def test_the_verb_tag(store: Path) -> None:
    found = one_object(vlmrecipes("snapshots", "tag", "pages", "paper", "--store", store, "--json"))
    assert found["labels"] == ["paper"]
    ingested(declared(store.parent / "a", project(store.parent / "a", 3)), store)
    wrong = one_object(vlmrecipes("snapshots", "tag", "pages@2", "paper", "--remove", "--store", store, "--json"), 2)
    assert wrong["problems"][0]["problem"] == "pages@2 has no label 'paper': it is on pages@1"
    listed = one_object(vlmrecipes("snapshots", "list", "--store", store, "--json"))
    assert [row["labels"] for row in listed["snapshots"]] == [["paper"], []]
    assert (
        one_object(vlmrecipes("snapshots", "show", "pages@paper", "--store", store, "--json"))["snapshot"] == "pages@1"
    )
