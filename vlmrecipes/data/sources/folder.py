"""A folder of images as rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

SUFFIXES = frozenset(
    ".jpg .jpeg .png .webp .gif .bmp .tif .tiff .ppm .pgm .avif .jp2".split()  # noqa: SIM905 - reads better
)


def rows(root: Path, pattern: str) -> Iterator[tuple[str, dict[str, Any] | None, str]]:
    """Yield (key, columns, problem) for each image under `root` that fits `pattern`, in the order of their paths."""
    for path in sorted(root.glob(pattern)):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            yield _row(root, path)


def _row(root: Path, path: Path) -> tuple[str, dict[str, Any] | None, str]:
    name = path.relative_to(root).as_posix()
    columns = {"path": name, "name": path.name, "stem": path.stem, "parent": path.parent.relative_to(root).as_posix()}
    text = path.with_suffix(".txt")
    try:
        if text.is_file():
            columns["text"] = text.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return name, None, f"{text.name}: {error}"
    return name, columns, ""
