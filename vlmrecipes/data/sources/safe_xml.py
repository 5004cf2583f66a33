"""XML of unknown origin, read by the standard library's expat with what can be abused switched off.

No document type (so no entities of its own, internal or external, and no expansion of them), at most MAX_BYTES, MAX_ELEMENTS
and MAX_DEPTH. Names lose their namespace.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

MAX_BYTES = 64 << 20
MAX_ELEMENTS = 2_000_000
MAX_DEPTH = 100
_PIECE = 1 << 16


class _Builder(ET.TreeBuilder):
    """Builds the tree, and stops at what no page of a scanner's or an editor's hand holds."""

    def __init__(self) -> None:
        super().__init__()
        self._count = self._depth = 0

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002 - expat's signature
        raise ValueError("has a document type (DTD); such files are not read")

    def start(self, tag: str, attributes: dict[str, str]) -> ET.Element:
        self._count += 1
        self._depth += 1
        if self._count > MAX_ELEMENTS or self._depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_ELEMENTS} elements, or deeper than {MAX_DEPTH}")
        return super().start(tag, attributes)

    def end(self, tag: str) -> ET.Element:
        self._depth -= 1
        return super().end(tag)


def read_xml(path: Path) -> ET.Element:
    """Return the root element. Raises ValueError for a file that is no well-formed XML, or is refused."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    parser = ET.XMLParser(target=_Builder())  # noqa: S314 - as above
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                parser.feed(piece)
        root: ET.Element = parser.close()
    except (ET.ParseError, LookupError) as error:
        raise ValueError(f"not well-formed XML: {error}") from None
    return root


def name_of(element: ET.Element) -> str:
    """Return the element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def namespace_of(element: ET.Element) -> str:
    """Return the element's namespace; empty when it has none."""
    return element.tag.rpartition("}")[0].removeprefix("{")


def children(element: ET.Element, *names: str) -> list[ET.Element]:
    """Return the child elements of these names, in order."""
    return [child for child in element if name_of(child) in names]


def child(element: ET.Element, *path: str) -> ET.Element | None:
    """Return the first element at this path of names below `element`."""
    found: ET.Element | None = element
    for name in path:
        found = next((item for item in found if name_of(item) == name), None) if found is not None else None
    return found
