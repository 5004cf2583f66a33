"""Sets in the hub's format."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reading import good, problems, rows

import datasets
from vlmrecipes.data.declaration import Declaration
from vlmrecipes.data.images import image_bytes
from vlmrecipes.errors import InputError
from vlmrecipes.ingestion import ingest
from vlmrecipes.tables import parse

SOURCE = 'type = "hub"\npath = "local"\nimage = "{image}"\nprompt = "What is it?"\nanswer = "{label}"\n'
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((20 + number, 16)).save(buffer, "PNG")
    return buffer.getvalue()


def made(count: int = 4) -> datasets.Dataset:
    images = [{"bytes": png(number), "path": f"{number}.png"} for number in range(count)]
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "views": datasets.List(datasets.Image()),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "tags": datasets.List({"kind": datasets.ClassLabel(names=["a", "b"])}),
            "n": datasets.Value("int64"),
        }
    )
    rows = {
        "image": images,
        "views": [[images[0], image] for image in images],
        "label": [number % 2 for number in range(count)],
        "tags": [[{"kind": 1}]] * count,
        "n": list(range(count)),
    }
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A folder as the hub holds it: Parquet with the features in its metadata, two splits."""
    (tmp_path / "local" / "data").mkdir(parents=True)
    for part, count in (("train", 4), ("test", 2)):
        made(count).to_parquet(str(tmp_path / "local" / "data" / f"{part}-00000-of-00001.parquet"))
    return tmp_path


def test_rows_keep_encoded_images_and_names_of_labels(local: Path) -> None:
    found = good(local, SOURCE)
    assert [(row.key, row.references) for row in found] == [
        (f"local/train:{number}", (("cat", "dog")[number % 2],)) for number in range(4)
    ]
    assert [image_bytes(row.images[0], local) for row in found] == [png(number) for number in range(4)]


def test_another_split_several_images_and_nested_labels(local: Path) -> None:
    source = SOURCE.replace('"{image}"', '"{views}"').replace("{label}", "{tags.kind}") + 'part = "test"\nkey = "{n}"\n'
    found = good(local, source)
    assert [row.key for row in found] == ["0", "1"]
    assert [image_bytes(image, local) for image in found[1].images] == [png(0), png(1)]
    assert found[0].references == ("b",)


def test_a_set_written_by_save_to_disk_is_read(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": made(3)}).save_to_disk(str(tmp_path / "local"))
    assert [row.references[0] for row in good(tmp_path, SOURCE)] == ["cat", "dog", "cat"]
    assert "source[0].path" in problems(tmp_path, SOURCE + 'part = "none"\n')


def test_paths_of_a_local_set_stay_inside_it(local: Path) -> None:
    (local / "secret.png").write_bytes(png(1))
    rows_ = {
        "image": [{"bytes": None, "path": path} for path in ("../secret.png", str(local / "secret.png"))],
        "label": [0, 1],
    }
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    schema = features.arrow_schema
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(rows_, schema=schema), local / "local" / "data" / "train-00000-of-00001.parquet")
    for row in good(local, SOURCE):
        with pytest.raises(Exception, match="outside the declared root"):
            image_bytes(row.images[0], local / "local")


def test_what_is_not_there_is_told(local: Path) -> None:
    (local / "nothing").mkdir()
    told = problems(
        local,
        SOURCE.replace("local", "none"),
        SOURCE + 'part = "validation"\n',
        SOURCE + 'config = "german"\n',
        SOURCE.replace("{label}", "{caption}"),
        SOURCE.replace("local", "nothing"),
    )
    assert list(told) == [f"source[{n}].{'answer' if n == 3 else 'path'}" for n in range(5)]
    assert "validation" in told["source[1].path"]


def test_a_damaged_file_is_told(local: Path) -> None:
    path = local / "local" / "data" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match="cannot be"):
        rows(local, SOURCE)


@pytest.mark.parametrize(
    ("keys", "key", "told"),
    [
        ({"repo": "me/set"}, "source[0].revision", "must be a commit of me/set, 40 hex digits"),
        ({"repo": "me/set", "revision": "main"}, "source[0].revision", "found 'main'"),
        ({"repo": "me/set", "revision": COMMIT, "path": "x"}, "source[0].revision", "give either `path`"),
        ({}, "source[0].revision", "give either `path`"),
        ({"path": "x", "revision": COMMIT}, "source[0].revision", "leave it out"),
        ({"repo": "../x/y", "revision": COMMIT}, "source[0].repo", "pattern"),
    ],
)
def test_a_floating_revision_is_a_problem_of_the_declaration(keys: dict[str, Any], key: str, told: str) -> None:
    source = {"type": "hub", "prompt": "p", "answer": "a", **keys}
    with pytest.raises(InputError) as caught:
        parse(Declaration, {"name": "set", "source": [source]}, "set.toml")
    assert key in {problem.key for problem in caught.value.problems}
    assert told in str(caught.value)


def test_a_set_is_ingested(local: Path) -> None:
    (local / "set.toml").write_text(f'name = "set"\n[[source]]\n{SOURCE}')
    result = ingest(local / "set.toml", store=str(local / "store"), workers=1)
    assert (result["rows"]["samples"], result["images"]) == (4, 4)
