"""ALTO and PAGE files as rows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reading import good, problems, rows

from vlmrecipes.data.images import image_bytes
from vlmrecipes.data.sample import Drop
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.ingestion import ingest

ALTO = """<?xml version="1.0" encoding="UTF-8"?>
<alto xmlns="{ns}"><Description><MeasurementUnit>{unit}</MeasurementUnit>
<sourceImageInformation><fileName>{image}</fileName></sourceImageInformation></Description>
<Layout>{order}<Page ID="p" WIDTH="200" HEIGHT="100"><TopMargin><TextBlock ID="head" HPOS="0" VPOS="0" WIDTH="50" HEIGHT="9">
<TextLine ID="l0" HPOS="1" VPOS="1" WIDTH="40" HEIGHT="8"><String CONTENT="Page"/><String CONTENT="7"/></TextLine></TextBlock>
</TopMargin><PrintSpace><ComposedBlock ID="c"><TextBlock ID="b1" TYPE="heading">
<TextLine ID="l1" HPOS="10" VPOS="10" WIDTH="60" HEIGHT="10">
<Shape><Polygon POINTS="10,10 70,10 70,20 12,20"/></Shape>
<String CONTENT="Große" HPOS="10" VPOS="10" WIDTH="20" HEIGHT="10"/><SP/><String CONTENT="Na"/><HYP CONTENT="⸗"/></TextLine>
<TextLine ID="l2"><String CONTENT="me" HPOS="10" VPOS="22" WIDTH="20" HEIGHT="8"/><SP/>
<String CONTENT="fremd" HPOS="35" VPOS="21" WIDTH="30" HEIGHT="9"/></TextLine></TextBlock></ComposedBlock>
<TextBlock ID="b2" HPOS="100" VPOS="10" WIDTH="90" HEIGHT="40"><TextLine HPOS="100" VPOS="10" WIDTH="90" HEIGHT="10">
<String CONTENT="zwei"/></TextLine><TextLine ID="l4"><String CONTENT="nirgends"/></TextLine></TextBlock>
</PrintSpace></Page></Layout></alto>"""
LOC = "http://www.loc.gov/standards/alto/ns-v4#"
ORDER = '<ReadingOrder><OrderedGroup ID="o"><ElementRef REF="b2"/><ElementRef REF="b1"/></OrderedGroup></ReadingOrder>'

PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/{year}"><Metadata/>
<Page imageFilename="{image}" imageWidth="200" imageHeight="100">
<ReadingOrder><OrderedGroup id="g"><RegionRefIndexed index="1" regionRef="r1"/><UnorderedGroupIndexed index="0" id="u">
<RegionRef regionRef="t1"/></UnorderedGroupIndexed></OrderedGroup></ReadingOrder>
<TextRegion id="r0" type="page-number"><Coords points="0,0 9,0 9,9"/><TextEquiv><Unicode>7</Unicode></TextEquiv></TextRegion>
<TextRegion id="r1" type="paragraph"><Coords points="0,10 90,10 90,40 0,40"/>
<TextLine id="b" custom="readingOrder {{index:1;}}"><Coords points="0,20 50,20 50,30"/>
<TextEquiv conf="0.4"><Unicode>worse</Unicode></TextEquiv><TextEquiv conf="0.9"><Unicode>second</Unicode></TextEquiv></TextLine>
<TextLine id="a" custom="readingOrder {{index:0;}}"><Coords>
<Point x="0" y="10"/><Point x="50" y="10"/><Point x="50" y="19"/></Coords>
<TextEquiv index="2"><Unicode>no</Unicode></TextEquiv><TextEquiv index="0"><Unicode>first</Unicode></TextEquiv></TextLine>
</TextRegion><TableRegion id="table"><Coords points="0,50 90,50 90,90"/>
<TextRegion id="t1"><Coords points="0,50 40,50 40,60 0,60"/>
<TextLine id="c"><Coords points=""/><Word id="w1"><Coords points="0,50 9,50 9,60 0,60"/>
<TextEquiv><Unicode>a</Unicode></TextEquiv>
</Word><Word id="w2"><Coords points="12,50 40,50 40,60 12,60"/>
<TextEquiv><Unicode>cell</Unicode></TextEquiv></Word></TextLine>
</TextRegion></TableRegion></Page></PcGts>"""

READ = 'image = "{image}"\nprompt = "Read."\nanswer = "{text}"\n'


def picture(path: Path, size: tuple[int, int] = (200, 100)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 50).convert("RGB").save(path)


def alto(path: Path, *, ns: str = LOC, unit: str = "pixel", image: str = "page.png", order: str = "") -> None:
    path.write_text(ALTO.format(ns=ns, unit=unit, image=image, order=order), "utf-8")


def page(path: Path, *, year: str = "2019-07-15", image: str = "page.png") -> None:
    path.write_text(PAGE.format(year=year, image=image), "utf-8")


def told(found: list[Any]) -> list[tuple[str, str]]:
    return [(row.key, row.reason if isinstance(row, Drop) else row.references[0]) for row in found]


@pytest.mark.parametrize(
    "ns", [LOC, "http://www.loc.gov/standards/alto/ns-v3#", "http://www.loc.gov/standards/alto/ns-v2#", ""]
)
def test_alto_lines_come_in_order_with_spaces_hyphens_and_outlines(tmp_path: Path, ns: str) -> None:
    picture(tmp_path / "page.png")
    alto(tmp_path / "page.xml", ns=ns)
    columns = 'crop = "{polygon}"\nmetadata = ["box", "region", "line", "type", "index", "page"]\n'
    found = rows(tmp_path, 'type = "alto"\npath = "page.xml"\n' + columns + READ)
    assert told(found) == [
        ("page.xml:l0", "Page 7"),
        ("page.xml:l1", "Große Na⸗"),
        ("page.xml:l2", "me fremd"),
        ("page.xml:b2", "zwei"),
        ("page.xml:l4", "bad_row"),
    ]
    assert found[1].crop == ((10, 10), (70, 10), (70, 20), (12, 20))
    assert found[2].crop == ((10, 21), (65, 21), (65, 30), (10, 30))  # around its strings
    assert found[2].images == ("page.png",)
    want = {"box": "[10.0, 21.0, 65.0, 30.0]", "region": "b1", "line": "l2", "type": "heading", "index": 2}
    assert found[2].metadata == want | {"page": "page.xml"}


def test_alto_blocks_come_in_the_declared_reading_order(tmp_path: Path) -> None:
    picture(tmp_path / "page.png")
    alto(tmp_path / "page.xml", order=ORDER)
    found = good(tmp_path, 'type = "alto"\npath = "*.xml"\nlevel = "region"\ncrop = "{box}"\n' + READ)
    assert told(found) == [
        ("page.xml:b2", "zwei\nnirgends"),
        ("page.xml:b1", "Große Na⸗\nme fremd"),
        ("page.xml:head", "Page 7"),
    ]
    assert found[1].crop == (10, 10, 70, 30)


def test_alto_measures_of_paper_are_scaled_to_the_image(tmp_path: Path) -> None:
    picture(tmp_path / "page.png", (400, 300))
    alto(tmp_path / "page.xml", unit="mm10")
    source = 'type = "alto"\npath = "page.xml"\ncrop = "{box}"\nlimit = 4\n' + READ
    assert [row.crop for row in good(tmp_path, source)][1] == (20, 30, 140, 60)
    (tmp_path / "page.png").unlink()
    [row] = rows(tmp_path, source)
    assert isinstance(row, Drop)
    assert "its image, which has the pixels, is not there" in row.message


WRITERS = {"alto": alto, "page": page}
LEFT = {"alto": (10, 10, 70, 20), "page": (0, 10, 50, 19)}
"""The box of the second line, where the image is of the size that the file says."""


@pytest.mark.parametrize("kind", WRITERS)
def test_pixels_of_an_image_of_another_resolution_are_scaled(tmp_path: Path, kind: str) -> None:
    picture(tmp_path / "page.png", (401, 200))
    WRITERS[kind](tmp_path / "page.xml")
    left, top, right, bottom = LEFT[kind]
    scaled = pytest.approx((left * 2.005, top * 2, right * 2.005, bottom * 2), abs=1)
    source = f'type = "{kind}"\npath = "page.xml"\ncrop = "{{box}}"\nlimit = 3\n' + READ
    assert good(tmp_path, source)[1].crop == scaled


@pytest.mark.parametrize("kind", WRITERS)
def test_an_image_of_another_shape_than_the_file_says_is_a_drop(tmp_path: Path, kind: str) -> None:
    picture(tmp_path / "page.png", (100, 200))
    WRITERS[kind](tmp_path / "page.xml")
    [row] = rows(tmp_path, f'type = "{kind}"\npath = "page.xml"\ncrop = "{{box}}"\n' + READ)
    assert isinstance(row, Drop)
    assert "measures an image of 200x100 pixels, and page.png has 100x200: another shape" in row.message


def test_the_size_of_a_picture_that_lies_on_its_side_is_that_of_the_upright_one(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((200, 400), 50).convert("RGB").save(tmp_path / "page.jpg", exif=exif)
    alto(tmp_path / "page.xml", unit="mm10", image="page.jpg")
    page(tmp_path / "other.xml", image="page.jpg")
    for kind, name, box in (("alto", "page", (20, 20, 140, 40)), ("page", "other", (0, 20, 100, 38))):
        source = f'type = "{kind}"\npath = "{name}.xml"\ncrop = "{{box}}"\nlimit = 4\n' + READ
        assert good(tmp_path, source)[1].crop == box


@pytest.mark.parametrize("year", ["2019-07-15", "2013-07-15"])
def test_page_lines_come_in_reading_order_with_their_best_text(tmp_path: Path, year: str) -> None:
    picture(tmp_path / "page.png")
    page(tmp_path / "page.xml", year=year)
    source = 'type = "page"\npath = "page.xml"\ncrop = "{polygon}"\n' + READ
    found = good(tmp_path, source)
    assert told(found) == [("page.xml:c", "a cell"), ("page.xml:a", "first"), ("page.xml:b", "second")]
    assert [row.crop for row in found] == [
        ((0, 50), (40, 50), (40, 60), (0, 60)),
        ((0, 10), (50, 10), (50, 19)),
        ((0, 20), (50, 20), (50, 30)),
    ]
    regions = good(tmp_path, source + 'level = "region"\n')
    assert told(regions) == [("page.xml:t1", "a cell"), ("page.xml:r1", "first\nsecond"), ("page.xml:r0", "7")]


@pytest.mark.parametrize(
    "written",
    [
        "page.png",
        "/somewhere/else/page.png",
        "file:///C:/scans/page.png",
        "D:\\scans\\page.png",
        "other.tif",
        "",
        "../../page.png",
    ],
)
def test_the_image_is_found_by_its_reference_or_beside_the_file(tmp_path: Path, written: str) -> None:
    picture(tmp_path / "set" / "page.png")
    page(tmp_path / "set" / "page.xml", image=written)
    found = good(tmp_path, 'type = "page"\npath = "set/page.xml"\n' + READ)
    assert {row.images for row in found} == {("page.png",)}


def test_images_may_lie_in_the_root_above_the_files(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "one.png")
    (tmp_path / "page").mkdir()
    page(tmp_path / "page" / "1.xml", image="images/one.png")
    source = 'type = "page"\npath = "page/*.xml"\nroot = "."\n' + READ
    assert {row.images for row in good(tmp_path, source)} == {("images/one.png",)}


def test_an_image_outside_the_root_is_not_found(tmp_path: Path) -> None:
    picture(tmp_path / "secret.png")
    (tmp_path / "set").mkdir()
    for number, written in enumerate(["../secret.png", str(tmp_path / "secret.png"), "link.png"]):
        page(tmp_path / "set" / f"{number}.xml", image=written)
    (tmp_path / "set" / "link.png").symlink_to(tmp_path / "secret.png")
    for row in good(tmp_path, 'type = "page"\npath = "set/*.xml"\n' + READ):
        with pytest.raises(Exception, match=r"outside|No such file"):
            image_bytes(row.images[0], tmp_path / "set")


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {chr(98 + n)} "{("&" + chr(97 + n) + ";") * 10}">' for n in range(12)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS + "]><x>&m;</x>",
        '<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>',
        '<x xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="/etc/passwd" parse="text"/></x>',
        "<a>" * 200_000,
        "<alto><Layout>",
        '<?xml version="1.0" encoding="no-such"?><alto/>',
        "",
        "\0",
        '<PcGts xmlns="http://example.com/"/>',
        '<alto xmlns="http://example.com/"/>',
    ],
)
@pytest.mark.parametrize("kind", ["alto", "page"])
def test_hostile_and_broken_files_are_one_drop_that_names_them(tmp_path: Path, text: str, kind: str) -> None:
    (tmp_path / "bad.xml").write_text(text, "utf-8")
    begun = time.monotonic()
    [row] = rows(tmp_path, f'type = "{kind}"\npath = "bad.xml"\n' + READ)
    assert isinstance(row, Drop)
    assert (row.key, row.reason) == ("bad.xml", "bad_row")
    assert row.message.startswith("bad.xml: ")
    assert "root:" not in row.message
    assert time.monotonic() - begun < 2


def test_no_file_and_no_column_are_told(tmp_path: Path) -> None:
    page(tmp_path / "page.xml")
    found = problems(
        tmp_path,
        'type = "alto"\npath = "*.alto"\n' + READ,
        'type = "page"\npath = "page.xml"\ngroup = "{shelf}"\n' + READ,
    )
    assert set(found) == {"source[0].path", "source[1].group"}


def test_pages_are_ingested_with_lines_cut_by_polygon(tmp_path: Path) -> None:
    picture(tmp_path / "page.png")
    page(tmp_path / "1.xml")
    alto(tmp_path / "2.xml")
    file = tmp_path / "set.toml"
    source = 'crop = "{polygon}"\ngroup = "{page}"\n' + READ
    file.write_text(
        f'name = "pages"\nmax_dropped = 0.2\n[[source]]\ntype = "page"\npath = "1.xml"\n{source}'
        f'[[source]]\ntype = "alto"\npath = "2.xml"\n{source}'
    )
    result = ingest(file, store=str(tmp_path / "store"), workers=1)
    assert result["rows"] == {"read": 8, "samples": 7, "dropped": 1}
    assert len(open_snapshot(str(tmp_path / "store"), "pages").samples()) == 7
