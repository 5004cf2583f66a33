"""A small set of drawn pictures, declared and ingested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from vlmrecipes.ingestion import ingest

Row = dict[str, Any]


def drawn(path: Path, text: str) -> str:
    image = Image.new("RGB", (90, 24), "white")
    ImageDraw.Draw(image).text((4, 4), text, fill="black")
    image.save(path)
    return path.name


def project(folder: Path, count: int) -> list[Row]:
    """Draw `count` pictures with two questions each, and return the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        image = drawn(folder / f"{number}.png", f"pages {number}")
        rows += [{"image": image, "q": "Read.", "text": f"pages {number}"}]
        rows += [{"image": image, "q": "Number?", "text": str(number)}]
    return rows


def declared(folder: Path, rows: list[Row], extra: str = "", *, name: str = "pages", source: str = "") -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    file = folder / "set.toml"
    file.write_text(
        f'name = "{name}"\nlicense = "CC0-1.0"\n{extra}\nsplit.eval = 0.3\n[[source]]\ntype = "jsonl"\npath = "rows.jsonl"\n'
        f'image = "{{image}}"\nprompt = "{{q}}"\nanswer = "{{text}}"\n{source}\n',
        "utf-8",
    )
    return file


def ingested(file: Path, store: Path) -> dict[str, Any]:
    return ingest(file, store=str(store), workers=1)
