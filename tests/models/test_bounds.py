"""Sizes of images taken from a model's image processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlmrecipes.data.declaration import Declaration, read_declaration
from vlmrecipes.data.prepare import origin_of
from vlmrecipes.data.prepare.resize import target_size
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.errors import InputError
from vlmrecipes.ingestion import ingest
from vlmrecipes.models.bounds import bounds_of, with_bounds
from vlmrecipes.models.catalog import BUILTINS, resolve
from vlmrecipes.models.load import load_processor

QWEN = {"image_processor_type": "Qwen2VLImageProcessorFast", "patch_size": 14, "merge_size": 2}


def declared(folder: Path, prepare: str) -> Path:
    file = folder / "set.toml"
    source = '[[source]]\ntype = "folder"\npath = "images"\nimage = "{path}"\nprompt = "?"\nanswer = "{name}"\n'
    file.write_text(f'name = "set"\n{source}[prepare]\n{prepare}\n', "utf-8")
    return file


def resolved(folder: Path, prepare: str) -> Declaration:
    file = declared(folder, prepare)
    return with_bounds(read_declaration(file), file)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (QWEN | {"max_pixels": 12845056, "min_pixels": 3136}, (None, 12845056, 28)),
        (QWEN | {"size": {"longest_edge": 16777216, "shortest_edge": 65536}, "patch_size": 16}, (None, 16777216, 32)),
        ({"image_processor_type": "PixtralImageProcessor", "size": {"longest_edge": 1024}}, (1024, None, 1)),
        ({"image_processor_type": "Gemma3ImageProcessor", "size": {"height": 896, "width": 896}}, (896, None, 1)),
        ({"size": {"height": 560, "width": 560}, "max_image_tiles": 4}, (2240, None, 1)),
        ({"size": {"height": 448, "width": 448}, "crop_to_patches": True, "max_patches": 12}, (5376, None, 1)),
        ({"size": {"shortest_edge": 336}, "image_grid_pinpoints": [[336, 672], [1008, 336]]}, (1008, None, 1)),
        ({"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}, None),
        ({"image_processor_type": "Glm4vImageProcessor", "patch_size": 14, "merge_size": 2, "size": {}}, None),
        ({"size": 224}, None),
        ({"size": {"longest_edge": "1024"}}, None),
        ({}, None),
    ],
)
def test_bounds_are_read_from_the_settings_of_image_processors(settings: dict[str, Any], wanted: Any) -> None:
    keys = ("max_side", "max_pixels", "multiple_of")
    assert bounds_of(settings) == (dict(zip(keys, wanted, strict=True)) if wanted else None)


def test_the_built_in_model_takes_images_prepared_for_it_as_they_are(tmp_path: Path) -> None:
    policy = resolved(tmp_path, 'for_model = "builtin:reader"').prepare
    processor = load_processor(resolve("builtin:reader", weights=False)).image_processor
    for given in ((2000, 1500), (1500, 300), (431, 299), (800, 2000)):
        size = target_size(*given, policy)
        grid = processor(images=[Image.new("RGB", size)], return_tensors="pt")["image_grid_thw"].tolist()
        assert grid == [[1, size[1] // 14, size[0] // 14]]


def test_keys_given_beside_the_model_stay(tmp_path: Path) -> None:
    policy = resolved(tmp_path, 'for_model = "builtin:reader"\nmax_side = 280\nmin_side = 9').prepare
    assert (policy.max_side, policy.min_side, policy.max_pixels, policy.multiple_of) == (280, 9, 100352, 28)


def test_a_folder_is_found_beside_the_declaration_and_its_name_does_not_matter(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "one" / "preprocessor_config.json").write_text(json.dumps(QWEN | {"max_pixels": 50176}))
    (tmp_path / "two" / "processor_config.json").write_text(
        json.dumps({"image_processor": QWEN | {"max_pixels": 50176}})
    )
    policies = [resolved(tmp_path, f'for_model = "{name}"').prepare for name in ("one", "two")]
    assert [policy.max_pixels for policy in policies] == [50176, 50176]
    assert len({origin_of("x", None, policy) for policy in policies}) == 1


@pytest.mark.parametrize(
    ("files", "name", "problem"),
    [
        ({}, "nobody/nothing-here", "not in the local cache.*hf download nobody/nothing-here.*max_side"),
        ({}, "builtin:raeder", "did you mean `builtin:reader`"),
        ({"config.json": "{}"}, "model", "no preprocessor_config.json: write the bounds by hand"),
        ({"config.json": "{}", "preprocessor_config.json": "{"}, "model", "not JSON; write the bounds by hand"),
        (
            {"config.json": "{}", "preprocessor_config.json": '{"image_processor_type": "CLIPImageProcessor"}'},
            "model",
            "CLIPImageProcessor tell no bounds that are understood here; write",
        ),
    ],
)
def test_what_tells_no_bounds_is_a_problem_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], name: str, problem: str
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "model").mkdir()
    for file, text in files.items():
        (tmp_path / "model" / file).write_text(text)
    with pytest.raises(InputError, match=rf"set.toml: prepare.for_model: .*{problem}"):
        resolved(tmp_path, f'for_model = "{name}"')


def test_the_manifest_holds_the_bounds_that_were_used(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.effect_noise((900, 640), 60).save(tmp_path / "images" / "a.png")
    file = declared(tmp_path, 'for_model = "builtin:reader"')
    ingest(file, store=str(tmp_path / "store"), workers=1)
    snapshot = open_snapshot(str(tmp_path / "store"), "set")
    used = snapshot.manifest["declaration"]["prepare"]
    assert used["for_model"] == "builtin:reader"
    assert (used["max_side"], used["max_pixels"], used["multiple_of"]) == (None, 100352, 28)
    settings = json.loads((BUILTINS["reader"] / "preprocessor_config.json").read_text())
    assert used["max_pixels"] == settings["size"]["longest_edge"]
    table = snapshot.columns("images", ("width", "height"))
    assert [(row["width"], row["height"]) for row in table.to_pylist()] == [(364, 252)]
