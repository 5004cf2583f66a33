"""Encoded images by key, from one version of the images table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.store import IMAGES, Store, reading_images
from vlmrecipes.errors import StoreError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HEAD = 16
"""Bytes of a key that are kept: no two SHA-256 sums share so many."""


class ImageReader:
    """Reads images wherever it is: it may be pickled, in few bytes, and opens the store and reads its keys at first use."""

    def __init__(self, uri: str, version: int) -> None:
        """Name the store and the version of its table of images."""
        self.uri, self.version = uri, version
        self._opened: tuple[Any, Index] | None = None
        self._in_order: bool | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def read(self, keys: Sequence[str]) -> list[bytes]:
        """Return the bytes of the images `keys`, in that order.

        Raises StoreError for a key that is not there, and for a table that cannot be read.
        """
        if not keys:
            return []
        self._opened = self._opened or self._open()
        dataset, index = self._opened
        placed = sorted(zip(index.places(once := list(dict.fromkeys(keys))), once, strict=True))
        with reading_images(self.uri):
            taken = dataset.take([place for place, _ in placed], columns=["data"])
        found: list[bytes] = taken["data"].to_pylist()
        if self._in_order is None and len(found) > 1:
            self._in_order = _order_holds([key for _, key in placed], found)
        if self._in_order is False:
            raise StoreError("this pylance gives rows in another order than asked for: install the one that is locked")
        data = {key: value for (_, key), value in zip(placed, found, strict=True)}
        return [data[key] for key in keys]

    def _open(self) -> tuple[Any, Index]:
        dataset = Store(self.uri).dataset(IMAGES, self.version)
        with reading_images(self.uri):
            keys = dataset.to_table(columns=["key"])["key"]
        return dataset, Index(f"version {self.version} of the images of {self.uri}", keys.to_pylist())


class Index:
    """Where images lie: 24 bytes of memory an image of the store, the head of its key and the place of its row."""

    def __init__(self, name: str, keys: Sequence[str]) -> None:
        """Take the `keys` of all images in the order of their rows; `name` says in errors which images."""
        import numpy as np

        heads = _heads(keys)
        self.name = name
        self._places: NDArray[np.int64] = np.argsort(heads, kind="stable")
        self._heads: NDArray[np.bytes_] = heads[self._places]

    def places(self, keys: Sequence[str]) -> list[int]:
        """Return the places of the rows of `keys`, in that order. Raises StoreError for a key that is not there."""
        import numpy as np

        heads = _heads(keys)
        at = np.searchsorted(self._heads, heads)
        there = (
            self._heads[np.minimum(at, len(self._heads) - 1)] == heads if len(self._heads) else np.zeros(len(at), bool)
        )
        if not there.all():
            raise StoreError(f"image {keys[int(np.argmin(there))]} is not in {self.name}")
        places: list[int] = self._places[at].tolist()
        return places


def _order_holds(keys: Sequence[str], found: Sequence[bytes]) -> bool:
    """Tell whether images lie in the order of `keys`, the SHA-256 of their bytes; a damaged one says nothing of the order."""
    sums = [hashlib.sha256(data).hexdigest() for data in found]
    known = set(keys)
    return all(one == key or one not in known for one, key in zip(sums, keys, strict=True))


def _heads(keys: Sequence[str]) -> NDArray[np.bytes_]:
    """Return the first bytes of hexadecimal keys (n,)."""
    import numpy as np

    return np.array([bytes.fromhex(key[: 2 * HEAD]) for key in keys], f"S{HEAD}")
