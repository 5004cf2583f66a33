import io
import pickle
from typing import Any

import pytest
from PIL import Image

from vlmrecipes.data.source_tables import SyntheticSource
from vlmrecipes.data.sources.synthetic import columns, digit_strings, open_generator
from vlmrecipes.errors import InputError, MissingExtraError

pytest.importorskip("sklearn")


def rows_of(count: int = 60, seed: int = 3, part: str = "train", **options: object) -> list[dict[str, Any]]:
    source = SyntheticSource(
        type="synthetic",
        generator="digit-strings",
        count=count,
        seed=seed,
        part=part,
        options=options,
        prompt="p",
        answer="a",
    )
    return list(open_generator(source, file="d.toml", key="source[0]"))


def test_every_written_digit_is_on_one_side_only() -> None:
    sides = [digit_strings.glyphs_of(part) for part in ("train", "eval")]
    train, held_out = ({pixels for found in side.values() for pixels in found} for side in sides)
    assert not train & held_out
    assert len(train) + len(held_out) == 1797
    assert 0.2 < len(held_out) / 1797 < 0.3
    assert all(len(found) > 20 for side in sides for found in side.values())


def test_strings_of_one_side_use_that_side_s_digits() -> None:
    for part in ("train", "eval"):
        for row in rows_of(200, part=part):
            assert row["part"] == part
            assert {digit_strings.side(pixels) for pixels in row["image"].glyphs} == {part}


def test_texts_are_three_to_eight_digits_some_in_groups() -> None:
    texts = [row["text"] for row in rows_of(300)]
    assert {len(text.replace(" ", "")) for text in texts} == set(range(3, 9))
    assert all(text.replace(" ", "").isdigit() and text == " ".join(text.split()) for text in texts)
    assert 0.1 < sum(" " in text for text in texts) / 300 < 0.5


def test_images_are_small_rgb_pngs_and_survive_pickling() -> None:
    rows = rows_of(200)
    for row, other in zip(rows, pickle.loads(pickle.dumps(rows)), strict=True):
        encoded = row["image"].render()
        assert encoded == other["image"].render()
        image = Image.open(io.BytesIO(encoded))
        assert (image.format, image.mode) == ("PNG", "RGB")
        assert 32 <= image.height <= 40
        assert image.width <= 300


def test_no_digit_is_cut_off_at_the_right() -> None:
    for row in rows_of(300):
        image = Image.open(io.BytesIO(row["image"].render())).convert("L")
        column = image.crop((image.width - 1, 0, image.width, image.height))
        assert column.getextrema()[0] > 150


def test_rows_do_not_depend_on_count() -> None:
    assert rows_of(5) == rows_of(50)[:5]
    assert tuple(rows_of(1)[0]) == columns("digit-strings")


def test_scikit_learn_missing_and_a_wrong_option_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str, purpose: str) -> None:
        raise MissingExtraError(f"sklearn is needed to {purpose}: pip install 'scikit-learn'")

    monkeypatch.setattr(digit_strings, "need", absent)
    with pytest.raises(InputError) as caught:
        rows_of(size=3)
    told = "\n".join(map(str, caught.value.problems))
    assert "source[0].options.size: unknown option" in told
    assert "pip install 'scikit-learn'" in told
