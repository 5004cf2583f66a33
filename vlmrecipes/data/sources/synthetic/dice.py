"""Choices that come out the same on every machine."""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


class Dice(random.Random):
    """A stream of choices that depends only on the words it is made from.

    `random()` is the one method whose sequence Python promises to keep, so everything here is made from it.
    """

    def __new__(cls, *words: object) -> Dice:  # noqa: PYI034 - the base class would hash the words with a random salt
        """Make the stream; `words` may be anything with a stable `str()`."""
        del words
        return super().__new__(cls)

    def __init__(self, *words: object) -> None:
        super().__init__(int.from_bytes(blake2b("\x1f".join(map(str, words)).encode(), digest_size=8).digest(), "big"))

    def below(self, count: int) -> int:
        """Return a whole number in `[0, count)`."""
        return int(self.random() * count)

    def whole(self, low: int, high: int) -> int:
        """Return a whole number in `[low, high]`."""
        return low + int(self.random() * (high - low + 1))

    def real(self, low: float, high: float) -> float:
        """Return a number in `[low, high)`."""
        return low + self.random() * (high - low)

    def bell(self, low: float, high: float) -> float:
        """Return a number in `[low, high)`, the middle more often than the ends."""
        return low + (self.random() + self.random()) * (high - low) / 2

    def chance(self, share: float) -> bool:
        """Return True in that share of calls."""
        return self.random() < share

    def pick(self, items: Sequence[T]) -> T:
        """Return one of `items`."""
        return items[int(self.random() * len(items))]

    def deal(self, items: Sequence[T], count: int) -> list[T]:
        """Return `count` different items, or all of them when there are fewer, in random order."""
        left = list(items)
        return [left.pop(int(self.random() * len(left))) for _ in range(min(count, len(left)))]
