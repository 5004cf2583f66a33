"""ALTO XML (Library of Congress, ALTO schema 1 to 4.4) as pages.

Text of a line: `String/@CONTENT` with `SP` as a space and `HYP` as its own content (a hyphen by default), as printed; a line
that has no `SP` at all gets one space between its strings. Order: `ReadingOrder` (4.3), or else that of the file.
`MeasurementUnit` may be `pixel`, `mm10` or `inch1200`; the last two are scaled by the size of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from vlmrecipes.data.crop import points_of
from vlmrecipes.data.sources.layout import Outline, Page, Part, around, corners, number, part
from vlmrecipes.data.sources.safe_xml import child, children, name_of, namespace_of

NAMESPACES = ("", "http://www.loc.gov/standards/alto/", "http://schema.ccs-gmbh.com/ALTO")
_SPACES = ("TopMargin", "LeftMargin", "RightMargin", "BottomMargin", "PrintSpace")


def pages(root: Element) -> list[Page]:
    """Return the pages of an ALTO file. Raises ValueError when it is none."""
    if name_of(root) != "alto" or (not namespace_of(root).startswith(NAMESPACES[1:]) and namespace_of(root)):
        raise ValueError(f"not ALTO: its root is {root.tag[:100]}")
    unit = _text(child(root, "Description", "MeasurementUnit")) or "pixel"
    image = _text(child(root, "Description", "sourceImageInformation", "fileName"))
    layout = child(root, "Layout")
    found = [] if layout is None else children(layout, "Page")
    order = {} if layout is None else _order(layout)
    return [_page(page, image if len(found) == 1 else _own_image(page, image), unit, order) for page in found]


def _own_image(page: Element, image: str) -> str:
    """Return the image of one page of several."""
    return page.get("PHYSICAL_IMG_FILE") or image


def _text(element: Element | None) -> str:
    return (element.text or "").strip() if element is not None else ""


def _order(layout: Element) -> dict[str, int]:
    """Return the place of each id that a ReadingOrder refers to."""
    order = child(layout, "ReadingOrder")
    references = (
        [] if order is None else [item.get("REF", "") for item in order.iter() if name_of(item) == "ElementRef"]
    )
    return {reference: place for place, reference in reversed(list(enumerate(references)))}


def _page(page: Element, image: str, unit: str, order: dict[str, int]) -> Page:
    blocks = [block for space in children(page, *_SPACES) for block in _blocks(space)]
    blocks.sort(key=lambda block: order.get(block.get("ID", ""), len(order)))
    lines = [(block, line) for block in blocks for line in _lines(block, order)]
    return Page(
        image=image,
        size=(number(page.get("WIDTH")), number(page.get("HEIGHT"))),
        in_pixels=unit == "pixel",
        lines=[_line(block, line) for block, line in lines],
        regions=[_region(block, order) for block in blocks],
    )


def _blocks(space: Element) -> Iterator[Element]:
    for element in space:
        if name_of(element) == "TextBlock":
            yield element
        elif name_of(element) == "ComposedBlock":
            yield from _blocks(element)


def _lines(block: Element, order: dict[str, int]) -> list[Element]:
    return sorted(children(block, "TextLine"), key=lambda line: order.get(line.get("ID", ""), len(order)))


def _line(block: Element, line: Element) -> Part:
    region, kind = block.get("ID", ""), block.get("TYPE", "")
    outline = _outline(line)
    return part(region=region, line=line.get("ID", ""), kind=kind, text=_line_text(line), outline=outline)


def _region(block: Element, order: dict[str, int]) -> Part:
    lines = _lines(block, order)
    text = "\n".join(filter(None, map(_line_text, lines)))
    return part(region=block.get("ID", ""), line="", kind=block.get("TYPE", ""), text=text, outline=_outline(block))


def _line_text(line: Element) -> str:
    words = children(line, "String", "SP", "HYP")
    spaced = any(name_of(word) == "SP" for word in words)
    text = ""
    for word in words:
        if name_of(word) == "SP":
            text += " "
        elif name_of(word) == "HYP":
            text += word.get("CONTENT", "-")
        else:
            text += ("" if spaced or not text else " ") + word.get("CONTENT", "")
    return text.strip()


def _outline(element: Element) -> Outline:
    """Return the element's own polygon, its box, or the box around what it holds. Empty when none is there."""
    polygon = child(element, "Shape", "Polygon")
    try:
        if polygon is not None and len(points := points_of(polygon.get("POINTS", ""))) > 2:  # noqa: PLR2004 - a triangle
            return points
        x, y, width, height = (float(element.attrib[name]) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
    except (KeyError, ValueError):
        return around([_outline(item) for item in children(element, "TextLine", "String")])
    return corners(x, y, width, height)
