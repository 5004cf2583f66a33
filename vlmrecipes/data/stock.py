"""The images that a store holds, found by what they were prepared from: what is known is not prepared again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from vlmrecipes.data.lookalikes import Picture, pictures_of
from vlmrecipes.data.sample import image_schema, origin_schema
from vlmrecipes.data.store import Store, columns

if TYPE_CHECKING:
    import pyarrow as pa

FLUSH_BYTES = 64 << 20
"""New images are written when so many bytes are waiting."""


class Stock:
    """New images on their way into the store, and what is known of all that are there.

    The store is opened, and written to, by a thread: images are prepared meanwhile.
    """

    def __init__(self, store: Store, dataset: str) -> None:
        """Begin to open the tables of `dataset`; they are read when the origins are asked for."""
        self._store = store
        self._new = store.is_new()
        self._thread = ThreadPoolExecutor(1)
        self._opened = self._thread.submit(store.named, dataset)
        self._writing: Future[None] | None = None
        self._known: dict[str, Picture] = {}
        self._keys: set[str] = set()
        self._images: list[pa.RecordBatch] = []
        self._origins: list[dict[str, str]] = []
        self._bytes = 0

    def __iter__(self) -> Iterator[str]:
        """Read what is there, and yield the origins that need no work. Raises StoreError as `Store.named` does."""
        if self._new:
            return iter(())
        self._opened.result()
        there = pictures_of(columns(self._store.images(), Picture._fields))
        pictures = {picture.key: picture for picture in there}
        origins = columns(self._store.origins(), ("origin", "key"))
        pairs = zip(origins["origin"].to_pylist(), origins["key"].to_pylist(), strict=True)
        self._known = {origin: pictures[key] for origin, key in pairs if key in pictures}
        self._keys = set(pictures)
        return iter(self._known)

    def add(self, images: pa.RecordBatch) -> list[Picture]:
        """Return what settling needs to know of each image of an outcome; new ones wait to be written."""
        origins, originals = images["origin"].to_pylist(), images["source_sha256"].to_pylist()
        fresh = []
        for place, (origin, picture) in enumerate(zip(origins, pictures_of(images), strict=True)):
            if picture.key is None or origin in self._known:
                continue
            self._known[origin] = picture
            self._origins.append({"origin": origin, "key": picture.key, "source_sha256": originals[place]})
            if picture.key not in self._keys:
                self._keys.add(picture.key)
                fresh.append(place)
        if fresh:
            self._wait(images.take(fresh))
        return [self._known[origin] for origin in origins]

    def _wait(self, images: pa.RecordBatch) -> None:
        self._images.append(images.select(image_schema().names))
        self._bytes += images.nbytes
        if self._bytes >= FLUSH_BYTES:
            self._hand_over()

    def _hand_over(self) -> None:
        """Let the thread write what waits, when it has written what waited before."""
        self._written()
        self._writing = self._thread.submit(_write, self._store, self._images, self._origins)
        self._images, self._origins, self._bytes = [], [], 0

    def _written(self) -> None:
        self._opened.result()
        if self._writing is not None:
            self._writing.result()

    def flush(self) -> None:
        """Write what waits, and return when it is written. Raises what writing raises."""
        self._hand_over()
        self._written()


def _write(store: Store, images: list[pa.RecordBatch], origins: Sequence[Mapping[str, str]]) -> None:
    """Write images first, so that no origin names one that is not there."""
    import pyarrow as pa

    if images:
        store.add_images(pa.Table.from_batches(images).cast(image_schema()))
    if origins:
        store.add_origins(pa.Table.from_pylist(list(origins), schema=origin_schema()))
