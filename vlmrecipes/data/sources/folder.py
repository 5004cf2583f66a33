"""A folder of images as rows, by the convention of `datasets`' ImageFolder.

Without metadata files every image is a row: `path`, `name`, `stem`, `parent`, and `text` where a `.txt` lies beside it.
With `metadata.jsonl` or `metadata.csv` files, in any of its folders, their lines are the rows. `file_name` is the image
`{image}`, `file_names` the list `{images}`, `left_file_name` is `{left}`, `views_file_names` the list `{views}`: paths are
relative to the metadata file that names them. `path`, `name`, `stem` and `parent` tell of `file_name`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from vlmrecipes.data.images import ImageError, inside
from vlmrecipes.data.source_tables import FolderSource
from vlmrecipes.data.sources import tabular
from vlmrecipes.data.sources.files import fitting
from vlmrecipes.data.sources.row import RawRow
from vlmrecipes.errors import InputError

SUFFIXES = frozenset(
    ".jpg .jpeg .png .webp .gif .bmp .tif .tiff .ppm .pgm .avif .jp2".split()  # noqa: SIM905 - reads better
)
METADATA = {"metadata.jsonl": tabular.jsonl_rows, "metadata.csv": tabular.csv_rows}
_MAX_TEXT = 1 << 20


def reader(spec: FolderSource, root: Path, *, file: str, key: str) -> Callable[[], Iterator[RawRow]]:
    """Return what reads the rows of the folder `root`. Raises InputError for a pattern that cannot be meant."""
    parts = PurePosixPath(spec.pattern).parts
    if spec.pattern.startswith("/") or ".." in parts or not parts:
        problem = f"{spec.pattern!r} must be a glob inside the folder, such as '**/*.png'"
        raise InputError.one(problem, file=file, key=f"{key}.pattern")
    try:
        listed = _metadata(root)
    except (OSError, ValueError) as error:
        raise InputError.one(f"cannot be read: {error}", file=file, key=f"{key}.path") from None
    if not listed:
        return partial(_images, root, spec.pattern)
    if spec.pattern != FolderSource.model_fields["pattern"].default:
        name = listed[0].relative_to(root).as_posix()
        raise InputError.one(f"has no meaning beside {name}, which lists the images", file=file, key=f"{key}.pattern")
    return partial(_listed, root, listed)


def files(root: Path) -> list[tuple[str, Path]]:
    """Return the files that rows were read from besides the images: the metadata files, or the texts beside images."""
    paths = _metadata(root) or fitting(root, "**/*.txt")
    return [(path.relative_to(root).as_posix(), path) for path in paths if path.is_file() and _is_inside(root, path)]


def _is_inside(root: Path, path: Path) -> bool:
    try:
        inside(root, path.relative_to(root).as_posix())
    except ImageError:
        return False
    return True


def _metadata(root: Path) -> list[Path]:
    return [path for path in fitting(root, "**/metadata.*") if path.name in METADATA]


def _images(root: Path, pattern: str) -> Iterator[RawRow]:
    for path in fitting(root, pattern):
        if path.suffix.lower() in SUFFIXES:
            yield _image(root, path)


def _image(root: Path, path: Path) -> RawRow:
    name = path.relative_to(root).as_posix()
    beside = path.with_suffix(".txt")
    columns = _about(PurePosixPath(name))
    try:
        inside(root, name)
        if beside.is_file():
            columns["text"] = _text(inside(root, beside.relative_to(root).as_posix()))
    except (OSError, ValueError) as error:
        return RawRow(name, None, f"{beside.name}: {error}")
    except ImageError as error:
        return RawRow(name, None, error.message, error.reason)
    return RawRow(name, columns)


def _text(path: Path) -> str:
    if path.stat().st_size > _MAX_TEXT:
        raise ValueError(f"larger than {_MAX_TEXT} bytes")
    return tabular.file_text(path.read_bytes())


def _about(path: PurePosixPath) -> dict[str, Any]:
    return {"path": str(path), "name": path.name, "stem": path.stem, "parent": str(path.parent)}


def _listed(root: Path, files: list[Path]) -> Iterator[RawRow]:
    for path in files:
        name = path.relative_to(root).as_posix()
        try:
            inside(root, name)
        except ImageError as error:
            yield RawRow(name, None, error.message, error.reason)
            continue
        for row in METADATA[path.name](path, name):
            yield row if row.columns is None else _with_paths(row, row.columns, PurePosixPath(name))


def _with_paths(row: RawRow, columns: dict[str, Any], metadata: PurePosixPath) -> RawRow:
    """Return the row with its images' paths relative to the root, and its first image's as its key."""
    found = {image: _joined(metadata.parent, columns[column]) for column, image in _image_columns(columns)}
    if not found:
        return RawRow(row.key, None, "no `file_name` in this row (nor `file_names`, `*_file_name`, `*_file_names`)")
    first = next((value for value in found.values() if value), "")
    name = first[0] if isinstance(first, list) else first
    about = _about(PurePosixPath(found["image"])) if isinstance(found.get("image"), str) else {}
    return RawRow(f"{metadata}:{name}" if isinstance(name, str) and name else row.key, {**about, **columns, **found})


def _image_columns(columns: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (column, the name its images get)."""
    for column in columns:
        for ending, plain in (("file_name", "image"), ("file_names", "images")):
            if column == ending:
                yield column, plain
            elif column.endswith(f"_{ending}"):
                yield column, column.removesuffix(f"_{ending}")


def _joined(parent: PurePosixPath, value: Any) -> Any:
    if isinstance(value, list):
        return [_joined(parent, item) for item in value]
    if not isinstance(value, str) or not value or "://" in value:
        return value
    return str(parent / value)
