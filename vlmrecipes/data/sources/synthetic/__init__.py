"""Rows made by this package: images are rendered where they are needed, from a few numbers.

| generator       | columns                                           | what it gives                                    |
|-----------------|---------------------------------------------------|--------------------------------------------------|
| `lines`         | `image`, `text`                                   | printed lines in many fonts, worn as scans are   |
| `shapes`        | `image`, `question`, `answer`, `type`             | coloured shapes and questions about them         |
| `digit-strings` | `image`, `text`, `part`                           | numbers made of digits that people wrote by hand |
| `easy-vqa`      | `image`, `question`, `answer`, `type`, `image_id` | images and questions of the easy-vqa package     |

Row `i` depends on the generator, its options, `seed`, `part` and `i`: never on `count`, the machine or the worker.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from vlmrecipes.data.source_tables import SyntheticSource


@runtime_checkable
class Rendered(Protocol):
    """An image not made yet: small to pickle, made in the worker that needs it."""

    def render(self) -> bytes:
        """Return the encoded image; the same bytes every time."""
        ...


def open_generator(source: SyntheticSource, *, file: str, key: str) -> Iterator[dict[str, Any]]:
    """Return the rows of `source`: dicts with `columns(source.generator)`, `image` holding a `Rendered`.

    `file` and `key` say where the source stands (`datasets/x.toml`, `source[0]`). Raises InputError with every problem
    of the options, and with what to install when material is missing, before the first row.
    """
    rows: Iterator[dict[str, Any]] = _module(source.generator).open_rows(source, file=file, key=key)
    return rows


def columns(generator: str) -> tuple[str, ...]:
    """Return the names of the columns that `generator` gives."""
    names: tuple[str, ...] = _module(generator).COLUMNS
    return names


def _module(generator: str) -> Any:
    return importlib.import_module(f"{__name__}.{generator.replace('-', '_')}")
