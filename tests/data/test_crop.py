"""Boxes and polygons, read and cut."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlmrecipes.data.crop import cut, points_of, read_crop
from vlmrecipes.data.declaration import Prepare
from vlmrecipes.data.images import ImageError
from vlmrecipes.data.prepare import origin_of, prepare_image


def test_four_numbers_are_a_box_and_more_are_a_polygon() -> None:
    assert read_crop([1, "2", 3.5, 4]) == (1, 2, 3.5, 4)
    assert read_crop([[0, 0], [4, 0], [4, 4]]) == ((0, 0), (4, 0), (4, 4))
    assert read_crop([0, 0, 4, 0, 4, 4]) == ((0, 0), (4, 0), (4, 4))


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        "0,0,1,1",
        [],
        [1, 2, 3],
        [[0, 0], [1, 1]],
        [[0, 0, 1], [1, 1, 1], [2, 2, 2]],
        [0, 0, float("nan"), 1],
        [0, 0, "x", 1],
        [[0, 0], [1, 1], None],
        [1] * 5,
        [[0, 0]] * 10_001,
        {"x": 1},
    ],
)
def test_what_is_neither_is_a_bad_crop(value: Any) -> None:
    with pytest.raises(ImageError) as caught:
        read_crop(value)
    assert caught.value.reason == "bad_crop"


def test_a_polygon_is_cut_with_its_bounding_box_and_white_around_it() -> None:
    image = Image.new("RGB", (20, 20), "black")
    part = cut(image, read_crop([[5, 5], [14, 5], [5, 14]]))
    assert part.size == (10, 10)
    assert part.getpixel((0, 0)) == part.getpixel((9, 0)) == part.getpixel((0, 9)) == (0, 0, 0)
    assert part.getpixel((9, 9)) == part.getpixel((6, 6)) == (255, 255, 255)
    grey = cut(image.convert("L"), read_crop([[5, 5], [14, 5], [5, 14]]))
    assert (grey.getpixel((0, 0)), grey.getpixel((9, 9))) == (0, 255)


def test_a_rectangle_gives_the_same_pixels_as_box_and_as_polygon() -> None:
    image = Image.effect_noise((30, 20), 60)
    box, outline = cut(image, (3, 4, 13, 9)), cut(image, ((3, 4), (12, 4), (12, 8), (3, 8)))
    assert box.tobytes() == outline.tobytes()


@given(st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2), min_size=3, max_size=6))
def test_any_polygon_is_cut_inside_the_image_or_refused(points: list[tuple[float, float]]) -> None:
    image = Image.new("RGB", (16, 12), "black")
    try:
        part = cut(image, tuple(points))
    except ImageError:
        return
    assert 1 <= part.width <= 16
    assert 1 <= part.height <= 12


def test_polygons_are_part_of_an_images_origin_and_of_what_is_stored() -> None:
    buffer = io.BytesIO()
    Image.effect_noise((40, 30), 60).save(buffer, "PNG")
    raw, policy = buffer.getvalue(), Prepare()
    crops = [None, (0, 0, 9, 9), ((0, 0), (9, 0), (9, 9)), ((0, 0), (9, 0), (0, 9))]
    assert len({origin_of("raw", crop, policy) for crop in crops}) == 4
    prepared = [prepare_image(raw, crop, policy) for crop in crops]
    assert len({image.key for image in prepared}) == 4
    assert (prepared[2].width, prepared[2].height, prepared[2].steps) == (10, 10, "mode,crop,encode")


def test_points_are_read_as_page_and_as_alto_write_them() -> None:
    for text in ("1,2 3,4 5,6", "1 2 3 4 5 6", "1,2,3,4,5,6", " 1.0,2  3,4\n5,6 "):
        assert points_of(text) == [[1, 2], [3, 4], [5, 6]]
    with pytest.raises(ValueError, match="odd number"):
        points_of("1,2 3")
