"""All pairs of 64-bit hashes within a Hamming radius, none missed.

Two hashes that differ in at most R bits, cut into R + c blocks, agree in at least c of the blocks. So for every choice of
c blocks the hashes are sorted by those blocks, and only neighbours that agree in them are compared (Manku, Jain and
Das Sarma, Detecting Near-Duplicates for Web Crawling, WWW 2007, §3; multi-index hashing of Norouzi, Punjani and Fleet,
Fast Search in Hamming Space with Multi-Index Hashing, CVPR 2012, is the case c = 1). A run of very many hashes that agree
is searched by the same method in the bits that remain. Nothing but the hashes and one sorted copy is held.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Pairs = tuple[Hashes, Hashes]

BITS = 64
CHUNK = 1 << 15
"""Hashes compared at a time: they stay in the processor's cache."""
CROWD = 4096
"""A longer run of hashes that agree is searched by the bits that remain."""
DEEPEST = 2
"""How often that is done inside itself; then all are compared with all."""
SPARSE = 8
"""When fewer than one in so many still has a neighbour, only those are looked at."""
SORTING, COMPARING = 100.0, 6.0
"""Nanoseconds to sort one hash and to compare one pair: only their ratio decides, and only about speed."""
MOST_CHOICES = 4096
MOST_COMPARED = 1 << 22
"""Pairs compared at a time when some hashes are held against others: about 100 MB."""


def near_pairs(hashes: Hashes, radius: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield (first, second): places in `hashes`, shape (n,), sorted and without repeats, of pairs within `radius` bits.

    Every unordered pair comes once. The pieces come in no particular order, and are small unless many pairs exist.
    """
    import numpy as np

    if radius < 1:
        return
    for one, other in _search(hashes, BITS, min(radius, BITS)):
        yield np.searchsorted(hashes, one), np.searchsorted(hashes, other)


def within(hashes: Hashes, others: Hashes, radius: int) -> NDArray[np.bool_]:
    """Tell which of `others`, shape (n,), are within `radius` bits of one of `hashes`, shape (m,), in any order.

    Two that are agree in one of radius + 1 blocks of bits at least, so that only those are compared (c = 1 of the above).
    """
    import numpy as np

    known, found = np.unique(hashes), np.zeros(len(others), bool)
    size = max(CHUNK // 64, MOST_COMPARED // max(1, len(known)))
    edges = [BITS * block // (radius + 1) for block in range(radius + 2)]
    for low, high in pairwise(edges):
        keys = (known >> np.uint64(low)) & np.uint64(2 ** (high - low) - 1)
        order = np.argsort(keys)
        for start in range(0, len(others), size):
            some = others[start : start + size]
            wanted = (some >> np.uint64(low)) & np.uint64(2 ** (high - low) - 1)
            first, last = (np.searchsorted(keys, wanted, side, sorter=order) for side in ("left", "right"))
            counts = last - first
            places = np.repeat(np.arange(len(some)), counts)
            ranks = np.arange(len(places)) + np.repeat(first - np.cumsum(counts) + counts, counts)
            near = np.bitwise_count(known[order[ranks]] ^ some[places]) <= radius
            found[start + places[near]] = True
    return found


def _search(hashes: Hashes, bits: int, radius: int, depth: int = 0) -> Iterator[Pairs]:
    """Yield pairs of `hashes`, which are distinct in their lowest `bits` bits and hold no others."""
    for choice in _choices(_picked(len(hashes), bits, radius), bits, radius):
        arranged = choice.arrange(hashes)
        arranged.sort()
        for one, other in _agreeing(arranged, choice.rest, radius, depth if choice.rest < bits else DEEPEST):
            first = choice.is_first(one ^ other)
            if first.any():
                yield choice.restore(one[first]), choice.restore(other[first])


@dataclass(frozen=True, slots=True)
class _Choice:
    """Some blocks of a hash, and how to bring them to its front."""

    moves: tuple[tuple[int, int, int], ...]
    """(mask after shifting to the right, shift in the hash, shift when arranged) of each run of bits."""
    rest: int
    """Bits behind the chosen blocks."""
    earlier: tuple[int, ...]
    """Masks, when arranged, of the blocks that were passed over before the last chosen one."""

    def arrange(self, hashes: Hashes) -> Hashes:
        return _moved(hashes, [(mask, there, here) for mask, there, here in self.moves])

    def restore(self, arranged: Hashes) -> Hashes:
        return _moved(arranged, [(mask, here, there) for mask, there, here in self.moves])

    def is_first(self, difference: Hashes) -> NDArray[np.bool_]:
        """Tell of which pairs this is the first choice that finds them: each pair is given once."""
        import numpy as np

        found = (difference >> np.uint64(self.rest)) == 0 if self.rest < BITS else np.ones(len(difference), bool)
        for mask in self.earlier:
            found &= (difference & np.uint64(mask)) != 0
        return found


def _moved(hashes: Hashes, moves: list[tuple[int, int, int]]) -> Hashes:
    import numpy as np

    moved = np.zeros_like(hashes)
    for mask, there, here in moves:
        part = hashes >> np.uint64(there)
        part &= np.uint64(mask)
        part <<= np.uint64(here)
        moved |= part
    return moved


@lru_cache(maxsize=256)
def _choices(picked: int, bits: int, radius: int) -> tuple[_Choice, ...]:
    """Return every choice of `picked` of `radius + picked` blocks; one that chooses nothing when `picked` is 0."""
    if not picked:
        return (_Choice(((2**bits - 1, 0, 0),), bits, ()),)
    count = radius + picked
    edges = [bits - bits * block // count for block in range(count + 1)]
    blocks = [(low, high - low) for high, low in pairwise(edges)]
    return tuple(_choice(chosen, blocks) for chosen in combinations(range(count), picked))


def _choice(chosen: tuple[int, ...], blocks: list[tuple[int, int]]) -> _Choice:
    """Return the choice of the blocks numbered `chosen`; a block is (lowest bit, width), the first one is on top."""
    others = [block for block in range(len(blocks)) if block not in chosen]
    place, moves, masks = sum(width for _, width in blocks), [], {}
    for block in (*chosen, *others):
        low, width = blocks[block]
        place -= width
        moves.append((2**width - 1, low, place))
        masks[block] = (2**width - 1) << place
    rest = sum(blocks[block][1] for block in others)
    return _Choice(_merged(moves), rest, tuple(masks[block] for block in others if block < chosen[-1]))


def _merged(moves: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Return the moves with neighbours that go the same way made one."""
    runs = [moves[0]]
    for mask, there, here in moves[1:]:
        top, above, place = runs[-1]
        if above - there == place - here == mask.bit_length():
            runs[-1] = (top << mask.bit_length() | mask, there, here)
        else:
            runs.append((mask, there, here))
    return tuple(runs)


def _picked(count: int, bits: int, radius: int) -> int:
    """Return how many blocks have to agree so that the search is quickest; 0: compare all with all."""
    costs = {0: count * count / 2 * COMPARING}
    for picked in range(1, bits - radius + 1):
        choices = math.comb(radius + picked, picked)
        if choices > MOST_CHOICES:
            break
        crowd = count / 2.0 ** (bits * picked // (radius + picked))
        costs[picked] = choices * count * (SORTING + COMPARING * (1 + crowd))
    return min(costs, key=lambda picked: costs[picked])


def _agreeing(arranged: Hashes, rest: int, radius: int, depth: int) -> Iterator[Pairs]:
    """Yield pairs within `radius` of sorted hashes that agree in all but their lowest `rest` bits, and perhaps others."""
    crowds = _crowds(arranged, rest) if depth < DEEPEST and len(arranged) > CROWD else []
    for start, end in crowds:
        yield from _crowd(arranged[start:end], rest, radius, depth + 1)
    if crowds:
        arranged = _without(arranged, crowds)
    for start in range(0, len(arranged), CHUNK):
        yield from _neighbours(arranged, start, rest, radius)


def _crowds(arranged: Hashes, rest: int) -> list[tuple[int, int]]:
    """Return (start, end) of the runs of more than CROWD hashes that agree."""
    import numpy as np

    far = (arranged[CROWD:] ^ arranged[:-CROWD]) >> np.uint64(rest) == 0
    if not far.any():
        return []
    keys = arranged >> np.uint64(rest)
    crowded = np.unique(keys[:-CROWD][far])
    starts, ends = np.searchsorted(keys, crowded, "left"), np.searchsorted(keys, crowded, "right")
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _crowd(members: Hashes, rest: int, radius: int, depth: int) -> Iterator[Pairs]:
    import numpy as np

    low = np.uint64(2**rest - 1)
    shared = members[0] & ~low
    for one, other in _search(members & low, rest, min(radius, rest), depth):
        yield one | shared, other | shared


def _without(arranged: Hashes, crowds: list[tuple[int, int]]) -> Hashes:
    import numpy as np

    kept = np.ones(len(arranged), bool)
    for start, end in crowds:
        kept[start:end] = False
    return arranged[kept]


def _neighbours(arranged: Hashes, start: int, rest: int, radius: int) -> Iterator[Pairs]:
    """Yield the pairs of the chunk at `start` with hashes behind them, near to far, while any agree."""
    import numpy as np

    limit = np.uint64(2**rest - 1)
    places: NDArray[np.intp] | None = None
    size, step = min(CHUNK, len(arranged) - start), 0
    while True:
        step += 1
        size = min(size, len(arranged) - start - step)
        if places is None:
            one, other = arranged[start : start + size], arranged[start + step : start + step + size]
        else:
            places = places[places < len(arranged) - step]
            one, other = arranged[places], arranged[places + step]
        difference = one ^ other
        near = np.bitwise_count(difference) <= radius
        if near.any():
            yield one[near], other[near]
        agree = difference <= limit
        going = int(np.count_nonzero(agree))
        if not going:
            return
        if places is not None:
            places = places[agree]
        elif going * SPARSE < size:
            places = np.flatnonzero(agree) + start
