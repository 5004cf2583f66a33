"""Snapshots: manifests that name table versions, written last and once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.declaration import NAME
from vlmrecipes.data.labels import LABEL, find_label
from vlmrecipes.data.manifests import all_manifests, numbers, read_manifest
from vlmrecipes.data.sample import Sample, Split, from_table
from vlmrecipes.data.store import IMAGES, Store, columns
from vlmrecipes.errors import InputError, StoreError
from vlmrecipes.fingerprint import PREFIX, canonical, sha256

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def samples_fingerprint(digests: Sequence[tuple[str, str]]) -> str:
    """Return `sha256:…` over sample digests, given as (id, digest) pairs in any order; ids put them in order."""
    return PREFIX + sha256(canonical([digest for _, digest in sorted(digests)]))


class ImageReader:
    """Encoded image bytes by key, from one version of the images table. Picklable; opens the store where it is used."""

    def __init__(self, uri: str, version: int, keys: np.ndarray, offsets: np.ndarray) -> None:
        """Take sorted `keys` (n,) as `S32` digests and the row `offsets` (n,) they stand at."""
        self.uri, self.version = uri, version
        self._keys, self._offsets = keys, offsets
        self._table: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": None}

    def read(self, keys: Sequence[str]) -> list[bytes]:
        """Return the bytes of the images `keys`, in that order. Raises StoreError for a key that is not there."""
        if not keys:
            return []
        if self._table is None:
            self._table = Store(self.uri).frozen(IMAGES, self.version)
        found = self._table.take_offsets(self._rows(keys)).select(["key", "data"]).to_arrow()
        data = dict(zip(found["key"].to_pylist(), found["data"].to_pylist(), strict=True))
        if missing := [key for key in keys if key not in data]:
            raise StoreError(f"{self.uri}: image {missing[0]} is not in version {self.version}")
        return [data[key] for key in keys]

    def _rows(self, keys: Sequence[str]) -> list[int]:
        import numpy as np

        wanted = np.array(sorted({bytes.fromhex(key) for key in keys}), dtype="S32")
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        rows: list[int] = sorted(self._offsets[places].tolist())
        return rows


class Snapshot:
    """An immutable version of a dataset."""

    def __init__(self, uri: str, manifest: dict[str, Any]) -> None:
        """Hold the manifest; tables are opened when they are asked for."""
        self.uri, self.manifest = uri, manifest
        self.name: str = manifest["snapshot"]
        self.fingerprint: str = manifest["fingerprint"]

    def samples(self, split: Split | None = None) -> list[Sample]:
        """Return the samples, or those of one side, ordered by id."""
        every = self._samples
        return [sample for sample in every if split in (None, sample.split)]

    @cached_property
    def _samples(self) -> list[Sample]:
        table = self.table("samples").search().to_arrow()
        return sorted(from_table(table), key=lambda sample: sample.id)

    def drops(self) -> list[dict[str, str]]:
        """Return the rows left out: source, key, reason, message."""
        rows: list[dict[str, str]] = self.table("drops").search().to_arrow().to_pylist()
        return rows

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return (width, height) in pixels by image key."""
        keys, widths, heights = (self._images[name].to_pylist() for name in ("key", "width", "height"))
        return dict(zip(keys, zip(widths, heights, strict=True), strict=True))

    def pixels(self) -> dict[str, str]:
        """Return the SHA-256 of the decoded pixels by image key."""
        return dict(zip(self._images["key"].to_pylist(), self._images["pixels"].to_pylist(), strict=True))

    def reader(self) -> ImageReader:
        """Return a reader of this snapshot's image bytes."""
        import numpy as np

        keys = np.array([bytes.fromhex(key) for key in self._images["key"].to_pylist()], dtype="S32")
        order = np.argsort(keys)
        return ImageReader(self.uri, self.manifest["tables"]["images"]["version"], keys[order], order)

    @cached_property
    def _images(self) -> Any:
        return self.columns("images", ("key", "width", "height", "pixels"))

    def columns(self, role: str, names: Sequence[str]) -> pa.Table:
        """Return whole columns of the snapshot's `images`, `samples` or `drops` as an Arrow table.

        The images table is the store's: it holds other datasets' images too.
        """
        return columns(self.table(role), names)

    def table(self, role: str) -> Any:
        """Return a read-only handle of the snapshot's `images`, `samples` or `drops`, at the version that it names."""
        at = self.manifest["tables"][role]
        return Store(self.uri).frozen(at["name"], at["version"])


def list_snapshots(uri: str) -> list[dict[str, Any]]:
    """Return the manifests of all snapshots, by name and number. Reads no table of data."""
    return all_manifests(uri)


def open_snapshot(uri: str, name: str) -> Snapshot:
    """Return snapshot `name` (the newest), `name@N` or `name@LABEL`. Raises InputError that lists what there is."""
    dataset, _, word = name.partition("@")
    there = numbers(uri, dataset) if NAME.fullmatch(dataset) else []
    number = str(find_label(uri, dataset, word)) if there and LABEL.fullmatch(word) else word
    wanted = there[-1:] if not number else [n for n in there if str(n) == number]
    if not wanted:
        known = ", ".join(manifest["snapshot"] for manifest in list_snapshots(uri)) or "none yet"
        raise InputError.one(
            f"no snapshot {name!r} in the store {uri} (there are: {known}); make it with `vlmrecipes ingest`"
        )
    return Snapshot(uri, read_manifest(uri, dataset, wanted[0]))
