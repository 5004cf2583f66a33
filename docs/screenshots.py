"""The pictures of the README: `python docs/screenshots.py [RUN] [--store URI]` writes them beside this file.

Shows the report of a finished run (default: the newest of the store) in Chromium. Pictures have at most 64 colours and are
together under 150 kB.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from browser import WIDTHS, Browser, browser
from PIL import Image

import vlmrecipes

HERE = Path(__file__).parent
COLOURS = 64


def main() -> None:
    """Write the pictures and print their sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", default="latest")
    parser.add_argument("--store", default=".vlmrecipes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, browser() as tab:
        page = Path(folder) / "report.html"
        vlmrecipes.report([given.run], page, store=given.store)
        tab.show(page, WIDTHS["desktop"])
        _write("report", tab.picture())
        tab.show(page, WIDTHS["desktop"], dark=True)
        _write("report-dark", tab.picture())
        _write("report-lineage", _part(tab, page, "lineage", 420))
        tab.show(page, WIDTHS["phone"])
        _write("report-phone", tab.picture())


def _part(tab: Browser, page: Path, name: str, height: int) -> bytes:
    """Return the section `name` of the page, cut off below `height` pixels."""
    tab.show(page, (WIDTHS["desktop"][0], height))
    tab.value(f"document.querySelector('[id$=-{name}]').scrollIntoView()")
    return tab.picture()


def _write(name: str, png: bytes) -> None:
    path = HERE / f"{name}.png"
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {image.width} x {image.height}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
