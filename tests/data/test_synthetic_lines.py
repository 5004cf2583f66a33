import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlmrecipes.data.source_tables import SyntheticSource
from vlmrecipes.data.sources.synthetic import Rendered, columns, fonts, open_generator
from vlmrecipes.data.sources.synthetic.dice import Dice
from vlmrecipes.data.sources.synthetic.text import ALPHABET, line
from vlmrecipes.errors import InputError

DIGEST = """
import hashlib
from vlmrecipes.data.source_tables import SyntheticSource
from vlmrecipes.data.sources.synthetic import open_generator
source = SyntheticSource(type="synthetic", generator="lines", count=20, seed=3, prompt="p", answer="a")
digest = hashlib.sha256()
for row in open_generator(source, file="f", key="k"):
    digest.update(row["text"].encode() + row["image"].render())
print(digest.hexdigest())
"""


def lines(count: int = 40, seed: int = 3, part: str = "train", **options: object) -> list[dict[str, Any]]:
    source = SyntheticSource(
        type="synthetic", generator="lines", count=count, seed=seed, part=part, options=options, prompt="p", answer="a"
    )
    return list(open_generator(source, file="lines.toml", key="source[0]"))


def problems(**options: Any) -> dict[str, str]:
    with pytest.raises(InputError) as caught:
        lines(**options)
    return {problem.key: problem.problem for problem in caught.value.problems}


def test_rows_have_the_columns_announced_and_images_that_render() -> None:
    rows = lines()
    assert all(tuple(row) == columns("lines") for row in rows)
    assert all(isinstance(row["image"], Rendered) for row in rows)


def test_images_are_rgb_jpegs_of_a_line_s_size() -> None:
    for row in lines(120):
        image = Image.open(io.BytesIO(row["image"].render()))
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert image.width <= 1000
        assert 11 <= image.height <= 64


def test_a_row_is_the_same_whatever_the_count() -> None:
    few, many = lines(5), lines(50)
    assert few == many[:5]
    assert [row["image"].render() for row in few] == [row["image"].render() for row in many[:5]]


def test_another_process_renders_the_same_bytes() -> None:
    outs = [subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, check=True).stdout for _ in range(2)]
    assert outs[0] == outs[1]
    assert len(outs[0].strip()) == 64


def test_a_row_survives_pickling_and_is_small() -> None:
    rows = lines(50)
    packed = pickle.dumps(rows)
    assert pickle.loads(packed)[7]["image"].render() == rows[7]["image"].render()
    assert len(packed) / len(rows) < 300


def test_seed_and_part_change_the_texts() -> None:
    texts = [[row["text"] for row in lines(**kind)] for kind in ({}, {"seed": 4}, {"part": "eval"})]
    assert texts[0] != texts[1]
    assert texts[0] != texts[2]


@pytest.mark.parametrize(("low", "high"), [(1, 60), (1, 1), (8, 8), (20, 30), (60, 60)])
def test_texts_keep_their_length_limits_and_have_single_spaces(low: int, high: int) -> None:
    for row in lines(300, min_chars=low, max_chars=high):
        assert low <= len(row["text"]) <= high
        assert row["text"] == " ".join(row["text"].split())


def test_texts_stay_in_the_alphabet_and_use_all_of_it() -> None:
    texts = [line(Dice("test", number), 1, 60) for number in range(20_000)]
    assert all(text and text.strip() == text for text in texts)
    used = set("".join(texts)) - {" "}
    assert set(ALPHABET) <= used


def test_every_character_of_a_row_can_be_drawn_by_its_font() -> None:
    for row in lines(2000):
        assert set(row["text"]) <= fonts.drawable(row["image"].font)


def test_a_character_that_no_font_has_is_not_taken_for_drawable() -> None:
    font = fonts.load(fonts.BUILT_IN, 24)
    assert fonts._picture(font, "\U000ffffe") == fonts._picture(font, fonts._ABSENT)  # noqa: SLF001
    assert set("AZaz09") <= fonts.drawable(fonts.BUILT_IN)


def test_hard_zero_gives_clean_lines() -> None:
    clean = lines(30, hard=0.0)
    assert [row["text"] for row in clean] == [row["text"] for row in lines(30)]
    for row in clean:
        grey = Image.open(io.BytesIO(row["image"].render())).convert("L")
        assert grey.getextrema()[1] > 150


def test_every_wrong_option_is_reported_at_once() -> None:
    found = problems(fonts="Arial.ttf", min_chars="4", max_chars=61, hard=True, font=1)
    assert set(found) == {f"source[0].options.{name}" for name in ("fonts", "min_chars", "max_chars", "hard", "font")}
    assert "did you mean 'fonts'" in found["source[0].options.font"]


def test_lengths_the_wrong_way_round_are_reported() -> None:
    assert "more than max_chars" in problems(min_chars=20, max_chars=10)["source[0].options.min_chars"]


def test_a_missing_font_names_the_package_to_install() -> None:
    found = problems(fonts=["RobotoCondensed-Nowhere.ttf", "Unheard-Of.otf", "pillow"])["source[0].options.fonts"]
    assert "RobotoCondensed-Nowhere.ttf, Unheard-Of.otf" in found
    assert "apt-get install fonts-roboto-unhinted" in found
    assert "$VLMRECIPES_FONTS" in found


def test_a_file_that_is_no_font_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"not a font")
    monkeypatch.setenv("VLMRECIPES_FONTS", str(tmp_path))
    assert "cannot be read as a font" in problems(fonts=["broken.ttf"])["source[0].options.fonts"]
