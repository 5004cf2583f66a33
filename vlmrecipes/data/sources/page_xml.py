"""PAGE XML (PRImA page content schema, 2010 to 2019) as pages.

Text: the `TextEquiv` of the lowest `@index`, of equals the highest `@conf`; a line without one is its words', joined by spaces.
Order: `ReadingOrder`, groups in groups, by `@index` where it is ordered; regions that it does not name follow in the order of
the file. Without it, and for lines, `readingOrder {index:N;}` in `@custom` (Transkribus), otherwise the order of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from vlmrecipes.data.crop import points_of
from vlmrecipes.data.sources.layout import Outline, Page, Part, around, number, part
from vlmrecipes.data.sources.safe_xml import child, children, name_of, namespace_of

NAMESPACE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/"
_CUSTOM = re.compile(r"readingOrder\s*\{[^}]*index\s*:\s*(\d{1,9})")
_WHOLE = re.compile(r"\d{1,9}")
_GROUPS = ("OrderedGroup", "UnorderedGroup", "OrderedGroupIndexed", "UnorderedGroupIndexed")
_REFERENCES = ("RegionRef", "RegionRefIndexed")


def pages(root: Element) -> list[Page]:
    """Return the page of a PAGE file. Raises ValueError when it is none."""
    if name_of(root) != "PcGts" or not namespace_of(root).startswith(NAMESPACE):
        raise ValueError(f"not PAGE XML: its root is {root.tag[:100]}")
    page = child(root, "Page")
    if page is None:
        raise ValueError("holds no Page")
    regions = _ordered(list(_regions(page)), page)
    lines = [(region, line) for region in regions for line in _lines(region)]
    return [
        Page(
            image=page.get("imageFilename", ""),
            size=(number(page.get("imageWidth")), number(page.get("imageHeight"))),
            lines=[_line(region, line) for region, line in lines],
            regions=[_region(region) for region in regions],
        )
    ]


def _regions(element: Element) -> Iterator[Element]:
    """Yield text regions, those inside tables and other regions too."""
    for region in element:
        if name_of(region) == "TextRegion":
            yield region
        if name_of(region).endswith("Region"):
            yield from _regions(region)


def _ordered(regions: list[Element], page: Element) -> list[Element]:
    order = child(page, "ReadingOrder")
    names = [] if order is None else list(_references(order))
    if not names:
        return _by_custom(regions)
    places = {name: place for place, name in reversed(list(enumerate(names)))}
    inside = {region.get("id", ""): places.get(region.get("id", "")) for region in regions}
    for region in regions:  # What the order does not name stays behind the region that holds it.
        for inner in _regions(region):
            if inside[inner.get("id", "")] is None:
                inside[inner.get("id", "")] = inside[region.get("id", "")]
    return sorted(regions, key=lambda region: _or_last(inside[region.get("id", "")], len(names)))


def _or_last(place: int | None, last: int) -> int:
    return last if place is None else place


def _references(group: Element) -> Iterator[str]:
    """Yield the ids of regions in reading order (`ReadingOrder`, groups in groups)."""
    for item in sorted(children(group, *_GROUPS, *_REFERENCES), key=_index):
        if item.get("regionRef"):
            yield item.get("regionRef", "")
        if name_of(item) in _GROUPS:
            yield from _references(item)


def _index(item: Element) -> int:
    text = item.get("index", "")
    return int(text) if _WHOLE.fullmatch(text) else 0


def _by_custom(elements: list[Element]) -> list[Element]:
    places = [_CUSTOM.search(element.get("custom", "")) for element in elements]
    if not all(places):
        return elements
    numbers = [int(place.group(1)) if place else 0 for place in places]
    return [elements[number] for number in sorted(range(len(elements)), key=numbers.__getitem__)]


def _lines(region: Element) -> list[Element]:
    return _by_custom(children(region, "TextLine"))


def _line(region: Element, line: Element) -> Part:
    name, kind = region.get("id", ""), region.get("type", "")
    outline = _outline(line)
    return part(region=name, line=line.get("id", ""), kind=kind, text=_line_text(line), outline=outline)


def _region(region: Element) -> Part:
    lines = _lines(region)
    text = "\n".join(filter(None, map(_line_text, lines))) if lines else _best(region)
    name, kind = region.get("id", ""), region.get("type", "")
    return part(region=name, line="", kind=kind, text=text, outline=_outline(region))


def _line_text(line: Element) -> str:
    if children(line, "TextEquiv"):
        return _best(line)
    return " ".join(filter(None, map(_best, children(line, "Word"))))


def _best(element: Element) -> str:
    """Return the text of the best TextEquiv: lowest index, then highest confidence, then first."""
    found = children(element, "TextEquiv")
    if not found:
        return ""
    text = child(min(found, key=_rank), "Unicode")
    return (text.text or "").strip() if text is not None else ""


def _rank(equivalent: Element) -> tuple[int, float]:
    index = equivalent.get("index", "")
    try:
        confidence = float(equivalent.get("conf", "0"))
    except ValueError:
        confidence = 0.0
    return int(index) if _WHOLE.fullmatch(index) else 0, -confidence


def _outline(element: Element) -> Outline:
    """Return the element's polygon, or the box around what it holds. Empty when none is there."""
    coords = child(element, "Coords")
    try:
        points = [] if coords is None else _points(coords)
    except (KeyError, ValueError):
        points = []
    if len(points) > 2:  # noqa: PLR2004 - a triangle
        return points
    return around([_outline(item) for item in children(element, "TextLine", "Word")])


def _points(coords: Element) -> Outline:
    if "points" in coords.attrib:
        return points_of(coords.attrib["points"])
    return [[float(point.attrib["x"]), float(point.attrib["y"])] for point in children(coords, "Point")]
