"""Font files by name: where they are, which package has them, which characters they can draw."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vlmrecipes.data.sources.synthetic.text import ALPHABET

BUILT_IN = "pillow"
"""Name of the font inside Pillow; needs no file."""
PACKAGES = {
    "3270": "fonts-3270",
    "Amiga": "fonts-amiga",
    "Anonymous": "fonts-anonymous-pro",
    "AveriaSans": "fonts-averia-sans-gwf",
    "C-64": "fonts-sixtyfour",
    "Cabin": "fonts-cabin",
    "Caladea": "fonts-crosextra-caladea",
    "Cantarell": "fonts-cantarell",
    "Carlito": "fonts-crosextra-carlito",
    "Comfortaa": "fonts-comfortaa",
    "Courier Prime": "fonts-courier-prime",
    "Cousine": "fonts-croscore",
    "DejaVu": "fonts-dejavu-extra",
    "Dosis": "fonts-dosis",
    "EBGaramond": "fonts-ebgaramond",
    "FantasqueSans": "fonts-fantasque-sans",
    "FiraCode": "fonts-firacode",
    "Free": "fonts-freefont-ttf",
    "Glass": "fonts-glasstty",
    "Go-": "fonts-go",
    "Hack": "fonts-hack",
    "Hermit": "fonts-hermit",
    "Inconsolata": "fonts-inconsolata",
    "JetBrains": "fonts-jetbrains-mono",
    "Jura": "fonts-jura",
    "Karla": "fonts-karla",
    "Lato": "fonts-lato",
    "LeagueMono": "fonts-league-mono",
    "Liberation": "fonts-liberation",
    "Lin": "fonts-linuxlibertine",
    "Mplus": "fonts-mplus",
    "Noto": "fonts-noto-mono",
    "OCRA": "fonts-ocr-a",
    "OCRB": "fonts-ocr-b",
    "OldStandard": "fonts-oldstandard",
    "OpenSans": "fonts-open-sans",
    "Oxygen": "fonts-oxygen",
    "PT": "fonts-paratype",
    "Play": "fonts-play",
    "Proggy": "fonts-proggy",
    "Quicksand": "fonts-quicksand",
    "Roboto": "fonts-roboto-unhinted",
    "Tinos": "fonts-croscore",
    "Vollkorn": "fonts-vollkorn",
    "Yanone": "fonts-yanone-kaffeesatz",
    "agave": "fonts-agave",
    "monof": "fonts-monofur",
    "mononoki": "fonts-mononoki",
    "spleen": "fonts-spleen",
}
"""Debian package of each font, by the beginning of its file name."""
_PROBE = 24
"""Size in pixels at which characters are tried."""
_ABSENT = "\U000fffff"
"""A character that no font has: shows what the font draws instead of one."""


def find(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the paths of the fonts found, in the order of `names`, and the names not found."""
    known = {BUILT_IN: BUILT_IN} if set(names) == {BUILT_IN} else _index()
    found = [known[name] for name in names if name in known]
    return found, [name for name in names if name not in known]


def _index() -> dict[str, str]:
    """Return the path of every font file there is; of two with one name, the first in path order of the first folder."""
    paths = {BUILT_IN: BUILT_IN}
    for folder in _folders():
        for path in sorted(folder.rglob("*.[ot]t[fc]")):
            paths.setdefault(path.name, str(path))
    return paths


def _folders() -> Iterable[Path]:
    given = [Path(part) for part in os.environ.get("VLMRECIPES_FONTS", "").split(os.pathsep) if part]
    home = Path("~").expanduser()
    usual = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".fonts", home / ".local/share/fonts")
    return [folder for folder in (*given, *usual) if folder.is_dir()]


def advice(missing: Sequence[str]) -> str:
    """Return what to tell someone who lacks the fonts called `missing`."""
    packages = sorted({PACKAGES[start] for start in PACKAGES for name in missing if name.startswith(start)})
    shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
    install = f"on Debian: apt-get install {' '.join(packages)}; or " if packages else ""
    return f"font files not found: {shown}; {install}name the folder they are in in $VLMRECIPES_FONTS"


@lru_cache(maxsize=192)
def load(path: str, size: int) -> ImageFont.FreeTypeFont:
    """Return the font at `size` pixels. Raises OSError when the file is not a font."""
    if path == BUILT_IN:
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101 - Pillow's wheels all have FreeType
        return font
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1024)
def cap_share(path: str) -> float:
    """Return the height of a capital letter, in font sizes."""
    box = load(path, 100).getbbox("H", anchor="ls")
    return max(0.2, -box[1] / 100)


@lru_cache(maxsize=1024)
def drawable(path: str) -> frozenset[str]:
    """Return the characters of the alphabet, and the space, that the font has a picture of."""
    font = load(path, _PROBE)
    blank, substitute = _picture(font, " "), _picture(font, _ABSENT)
    return frozenset(" ") | {char for char in ALPHABET if _picture(font, char) not in (blank, substitute)}


def _picture(font: ImageFont.FreeTypeFont, char: str) -> bytes:
    image = Image.new("L", (2 * _PROBE, 2 * _PROBE))
    ImageDraw.Draw(image).text((_PROBE // 2, _PROBE + _PROBE // 2), char, 255, font, anchor="ls")
    return image.tobytes()
