"""Images made ready."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from vlmrecipes.data.declaration import Prepare
from vlmrecipes.data.images import ImageError
from vlmrecipes.data.lookalikes import Lookalikes, Picture
from vlmrecipes.data.prepare import Prepared, origin_of, prepare_image
from vlmrecipes.data.prepare.hashing import colour_layout, perceptual_hashes
from vlmrecipes.data.prepare.resize import target_size

PLAIN = Prepare()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(width: int = 60, height: int = 40) -> Image.Image:
    """Return a picture without symmetry: no two of its eight turns are alike."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    corner = np.where((x < 80) & (y < 80), 255, 0)
    return Image.fromarray(np.stack([x, y, corner], axis=-1).astype(np.uint8))


def seen(prepared: Prepared) -> np.ndarray:
    """Return the stored pixels, as any reader decodes them."""
    image = Image.open(io.BytesIO(prepared.data))
    assert (image.format, image.size) == (prepared.format, (prepared.width, prepared.height))
    return np.asarray(image).astype(int)


def reason(raw: bytes, policy: Prepare = PLAIN, crop: tuple[float, float, float, float] | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        prepare_image(raw, crop, policy)
    assert caught.value.message
    return caught.value.reason


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pictures_stand_upright_whatever_exif_says(orientation: int, kind: str) -> None:
    upright = np.asarray(picture())
    # How a camera that writes this orientation stores the upright picture (CIPA DC-008, tag 274: row 0, column 0).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    raw = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    prepared = prepare_image(raw, None, PLAIN)
    assert (prepared.width, prepared.height) == (60, 40)
    assert np.abs(seen(prepared) - upright.astype(int)).mean() < (3 if kind == "JPEG" else 1e-9)
    assert Image.open(io.BytesIO(prepared.data)).getexif().get(0x0112, 1) == 1
    assert ("upright" in prepared.steps) == (orientation != 1)


def test_an_orientation_that_does_not_exist_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    assert prepare_image(encoded(picture(), exif=exif), None, PLAIN).steps == ""


def test_what_is_transparent_becomes_white_and_half_transparent_half_white() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, 1] = (0, 0, 0, 255)
    pixels[:, 2] = (0, 0, 0, 128)
    for kind in ("PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        found = seen(prepare_image(encoded(Image.fromarray(pixels), kind, **options), None, PLAIN))
        assert found[0, 0].tolist() == [255, 255, 255]
        assert found[0, 1].tolist() == [0, 0, 0]
        assert abs(found[0, 2, 0] - 127) <= 1


def test_grey_with_alpha_becomes_white_too() -> None:
    image = Image.new("LA", (4, 4), (0, 0))
    assert seen(prepare_image(encoded(image), None, PLAIN)).min() == 255
    assert seen(prepare_image(encoded(image), None, Prepare(mode="L"))).min() == 255


def test_a_palette_with_transparency_becomes_white_where_it_is_transparent() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    for transparency in (0, b"\x00\xff"):
        found = seen(prepare_image(encoded(image, transparency=transparency), None, PLAIN))
        assert found[0, 0].tolist() == [255, 255, 255]
        assert found[1, 1].tolist() == [0, 0, 255]


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 64 * 4).reshape(4, 64)
    for kind in ("PNG", "TIFF"):
        raw = encoded(Image.fromarray(ramp.astype(np.uint16)), kind)
        found = seen(prepare_image(raw, None, Prepare(mode="L")))
        assert np.abs(found - ramp / 257).max() <= 1


def test_float_greys_are_scaled() -> None:
    values = np.linspace(0, 3, 16, dtype=np.float32).reshape(4, 4)
    values[0, 0] = np.nan
    found = seen(prepare_image(encoded(Image.fromarray(values), "TIFF"), None, Prepare(mode="L")))
    assert (found.min(), found.max()) == (0, 255)


def test_cmyk_becomes_rgb() -> None:
    raw = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    found = seen(prepare_image(raw, None, PLAIN))
    assert found.shape == (16, 16, 3)
    assert np.abs(found[8, 8] - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "I", "F", "CMYK", "YCbCr"])
@pytest.mark.parametrize("wanted", ["RGB", "L"])
def test_every_colour_mode_is_stored_in_the_mode_that_is_wanted(mode: str, wanted: Any) -> None:
    kind = "PNG" if mode in {"1", "L", "P", "RGB", "RGBA", "LA", "I;16"} else "TIFF"
    prepared = prepare_image(encoded(Image.new(mode, (9, 7)), kind), None, Prepare(mode=wanted))
    assert Image.open(io.BytesIO(prepared.data)).mode == wanted


def test_damaged_files_are_undecodable() -> None:
    jpeg, png = encoded(picture(200, 200), "JPEG"), encoded(picture(200, 200))
    assert reason(jpeg[: len(jpeg) // 2]) == "undecodable"
    assert reason(png[: len(png) // 2]) == "undecodable"
    assert reason(jpeg[:20]) == "undecodable"
    assert reason(b"") == "undecodable"
    assert reason(b"no picture at all\n" * 20) == "undecodable"
    assert reason(b"<svg xmlns='http://www.w3.org/2000/svg'/>") == "undecodable"
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "undecodable"


@settings(deadline=None, max_examples=60)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"]))
def test_a_file_with_any_bytes_changed_is_prepared_or_refused(data: st.DataObject, kind: str) -> None:
    raw = bytearray(encoded(picture(24, 16), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        prepared = prepare_image(bytes(raw), None, Prepare(max_source_pixels=1_000_000))
    except ImageError:
        return
    assert max(prepared.width, prepared.height) <= 1000


def test_a_bomb_is_dropped_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    assert reason(png_header(12_000, 12_000)) == "too_large"
    assert reason(png_header(60_000, 60_000)) == "too_large"
    assert reason(encoded(picture(101, 100), "JPEG"), Prepare(max_source_pixels=100 * 100)) == "too_large"


def test_tiny_pictures_are_dropped() -> None:
    assert reason(encoded(picture(1, 40))) == "too_small"
    assert reason(encoded(picture(60, 40)), Prepare(min_source_side=41)) == "too_small"
    assert reason(encoded(picture(60, 40)), crop=(0, 0, 30, 1)) == "too_small"


def test_a_long_thin_jpeg_is_not_too_small_because_it_is_decoded_at_a_smaller_scale() -> None:
    prepared = prepare_image(encoded(picture(800, 2), "JPEG"), None, Prepare(max_side=100))
    assert (prepared.width, prepared.height) == (100, 1)


def test_a_crop_is_cut_from_the_upright_picture_and_clamped_to_it() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.asarray(picture())
    raw = encoded(Image.fromarray(np.ascontiguousarray(np.rot90(upright, 1))), exif=exif)
    for crop, cut in (
        ((10, 5, 30, 25), upright[5:25, 10:30]),
        ((-5, -5, 1000, 12), upright[:12]),
        ((9.6, 4.6, 29.6, 24.6), upright[5:25, 10:30]),
    ):
        assert (seen(prepare_image(raw, crop, PLAIN)) == cut).all()


@pytest.mark.parametrize(
    "crop", [(5, 5, 5, 9), (9, 9, 5, 5), (60, 0, 90, 10), (-9, -9, 0, 0), (1e300, 0, 1e301, 9), (4.1, 0, 4.4, 9)]
)
def test_a_crop_without_a_pixel_is_bad(crop: tuple[float, float, float, float]) -> None:
    assert reason(encoded(picture()), crop=crop) == "bad_crop"


def test_crops_of_one_page_do_not_touch_each_other() -> None:
    raw = encoded(picture(), "JPEG")
    first = prepare_image(raw, (0, 0, 20, 20), PLAIN)
    prepare_image(raw, (20, 0, 60, 40), Prepare(max_side=8))
    assert prepare_image(raw, (0, 0, 20, 20), PLAIN) == first


SIDE = st.integers(1, 5000)
POLICIES = st.builds(
    Prepare,
    max_side=st.none() | st.integers(1, 2000),
    min_side=st.none() | st.integers(1, 2000),
    max_pixels=st.none() | st.integers(1, 2_000_000),
    multiple_of=st.integers(1, 64),
)


@settings(deadline=None, max_examples=400)
@given(width=SIDE, height=SIDE, policy=POLICIES)
def test_any_size_comes_out_as_the_policy_says(width: int, height: int, policy: Prepare) -> None:
    step = policy.multiple_of
    found = target_size(width, height, policy)
    assert all(side >= step and side % step == 0 for side in found)
    if policy.max_side is not None:
        assert max(found) <= max(policy.max_side, step)
    if policy.max_pixels is not None and min(found) > step:
        assert found[0] * found[1] <= policy.max_pixels
    assert target_size(height, width, policy) == found[::-1]


@settings(deadline=None, max_examples=200)
@given(width=SIDE, height=SIDE, most=st.integers(1, 2000))
def test_the_longer_side_is_shrunk_to_max_side_and_nothing_is_enlarged(width: int, height: int, most: int) -> None:
    found = target_size(width, height, Prepare(max_side=most))
    if max(width, height) <= most:
        assert found == (width, height)
    else:
        assert max(found) == most
        assert abs(min(found) - max(1.0, min(width, height) * most / max(width, height))) <= 0.5


@settings(deadline=None, max_examples=25)
@given(
    width=st.integers(2, 90),
    height=st.integers(2, 90),
    kind=st.sampled_from(["PNG", "JPEG", "GIF"]),
    policy=st.builds(
        Prepare,
        max_side=st.integers(8, 64),
        min_side=st.none() | st.integers(4, 64),
        multiple_of=st.integers(1, 8),
        format=st.sampled_from(["auto", "PNG", "JPEG"]),
        mode=st.sampled_from(["RGB", "L"]),
    ),
)
def test_what_is_stored_follows_the_policy_and_is_left_alone_when_prepared_again(
    width: int, height: int, kind: str, policy: Prepare
) -> None:
    prepared = prepare_image(encoded(picture(width, height), kind), None, policy)
    image = Image.open(io.BytesIO(prepared.data))
    assert image.size == (prepared.width, prepared.height)
    assert max(image.size) <= 64
    assert image.width % policy.multiple_of == image.height % policy.multiple_of == 0
    assert image.mode == policy.mode
    assert image.format == (policy.format if policy.format != "auto" else "JPEG" if kind == "JPEG" else "PNG")
    if min(image.size) >= max(2, policy.min_side or 0):
        again = prepare_image(prepared.data, None, policy)
        assert (again.data, again.steps, again.pixels) == (prepared.data, "", prepared.pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_that_is_right_already_is_kept_byte_for_byte(kind: str) -> None:
    raw = encoded(picture(), kind)
    prepared = prepare_image(raw, None, PLAIN)
    assert (prepared.data, prepared.format, prepared.steps) == (raw, kind, "")
    assert prepared.key == prepared.source_sha256


def test_pixels_hash_equal_however_a_png_is_written() -> None:
    image = picture().quantize(64)
    ways = [
        encoded(image),
        encoded(image.convert("RGB"), compress_level=0),
        encoded(image.convert("RGB"), compress_level=9),
        encoded(image.convert("RGBA")),
        encoded(image.convert("RGB"), "BMP"),
        encoded(image.convert("RGB"), "TIFF"),
        encoded(image, "GIF"),
    ]
    found = [prepare_image(raw, None, PLAIN) for raw in ways]
    assert len({prepared.pixels for prepared in found}) == 1
    assert len({prepared.key for prepared in found}) > 1
    other = image.convert("RGB")
    other.putpixel((0, 0), (1, 2, 3))
    assert prepare_image(encoded(other), None, PLAIN).pixels != found[0].pixels


def test_the_pixel_hash_is_that_of_what_a_reader_decodes() -> None:
    prepared = prepare_image(encoded(picture(300, 200), "JPEG"), None, Prepare(max_side=100))
    assert "encode" in prepared.steps
    assert prepare_image(prepared.data, None, Prepare(max_side=100)).pixels == prepared.pixels


def apart(one: Image.Image, other: Image.Image) -> tuple[int, int]:
    """Return how many bits of the 64-bit and of the 256-bit hash differ."""
    (short, long), (other_short, other_long) = perceptual_hashes(one), perceptual_hashes(other)
    assert len(long) == 32
    return (short ^ other_short).bit_count(), (int.from_bytes(long) ^ int.from_bytes(other_long)).bit_count()


def test_perceptual_hashes_survive_resizing_and_recompression() -> None:
    image = Image.fromarray(np.random.default_rng(7).integers(0, 255, (12, 16, 3), np.uint8)).resize((300, 200))
    again = Image.open(io.BytesIO(encoded(image.resize((150, 100)), "JPEG", quality=60)))
    short, long = apart(image, again)
    assert short <= 4
    assert long <= 51  # 0.2 of 256 bits
    short, long = apart(image, image.transpose(Image.Transpose.ROTATE_90))
    assert short > 20
    assert long > 90


def test_colours_of_copies_agree_and_those_of_another_picture_of_equal_greys_do_not() -> None:
    image = Image.fromarray(np.random.default_rng(7).integers(0, 255, (12, 16, 3), np.uint8)).resize((300, 200))
    grey, blue, red = image.convert("YCbCr").split()
    swapped = Image.merge("YCbCr", (grey, red, blue)).convert("RGB")
    copies = {
        "small": image.resize((80, 53)),
        "again": Image.open(io.BytesIO(encoded(image, "JPEG", quality=30))),
        "pale": ImageEnhance.Color(image).enhance(0.5),
        "bright": ImageEnhance.Brightness(image).enhance(1.2),
        "grey": grey,
        "swapped": swapped,
    }

    def made(name: str, picture: Image.Image) -> Picture:
        short, long = perceptual_hashes(picture)
        return Picture(name, name, short, long, colour_layout(picture), *picture.size)

    pictures = {name: made(name, picture) for name, picture in copies.items()}
    alike = Lookalikes([made("image", image), *pictures.values()], 8)
    look = alike.look(made("image", image))
    near = {name for name, picture in pictures.items() if alike.look(picture) in (look, *alike.near(look))}
    assert near == {"small", "again", "pale", "bright", "grey"}
    assert (perceptual_hashes(swapped)[0] ^ perceptual_hashes(image)[0]).bit_count() <= 8, "the hashes alone say yes"


def test_perceptual_hashes_are_signs_of_the_cosine_transform() -> None:
    place = np.arange(64)
    wave = np.cos(np.pi * 3 * (2 * place + 1) / 128)  # the third frequency alone, from left to right
    image = Image.fromarray(np.tile(np.rint(128 + 100 * wave), (64, 1)).astype(np.uint8))
    for packed in (perceptual_hashes(image)[0].to_bytes(8), perceptual_hashes(image)[1]):
        bits = np.unpackbits(np.frombuffer(packed, np.uint8))
        assert bits[0] == bits[3] == 1


def test_origins_differ_by_bytes_crop_and_policy() -> None:
    origins = [
        origin_of("a", None, PLAIN),
        origin_of("b", None, PLAIN),
        origin_of("a", (0, 0, 1, 1), PLAIN),
        origin_of("a", None, Prepare(max_side=8)),
    ]
    assert len(set(origins)) == 4
    assert origin_of("a", None, Prepare()) == origins[0]


def png16(pixels: np.ndarray, clear: tuple[int, ...]) -> bytes:
    """Return a 16-bit PNG, grey or RGB, in which the colour `clear` is transparent."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 0 if len(clear) == 1 else 2, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = chunk(b"IHDR", header), chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def test_the_transparent_colour_of_a_16_bit_png_becomes_white() -> None:
    grey = np.array([[1000, 20000], [40000, 1000]])
    found = prepare_image(png16(grey, (1000,)), None, Prepare(mode="L"))
    assert seen(found).tolist() == [[255, round(20000 / 257)], [round(40000 / 257), 255]]
    assert "scale" in found.steps
    colours = np.array([[[1000, 2000, 3000], [20000, 0, 0]], [[0, 40000, 0], [1000, 2000, 3000]]])
    found = prepare_image(png16(colours, (1000, 2000, 3000)), None, PLAIN)
    assert seen(found)[0, 0].tolist() == seen(found)[1, 1].tolist() == [255, 255, 255]
    assert np.abs(seen(found)[0, 1] - [78, 0, 0]).max() <= 1
    assert "alpha" in found.steps


def test_a_16_bit_png_of_colours_is_stored_with_8_bits() -> None:
    colours = np.array([[[0, 40000, 65535], [20000, 0, 0]], [[0, 40000, 0], [1000, 2000, 3000]]])
    raw = png16(colours, (9, 9, 9))
    clear = raw.index(b"tRNS") - 4
    raw = raw[:clear] + raw[clear + 4 + 4 + 6 + 4 :]
    assert raw[24] == 16  # bits a channel, in IHDR (PNG specification, 11.2.1)
    found = prepare_image(raw, None, PLAIN)
    assert (found.data[24], found.format, found.steps) == (8, "PNG", "scale,encode")
    assert np.abs(seen(found) - colours / 257).max() <= 1
    assert prepare_image(found.data, None, PLAIN).steps == ""


@pytest.mark.parametrize(("values", "wanted"), [((0, 100, 255), (0, 100, 255)), ((0, 500, 1000), (0, 128, 255))])
def test_small_values_of_a_32_bit_tiff_are_not_nearly_black(values: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    raw = encoded(Image.fromarray(np.array([values, values], np.int32)), "TIFF")
    assert seen(prepare_image(raw, None, Prepare(mode="L")))[0].tolist() == list(wanted)


def test_large_pictures_are_laid_on_white_and_scaled_in_strips() -> None:
    pixels = np.zeros((1500, 1100, 4), np.uint8)
    pixels[::2, :, 3] = 255
    found = seen(prepare_image(encoded(Image.fromarray(pixels)), None, Prepare(max_side=None)))
    assert (found[::2] == 0).all()
    assert (found[1::2] == 255).all()
    ramp = np.linspace(0, 65535, 1500 * 1100).reshape(1500, 1100).astype(np.uint16)
    found = seen(prepare_image(encoded(Image.fromarray(ramp)), None, Prepare(max_side=None, mode="L")))
    assert np.abs(found - ramp / 257).max() <= 1


def test_the_first_picture_of_a_phones_file_is_taken_and_stays_a_jpeg() -> None:
    raw = encoded(picture(400, 300), "MPO", save_all=True, append_images=[picture(40, 30)])
    assert Image.open(io.BytesIO(raw)).format == "MPO"
    prepared = prepare_image(raw, None, PLAIN)
    assert (prepared.format, prepared.width, prepared.steps) == ("JPEG", 400, "frame,encode")


def test_avif_is_read_and_heic_names_the_package_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = prepare_image(encoded(picture(), "AVIF", quality=95), None, PLAIN)
    assert (found.format, found.width) == ("PNG", 60)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heic = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(64)
    with pytest.raises(ImageError, match=r"pip install 'vlmrecipes\[heic\]'") as caught:
        prepare_image(heic, None, PLAIN)
    assert caught.value.reason == "undecodable"


def test_heic_is_read_upright() -> None:
    heif = pytest.importorskip("pillow_heif")
    if not heif.libheif_info()["encoders"].get("x265"):
        pytest.skip("this pillow-heif cannot write HEIC")
    heif.register_heif_opener()
    prepared = prepare_image(encoded(picture(64, 48), "HEIF", quality=-1), None, PLAIN)
    assert (prepared.width, prepared.height, prepared.format) == (64, 48, "PNG")
    assert np.abs(seen(prepared) - np.asarray(picture(64, 48)).astype(int)).mean() < 8


def test_a_progressive_jpeg_that_needs_too_much_memory_is_refused() -> None:
    raw = bytearray(encoded(Image.new("CMYK", (64, 64)), "JPEG", progressive=True))
    frame = raw.index(b"\xff\xc2")
    raw[frame + 5 : frame + 9] = struct.pack(">HH", 10_000, 10_000)
    assert reason(bytes(raw)) == "too_large"
