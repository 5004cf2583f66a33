"""A snapshot's rows for training code of any kind: a map-style dataset, and a loader that stops and goes on exactly.

The columns lie in a file that is mapped into memory, so loader processes share them; images are read from the store, and
decoded, where a batch is made. Processes are spawned: LanceDB does not survive a fork.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vlmrecipes.data.order import epoch_order
from vlmrecipes.data.reader import ImageReader
from vlmrecipes.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from PIL import Image

Images = Literal["pil", "tensor", "bytes"]
Row = dict[str, Any]
PREFETCH = 4
"""Batches that every process prepares ahead."""
PIXELS_A_TOKEN, LETTERS_A_TOKEN = 784, 4
"""What `Rows.lengths` reckons with: 28 x 28 pixels, four letters."""


def decode(data: bytes) -> Image.Image:
    """Return encoded bytes as an RGB picture. Raises OSError where they hold none."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def _tensor(data: bytes) -> Any:
    """Return encoded bytes as a uint8 tensor [3, height, width]."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(decode(data))).permute(2, 0, 1).contiguous()


DECODERS: Mapping[str, Callable[[bytes], Any]] = {"pil": decode, "tensor": _tensor, "bytes": bytes}


class Rows:
    """A map-style dataset, as `torch.utils.data.DataLoader` takes it: rows ordered by sample id.

    May be pickled for loader processes; its file of columns goes when the original does.
    A row is `{"id", "images", "messages", "references", "group", "split", "source", "metadata"}`, where `images` is a list of
    RGB pictures (`pil`), of uint8 tensors [3, height, width] (`tensor`), or of encoded images (`bytes`).
    """

    def __init__(
        self, table: pa.Table, reader: ImageReader, images: Images, transform: Callable[[Row], Any] | None, name: str
    ) -> None:
        """Take samples; `transform`, which must be picklable, is called on every row; `name` says which data it is."""
        if images not in DECODERS:
            raise InputError.one(f"no form of images {images!r}; there is: {', '.join(DECODERS)}", key="images")
        import pyarrow as pa

        folder = tempfile.mkdtemp(prefix="vlmrecipes-rows-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._path = Path(folder) / "rows.arrow"
        with pa.OSFile(str(self._path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        self.name, self._count = name, len(table)
        self._reader, self._images, self._transform = reader, images, transform
        self._mapped: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mapped": None}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> Any:
        """Return one row. Raises IndexError outside."""
        if not -self._count <= place < self._count:
            raise IndexError(place)
        return self.__getitems__([place % self._count])[0]

    def __getitems__(self, places: Sequence[int]) -> list[Any]:
        """Return several rows, their images read at once. Raises OSError for an image that cannot be decoded."""
        rows: list[Row] = self._table().take(list(places)).to_pylist()
        keys = list(dict.fromkeys(key for row in rows for key in row["images"]))
        encoded = dict(zip(keys, self._reader.read(keys), strict=True))
        made = [self._row(row, encoded) for row in rows]
        return made if self._transform is None else [self._transform(row) for row in made]

    def _row(self, row: Row, encoded: Mapping[str, bytes]) -> Row:
        form = DECODERS[self._images]
        texts = {name: json.loads(row[name]) for name in ("messages", "metadata")}
        return row | texts | {"images": [form(encoded[key]) for key in row["images"]]}

    def _table(self) -> pa.Table:
        if self._mapped is None:
            import pyarrow as pa

            self._mapped = pa.ipc.open_file(pa.memory_map(str(self._path))).read_all()
        return self._mapped

    def lengths(self, sizes: Mapping[str, tuple[int, int]]) -> NDArray[np.int32]:
        """Return a rough length of every row [N] in tokens: from its letters, and from `sizes`, (width, height) by key."""
        import numpy as np
        import pyarrow.compute as pc

        letters = pc.utf8_length(self._table()["messages"]).to_numpy() // LETTERS_A_TOKEN
        areas = [sum(sizes[key][0] * sizes[key][1] for key in keys) for keys in self._table()["images"].to_pylist()]
        found: NDArray[np.int32] = (letters + np.array(areas, np.int64) // PIXELS_A_TOKEN).astype(np.int32)
        return found

    def loader(
        self,
        batch_size: int,
        *,
        workers: int = 0,
        seed: int = 0,
        lengths: NDArray[np.int32] | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> Loader:
        """Return batches in an order that the seed and the epoch alone decide; `lengths` [N] put like rows together."""
        return Loader(self, batch_size, workers=workers, seed=seed, lengths=lengths, collate=collate)


def _as_they_are(rows: list[Any]) -> list[Any]:
    return rows


class Loader:
    """Batches of one epoch after the other; each `for` loop runs to the end of an epoch.

    `state_dict()` between two batches, given to `load_state_dict()` of a loader of the same rows, goes on with the very next
    batch, in this process or another, with any number of workers.
    """

    def __init__(  # noqa: PLR0913
        self,
        rows: Rows,
        batch_size: int,
        *,
        workers: int,
        seed: int,
        lengths: NDArray[np.int32] | None,
        collate: Callable[[list[Any]], Any] | None,
    ) -> None:
        """See `Rows.loader`."""
        from torch.utils.data import DataLoader

        self._rows, self._batch_size, self._seed, self._lengths = rows, batch_size, seed, lengths
        self.epoch, self.batch = 0, 0
        spawned = {"multiprocessing_context": "spawn", "persistent_workers": True, "prefetch_factor": PREFETCH}
        self._batches = _Batches(self)
        self._loader = DataLoader(
            rows,
            batch_sampler=self._batches,
            num_workers=workers,
            collate_fn=collate or _as_they_are,
            **(spawned if workers else {}),
        )

    def __len__(self) -> int:
        """Return the batches of a whole epoch."""
        return math.ceil(len(self._rows) / self._batch_size)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            self.batch += 1
            yield batch
        self.epoch, self.batch = self.epoch + 1, 0

    def places(self) -> NDArray[np.int64]:
        """Return the row numbers of the epoch [N], in the order in which they are shown."""
        import numpy as np

        lengths = np.zeros(len(self._rows), np.int32) if self._lengths is None else self._lengths
        by_length = self._lengths is not None
        return epoch_order(lengths, self._batch_size, (self._seed, self.epoch), by_length=by_length)

    def _identity(self) -> dict[str, Any]:
        return {
            "rows": self._rows.name,
            "batch_size": self._batch_size,
            "seed": self._seed,
            "by_length": self._lengths is not None,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return where it stands, as JSON values."""
        return self._identity() | {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`. Raises InputError when it is of other rows, another batch size or another seed."""
        wrong = [key for key, value in self._identity().items() if state.get(key) != value]
        if wrong:
            raise InputError.one(f"the state is of another loader: {', '.join(wrong)} differ", key="state")
        self.epoch, self.batch = state["epoch"], state["batch"]


class _Batches:
    """The row numbers of the batches that an epoch has left."""

    def __init__(self, loader: Loader) -> None:
        self._loader = weakref.proxy(loader)
        self._size: int = loader._batch_size  # noqa: SLF001 - its other half

    def __iter__(self) -> Iterator[list[int]]:
        places = self._loader.places().tolist()
        for start in range(self._loader.batch * self._size, len(places), self._size):
            yield places[start : start + self._size]

    def __len__(self) -> int:
        return len(self._loader) - int(self._loader.batch)
