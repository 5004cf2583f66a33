"""Encoded images by key, from one version of the images table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.store import IMAGES, Store
from vlmrecipes.errors import StoreError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

HEX_DIGITS = 64
"""Length of a key."""


class ImageReader:
    """Reads images wherever it is: it may be pickled, and opens the store where it is first used.

    16 bytes of memory an image of the store: the first 8 bytes of its key and the row it stands at.
    """

    def __init__(self, uri: str, version: int, keys: pa.ChunkedArray) -> None:
        """Take the `keys` of all images of that version, in the order of its rows."""
        import numpy as np

        self.uri, self.version = uri, version
        heads = heads_of(keys)
        self._rows: NDArray[np.int64] = np.argsort(heads, kind="stable")
        self._heads: NDArray[np.uint64] = heads[self._rows]
        self._table: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": None}

    def read(self, keys: Sequence[str]) -> list[bytes]:
        """Return the bytes of the images `keys`, in that order. Raises StoreError for a key that is not there."""
        if not keys:
            return []
        if self._table is None:
            self._table = Store(self.uri).frozen(IMAGES, self.version)
        data: dict[str, bytes] = {}
        if rows := self.places(keys):
            found = self._table.take_offsets(rows).select(["key", "data"]).to_arrow()
            data = dict(zip(found["key"].to_pylist(), found["data"].to_pylist(), strict=True))
        if missing := [key for key in keys if key not in data]:
            raise StoreError(f"{self.uri}: image {missing[0]} is not in version {self.version}")
        return [data[key] for key in keys]

    def places(self, keys: Sequence[str]) -> list[int]:
        """Return the rows where the keys may be: usually one each, more where heads are equal."""
        import numpy as np

        heads = np.array([int(key[:16], 16) for key in set(keys)], np.uint64)
        first, last = (np.searchsorted(self._heads, heads, side) for side in ("left", "right"))
        spans = zip(first.tolist(), last.tolist(), strict=True)
        return sorted({row for start, end in spans for row in self._rows[start:end].tolist()})


def heads_of(keys: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Return the first 8 bytes of hexadecimal keys (n,) as numbers."""
    import numpy as np

    text = "".join(keys.to_pylist()).encode("ascii")
    digits = np.frombuffer(text, np.uint8).reshape(-1, HEX_DIGITS)[:, :16].astype(np.uint64)
    nibbles = np.where(digits >= ord("a"), digits - (ord("a") - 10), digits - ord("0"))
    heads: NDArray[np.uint64] = np.bitwise_or.reduce(nibbles << np.arange(60, -4, -4, dtype=np.uint64), axis=1)
    return heads
