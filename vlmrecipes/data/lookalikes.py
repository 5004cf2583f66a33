"""Which pictures look alike: near pairs by a 64-bit hash, confirmed by a 256-bit one and by where the colours lie."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vlmrecipes.data.near import near_pairs, within
from vlmrecipes.data.split import joined

if TYPE_CHECKING:
    import pyarrow as pa

CONFIRMED = 64
"""Of the 256 bits of the longer hash at most so many differ in a pair; unlike pictures differ in about 128."""
COLOURED = 3.0
"""A picture whose colours are weaker (root mean square of Cb and Cr less 128) counts as grey: any colours agree with it."""
AGREE = 0.9
"""Cosine between the colours of two pictures; copies of every kind but the most compressed have more."""
FLAT = 16
"""A longer hash with fewer than so many bits set, or clear, comes from a picture that is flat: only equal pixels count."""

Look = Hashable
"""What stands for a picture's looks: hashes and colours, or the hash of its pixels when near pictures are not searched."""


class Picture(NamedTuple):
    """What settling needs to know of a prepared image; the fields are columns of the images table."""

    key: str
    """SHA-256 of the prepared bytes, 64 hex digits."""
    pixels: str
    """SHA-256 of the decoded pixels."""
    phash: int
    """64-bit perceptual hash."""
    phash256: bytes
    """256-bit perceptual hash, 32 bytes."""
    colours: bytes
    """Cb and Cr of 8×8 cells, less 128, signed, 128 bytes."""
    width: int
    """Pixels."""
    height: int


def pictures_of(images: pa.Table | pa.RecordBatch) -> list[Picture]:
    """Return the rows of an images table, or of a part of one; it has at least the fields of a picture as columns."""
    return [Picture(*row) for row in zip(*(images[name].to_pylist() for name in Picture._fields), strict=True)]


class Lookalikes:
    """The near pairs among some pictures. Pictures with equal hashes and colours share a look."""

    def __init__(self, pictures: Iterable[Picture], radius: int | None) -> None:
        """Find all pairs within `radius` bits of the 64-bit hash; None: only equal pixels look alike."""
        self._off = radius is None
        self._near: dict[Look, dict[Look, int]] = {}
        self.images = 0
        """Pictures, told apart by their pixels, that are near another one."""
        if radius is not None:
            self._search(pictures, radius)
        self._parts = self._components()

    def _search(self, pictures: Iterable[Picture], radius: int) -> None:
        pixels: dict[tuple[int, bytes, bytes], set[str]] = {}
        for picture in pictures:
            if not _flat(picture):
                pixels.setdefault(_hashes(picture), set()).add(picture.pixels)
        for one, other, distance in _confirmed(sorted(pixels), radius):
            self._near.setdefault(one, {})[other] = distance
            self._near.setdefault(other, {})[one] = distance
        self.images = sum(len(some) for look, some in pixels.items() if len(some) > 1 or look in self._near)

    def look(self, picture: Picture) -> Look:
        """Return the look of `picture`."""
        return picture.pixels if self._off or _flat(picture) else _hashes(picture)

    def near(self, look: Look) -> Mapping[Look, int]:
        """Return the other looks near `look`, and how many bits of the 64 differ."""
        return self._near.get(look, {})

    def part(self, look: Look) -> Hashable:
        """Return what all looks share that are near each other, directly or through others."""
        return self._parts.get(look, look)

    def leaders(self, ranked: Sequence[Look]) -> dict[Look, Look]:
        """Return the leader of each look: the first of `ranked` that leads and is near it, or itself.

        Going down the ranks, a look that no leader is near becomes a leader. So every look is near its leader, and no
        chain of pictures, each near the next, makes one group of unlike ones.
        """
        leaders: dict[Look, Look] = {}
        for look in ranked:
            if look not in leaders:
                leaders[look] = look
                for other in self.near(look):
                    leaders.setdefault(other, look)
        return leaders

    def _components(self) -> dict[Look, int]:
        looks = list(self._near)
        number = {look: place for place, look in enumerate(looks)}
        links = [[number[look], *(number[other] for other in self._near[look])] for look in looks]
        return dict(zip(looks, joined(links), strict=True))


def _hashes(picture: Picture) -> tuple[int, bytes, bytes]:
    return picture.phash, picture.phash256, picture.colours


def near_to(pictures: Sequence[Picture], others: Sequence[Picture], radius: int) -> set[str]:
    """Return the keys in `pictures` of those that look like one of `others`: near by their hashes, or equal pixels."""
    found = Lookalikes([*pictures, *others], radius)
    looks = {found.look(other) for other in others}
    looks |= {near for look in looks for near in found.near(look)}
    return {picture.key for picture in pictures if found.look(picture) in looks}


def perhaps_near(images: pa.Table, pictures: Sequence[Picture], radius: int) -> pa.Table:
    """Return the rows of an images table among which is all that `near_to` finds near `pictures`, most others left out."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    hashes = np.array([picture.phash for picture in pictures], dtype=np.uint64)
    near = pa.array(within(hashes, images["phash"].to_numpy(), radius))
    same = pc.is_in(images["pixels"], value_set=pa.array([picture.pixels for picture in pictures], pa.string()))
    return images.filter(pc.or_(same, near))


def _flat(picture: Picture) -> bool:
    bits = int.from_bytes(picture.phash256, "big").bit_count()
    return not FLAT <= bits <= 256 - FLAT


def _confirmed(looks: Sequence[tuple[int, bytes, bytes]], radius: int) -> Iterator[tuple[Look, Look, int]]:
    """Yield near pairs of `looks`, which are sorted, and their distance in the shorter hash."""
    import numpy as np

    if not looks:
        return
    short = np.array([look[0] for look in looks], dtype=np.uint64)
    long = np.frombuffer(b"".join(look[1] for look in looks), dtype=np.uint64).reshape(len(looks), 4)
    colours = np.frombuffer(b"".join(look[2] for look in looks), dtype=np.int8).reshape(len(looks), -1)
    values, starts = np.unique(short, return_index=True)
    ends = np.append(starts[1:], len(looks))
    for ones, others in _places(values, starts, ends, radius):
        sure = np.bitwise_count(long[ones] ^ long[others]).sum(axis=1) <= CONFIRMED
        ones, others = ones[sure], others[sure]  # noqa: PLW2901 - what is left of them
        agree = _agree(colours[ones], colours[others])
        ones, others = ones[agree], others[agree]  # noqa: PLW2901
        distances = np.bitwise_count(short[ones] ^ short[others])
        for one, other, distance in zip(ones.tolist(), others.tolist(), distances.tolist(), strict=True):
            yield looks[one], looks[other], distance


def _agree(one: Any, other: Any) -> Any:
    """Tell of which pairs the colours, shape (pairs, 128), lie alike, however strong they are."""
    import numpy as np

    one, other = one.astype(np.float32), other.astype(np.float32)
    powers = np.einsum("ij,ij->i", one, one), np.einsum("ij,ij->i", other, other)
    grey = np.minimum(*powers) < COLOURED**2 * one.shape[1]
    return grey | (np.einsum("ij,ij->i", one, other) >= AGREE * np.sqrt(powers[0] * powers[1]))


def _places(values: Any, starts: Any, ends: Any, radius: int) -> Iterator[tuple[Any, Any]]:
    """Yield (ones, others): places of looks whose short hashes are within `radius`. Look runs of equal short hashes."""
    import numpy as np

    for start, end in zip(starts, ends, strict=True):
        for place in range(start, end - 1):
            others = np.arange(place + 1, end)
            yield np.full(len(others), place), others
    for firsts, seconds in near_pairs(values, radius):
        for one, other in zip(firsts, seconds, strict=True):
            grid = np.meshgrid(np.arange(starts[one], ends[one]), np.arange(starts[other], ends[other]))
            yield grid[0].ravel(), grid[1].ravel()
