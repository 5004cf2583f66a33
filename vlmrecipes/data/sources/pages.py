"""Pages with their layout in XML (ALTO, PAGE) as rows: one a line or region, in reading order.

| column            | what it is                                                                              |
|-------------------|-----------------------------------------------------------------------------------------|
| `image`           | the page's image: as the XML names it, or the image of the XML's own name beside it      |
| `text`            | the line's text; of a region its lines' texts, one a line                                |
| `box`             | `[x0, y0, x1, y1]` in pixels                                                             |
| `polygon`         | its outline `[[x, y], …]`; the corners of the box where the file gives none              |
| `page`            | the XML file                                                                             |
| `region`, `line`  | their ids in the file; empty where it gives none                                         |
| `type`            | the region's type, as the file has it (`heading`, `marginalia`, …)                       |
| `index`           | place on the page in reading order, from 0                                               |

A file that cannot be read is one row with a problem. Keys are the file and the id of the line or region in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import unquote, urlsplit

from vlmrecipes.data.images import ImageError, inside
from vlmrecipes.data.source_tables import PagesSource
from vlmrecipes.data.sources import alto, page_xml
from vlmrecipes.data.sources.files import Files
from vlmrecipes.data.sources.folder import SUFFIXES
from vlmrecipes.data.sources.layout import Page, Part
from vlmrecipes.data.sources.row import RawRow
from vlmrecipes.data.sources.safe_xml import read_xml

_READERS = {"alto": alto.pages, "page": page_xml.pages}


def rows(spec: PagesSource, files: Files, root: Path) -> Iterator[RawRow]:
    """Yield the rows of each file; `root` is the folder that images must lie in."""
    for name, path in files.named():
        try:
            found = _READERS[spec.type](read_xml(path))  # type: ignore[attr-defined]
        except (OSError, ValueError) as error:
            yield RawRow(name, None, f"{name}: {error}")
            continue
        for page in found:
            yield from _page_rows(spec, page, name, _image(page.image, path, root))


@dataclass(frozen=True, slots=True)
class _Image:
    """A page's image: how it is written relative to the root, and the file when it is there."""

    reference: str
    path: Path | None


def _image(written: str, xml: Path, root: Path) -> _Image:
    """Return the image that `written` names: from the XML's folder or the root, by path or name, or by the XML's.

    What is not there keeps its reference, and becomes a drop that names it.
    """
    path = _as_path(written)
    names = [path, path.rpartition("/")[2]] if path else []
    names += [xml.stem + suffix for suffix in sorted(SUFFIXES)]
    for name in names:
        for folder in (xml.parent, root):
            try:
                found = inside(root, str(folder.resolve() / name))
            except ImageError:
                continue
            if found.is_file():
                return _Image(found.relative_to(root.resolve()).as_posix(), found)
    return _Image(path or f"{xml.stem}: the file names no image, and none of its name is beside it", None)


def _as_path(written: str) -> str:
    """Return a `file:` URL or a Windows path as a plain path."""
    text = written.strip()
    if text.startswith("file:"):
        return unquote(urlsplit(text).path)
    return PureWindowsPath(text).as_posix() if "\\" in text else text


def _page_rows(spec: PagesSource, page: Page, name: str, image: _Image) -> Iterator[RawRow]:
    try:
        scale = page.scale(image.path)
    except ValueError as error:
        yield RawRow(name, None, f"{name}: {error}")
        return
    parts = page.lines if spec.level == "line" else page.regions
    for index, part in enumerate(parts):
        key = f"{name}:{part.line or part.region or f'{spec.level}-{index}'}"
        if part.problem:
            yield RawRow(key, None, part.problem)
            continue
        yield RawRow(
            key, _columns(part, scale) | {"image": image.reference, "page": str(PurePosixPath(name)), "index": index}
        )


def _columns(part: Part, scale: tuple[float, float]) -> dict[str, Any]:
    outline = [[x * scale[0], y * scale[1]] for x, y in part.outline]
    across, down = [x for x, _ in outline], [y for _, y in outline]
    box = [min(across), min(down), max(across), max(down)]
    return {
        "text": part.text,
        "box": box,
        "polygon": outline,
        "region": part.region,
        "line": part.line,
        "type": part.type,
    }
