import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlmrecipes.data.source_tables import SyntheticSource
from vlmrecipes.data.sources import synthetic
from vlmrecipes.data.sources.synthetic import columns, easy_vqa, open_generator
from vlmrecipes.errors import InputError

ASKED = {"shape", "color", "yes/no"}


def rows_of(
    generator: str, count: int = 60, seed: int = 3, part: str = "train", **options: object
) -> list[dict[str, Any]]:
    source = SyntheticSource(
        type="synthetic",
        generator=generator,
        count=count,
        seed=seed,
        part=part,
        options=options,
        prompt="p",
        answer="a",
    )
    return list(open_generator(source, file="q.toml", key="source[0]"))


def test_shapes_give_the_columns_announced_and_short_questions() -> None:
    for row in rows_of("shapes", 600):
        assert tuple(row) == columns("shapes")
        assert len(row["question"]) < 60
        assert row["answer"].split() == [row["answer"].lower()]


def test_shapes_render_small_images_the_same_every_time() -> None:
    rows = rows_of("shapes")
    again = [row["image"].render() for row in rows_of("shapes", 80)]
    for row, bytes_again in zip(rows, again, strict=False):
        encoded = row["image"].render()
        assert encoded == bytes_again
        image = Image.open(io.BytesIO(encoded))
        assert image.mode == "RGB"
        assert 56 <= image.height <= 160


def test_shapes_rows_do_not_depend_on_count() -> None:
    assert rows_of("shapes", 10) == rows_of("shapes", 100)[:10]


def test_shapes_share_a_scene_as_often_as_asked() -> None:
    rows = rows_of("shapes", 40, questions=4)
    scenes = [row["image"] for row in rows]
    assert all(len(set(scenes[start : start + 4])) == 1 for start in range(0, 40, 4))
    assert len(set(scenes)) == 10


def test_shapes_answers_are_right_and_balanced() -> None:
    rows = rows_of("shapes", 3000)
    yes = sum(row["answer"] == "yes" for row in rows) / sum(row["type"] == "yes/no" for row in rows)
    assert 0.45 < yes < 0.55
    for row in rows:
        shapes = row["image"].scene.shapes
        if row["question"] == "how many shapes are there?":
            assert row["answer"] == str(len(shapes))
        if row["question"].startswith("what color is the leftmost"):
            assert row["answer"] == min(shapes, key=lambda shape: shape.x).color


def test_shapes_are_listed_in_the_order_asked_for() -> None:
    orders = {
        "left to right": lambda shape: shape.x,
        "top to bottom": lambda shape: shape.y,
        "small to large": lambda shape: shape.area,
    }
    rows = [row for row in rows_of("shapes", 600, questions=2, lists=2) if row["type"] == "list"]
    assert len(rows) > 150
    assert len({row["question"].split()[0] for row in rows}) == 3
    for row in rows:
        order = next(key for name, key in orders.items() if name in row["question"])
        shapes = sorted(row["image"].scene.shapes, key=order)
        assert row["answer"] == ", ".join(f"{shape.color} {shape.kind}" for shape in shapes)


def test_lists_leave_the_other_questions_as_they_are() -> None:
    listed = [row for row in rows_of("shapes", 200, lists=3) if row["type"] != "list"]
    assert listed == rows_of("shapes", len(listed))


def test_shapes_report_every_wrong_option() -> None:
    with pytest.raises(InputError) as caught:
        rows_of("shapes", questions=0, max_shape=3)
    assert [problem.key for problem in caught.value.problems] == [
        "source[0].options.questions",
        "source[0].options.max_shape",
    ]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lay out a package like easy-vqa, so that these tests need none installed."""
    for split, numbers in (("train", range(6)), ("test", range(4))):
        folder = tmp_path / "data" / split
        (folder / "images").mkdir(parents=True)
        asked = [
            [text, answer, number]
            for number in numbers
            for text, answer in (
                ("is it red?", "yes"),
                ("is it blue?", "no"),
                ("what color is it?", "red"),
                ("what shape is it?", "circle"),
            )
        ]
        (folder / "questions.json").write_text(json.dumps(asked), "utf-8")
        for number in numbers:
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "images" / f"{number}.png")
    monkeypatch.setattr(easy_vqa, "package_folder", lambda: tmp_path)
    return tmp_path


def test_easy_vqa_keeps_the_package_s_test_split_apart(package: Path) -> None:
    train, test = rows_of("easy-vqa", 100), rows_of("easy-vqa", 100, part="eval")
    assert {row["image_id"] for row in train} == {f"train/{number}" for number in range(6)}
    assert {row["image_id"] for row in test} == {f"test/{number}" for number in range(4)}
    assert all(package / "data" / "test" in package.joinpath(row["image"].path).parents for row in test)


@pytest.mark.usefixtures("package")
def test_easy_vqa_counts_images_and_limits_questions_one_of_each_type_first() -> None:
    rows = rows_of("easy-vqa", 2, questions=3)
    assert tuple(rows[0]) == columns("easy-vqa")
    assert len({row["image_id"] for row in rows}) == 2
    assert {row["type"] for row in rows[:3]} == ASKED


@pytest.mark.usefixtures("package")
def test_easy_vqa_rows_do_not_depend_on_count() -> None:
    assert rows_of("easy-vqa", 2) == rows_of("easy-vqa", 5)[:8]


def test_easy_vqa_renders_the_file_itself(package: Path) -> None:
    row = rows_of("easy-vqa", 1)[0]
    number = row["image_id"].removeprefix("train/")
    assert row["image"].render() == (package / "data" / "train" / "images" / f"{number}.png").read_bytes()


def test_easy_vqa_not_installed_is_told_together_with_wrong_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(easy_vqa, "package_folder", lambda: None)
    with pytest.raises(InputError) as caught:
        rows_of("easy-vqa", questions=-1)
    told = "\n".join(map(str, caught.value.problems))
    assert "options.questions" in told
    assert "pip install 'easy-vqa'" in told


def test_the_installed_easy_vqa_is_read_when_it_is_there() -> None:
    if easy_vqa.package_folder() is None:
        pytest.skip("easy-vqa is not installed")
    rows = rows_of("easy-vqa", 30, part="eval", questions=4)
    assert len(rows) == 120
    assert {row["type"] for row in rows} == ASKED
    assert Image.open(io.BytesIO(rows[0]["image"].render())).size == (64, 64)


@pytest.mark.parametrize("generator", ["lines", "shapes", "digit-strings", "easy-vqa"])
def test_every_generator_names_its_columns_and_is_in_the_overview(generator: str) -> None:
    assert "image" in columns(generator)
    assert f"`{generator}`" in synthetic.__doc__
