"""Snapshots: manifests that name table versions, written last and once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.declaration import NAME
from vlmrecipes.data.labels import LABEL, find_label
from vlmrecipes.data.loader import Images, Rows
from vlmrecipes.data.manifests import all_manifests, numbers, read_manifest
from vlmrecipes.data.reader import ImageReader
from vlmrecipes.data.sample import Sample, Split, from_table, image_schema
from vlmrecipes.data.store import Store, columns, need_columns
from vlmrecipes.errors import InputError, StoreError
from vlmrecipes.extras import need
from vlmrecipes.fingerprint import PREFIX, canonical, sha256

if TYPE_CHECKING:
    import pyarrow as pa


ID = re.compile("[0-9a-f]+")


def samples_fingerprint(digests: Sequence[tuple[str, str]]) -> str:
    """Return `sha256:…` over sample digests, given as (id, digest) pairs in any order; ids put them in order."""
    return PREFIX + sha256(canonical([digest for _, digest in sorted(digests)]))


class Snapshot:
    """An immutable version of a dataset."""

    def __init__(self, uri: str, manifest: dict[str, Any]) -> None:
        """Hold the manifest; tables are opened when they are asked for."""
        self.uri, self.manifest = uri, manifest
        self.name: str = manifest["snapshot"]
        self.fingerprint: str = manifest["fingerprint"]
        self._samples: dict[Split | None, list[Sample]] = {}
        self._sides: dict[Split | None, pa.Table] = {}

    def samples(self, split: Split | None = None) -> list[Sample]:
        """Return the samples, or those of one side, ordered by id."""
        if split not in self._samples:
            self._samples[split] = from_table(self._ordered(split))
        return list(self._samples[split])

    def ids(self, split: Split | None = None) -> list[str]:
        """Return the ids of the samples, or of those of one side, in order, without reading the rest of them."""
        ids: list[str] = self.side(split, ("id",))["id"].sort().to_pylist()
        return ids

    def chosen(self, ids: Sequence[str]) -> list[Sample]:
        """Return the samples of these ids that there are, ordered by id, without reading the others' texts."""
        quoted = ", ".join(f"'{name}'" for name in ids if ID.fullmatch(name))
        found = self.table("samples").search().where(f"id IN ({quoted})").to_arrow() if quoted else None
        return sorted(from_table(found), key=lambda sample: sample.id) if found else []

    def _ordered(self, split: Split | None) -> pa.Table:
        if split not in self._sides:
            self._sides[split] = self.side(split).sort_by("id")
        return self._sides[split]

    def side(self, split: Split | None, names: Sequence[str] | None = None) -> pa.Table:
        """Return columns (default: all) of the samples, or of those of one side, as an Arrow table in no order."""
        search = self.table("samples").search()
        search = search.where(f"split = '{split}'") if split else search
        return (search if names is None else search.select(list(names))).to_arrow()

    def pictures(self, split: Split | None, names: Sequence[str]) -> pa.Table:
        """Return columns of the images table for the images of the samples, or of those of one side, each once.

        Raises StoreError when one is not there.
        """
        import pyarrow.compute as pc

        keys = pc.unique(pc.list_flatten(self.side(split, ("images",))["images"]))
        images = self.columns("images", list(dict.fromkeys(("key", *names))))
        found = images.filter(pc.is_in(images["key"], value_set=keys))
        if gone := len(keys) - len(found):
            raise StoreError(f"{gone} images of {self.name} are not in the store; `snapshots verify` tells which")
        return found.select(list(names))

    def drops(self) -> list[dict[str, str]]:
        """Return the rows left out: source, key, reason, message."""
        rows: list[dict[str, str]] = self.table("drops").search().to_arrow().to_pylist()
        return rows

    def files(self) -> list[dict[str, Any]]:
        """Return the files that its rows were read from: source, path as row keys begin, sha256, bytes.

        Nothing for sources without files (a hub set at a commit, a generator) and for snapshots of older versions.
        """
        if "files" not in self.manifest["tables"]:
            return []
        rows: list[dict[str, Any]] = self.table("files").search().to_arrow().to_pylist()
        return rows

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return (width, height) in pixels by image key, those of drops included."""
        keys, widths, heights = (self._images[name].to_pylist() for name in ("key", "width", "height"))
        return dict(zip(keys, zip(widths, heights, strict=True), strict=True))

    def pixels(self) -> dict[str, str]:
        """Return the SHA-256 of the decoded pixels by image key, those of drops included."""
        return dict(zip(self._images["key"].to_pylist(), self._images["pixels"].to_pylist(), strict=True))

    def reader(self) -> ImageReader:
        """Return a reader of this snapshot's image bytes."""
        return ImageReader(self.uri, self.manifest["tables"]["images"]["version"])

    def to_arrow(self, split: Split | None = None) -> pa.Table:
        """Return the samples, or those of one side, ordered by id. Images are keys; messages and metadata are JSON text."""
        return self._ordered(split).drop_columns(["digest"]).replace_schema_metadata()

    def to_polars(self, split: Split | None = None) -> Any:
        """Return the samples, or those of one side, as a `polars.DataFrame` with the columns of `to_arrow`."""
        return need("polars", "give samples as a data frame").from_arrow(self.to_arrow(split))

    def to_hf(self, split: Split | None = None, *, folder: Path | None = None) -> Any:
        """Return the samples, or those of one side, as a `datasets.Dataset` whose `images` are decoded when they are asked for.

        Written once as an Arrow file into `folder` (default: the cache of `datasets`), then mapped into memory: images never
        lie in memory together. Messages are parsed, metadata is JSON text.
        """
        from vlmrecipes.data.hub_rows import dataset

        formats = self.columns("images", ("key", "format"))
        return dataset(self.samples(split), self.reader(), formats, f"{self.fingerprint}-{split or 'all'}", folder)

    def torch(
        self,
        split: Split | None = None,
        *,
        images: Images = "pil",
        transform: Callable[[dict[str, Any]], Any] | None = None,
    ) -> Rows:
        """Return the samples, or those of one side, as a map-style torch dataset; see `Rows`, and `Rows.loader` for batches."""
        name = f"{self.fingerprint} {split or 'all'}"
        return Rows(self.to_arrow(split), self.reader(), images, transform, name)

    @cached_property
    def _images(self) -> Any:
        return self.columns("images", ("key", "width", "height", "pixels"))

    def columns(self, role: str, names: Sequence[str]) -> pa.Table:
        """Return whole columns of the snapshot's `images`, `samples` or `drops` as an Arrow table.

        The images table is the store's: it holds other datasets' images too.
        """
        return columns(self.table(role), names)

    def pieces(self, role: str, name: str, size: int) -> Iterator[pa.Array]:
        """Yield a column of the snapshot's `images`, `samples` or `drops`, at most `size` rows at a time."""
        batches = self.table(role).search().select([name]).to_batches(size)
        return (batch[name] for batch in batches)

    def need_today(self) -> None:
        """Raise StoreError when an older version of this program made it, before a run misses something at its end."""
        need_columns(self.table("images"), image_schema().names)

    def table(self, role: str) -> Any:
        """Return a read-only handle of the snapshot's `images`, `samples` or `drops`, at the version that it names."""
        at = self.manifest["tables"][role]
        return Store(self.uri).frozen(at["name"], at["version"])

    def dataset(self, role: str) -> Any:
        """Return the same table as a Lance dataset, which reads rows by their place."""
        at = self.manifest["tables"][role]
        return Store(self.uri).dataset(at["name"], at["version"])


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
