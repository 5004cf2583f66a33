"""In which order rows are shown: decided by the seed and the epoch alone, so that a resumed run goes on as it would have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = 50
"""Batches whose rows are sorted by length together: many enough for little padding, few enough to stay random."""


class Order:
    """A sampler: row numbers of an epoch, meant to be cut into batches of `batch_size` in sequence."""

    def __init__(
        self, lengths: NDArray[np.int32], batch_size: int, seed: int, *, by_length: bool, devices: int = 1
    ) -> None:
        """Take the length in tokens of every row [N]; `by_length` puts rows of like length into one batch.

        Batches that `devices` compute together are dealt out to them in turn, so that each has as much to do: row numbers
        are to be cut into batches of `batch_size` / `devices`, and given to the devices in turn.
        """
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.by_length = by_length
        self.devices = devices
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = epoch_order(self.lengths, self.batch_size, (self.seed, self.epoch), by_length=self.by_length)
        return iter(_dealt(order, self.batch_size, self.devices).tolist())


def _dealt(order: NDArray[np.int64], batch_size: int, devices: int) -> NDArray[np.int64]:
    """Return row numbers [N] with those of each batch in turn for the first device, the second …; a last part stays."""
    import numpy as np

    full = len(order) // batch_size * batch_size
    hands = order[:full].reshape(-1, batch_size // devices, devices).swapaxes(1, 2)
    return np.concatenate([hands.ravel(), order[full:]])


class Groups(Order):
    """A sampler of groups: each row `group` times in a row, and each `batch_size` rows `repeats` times over.

    That is how TRL's GRPOTrainer wants its rows: all answers to a prompt together, and a batch again for every pass that
    is made over the answers to it. Rows that fill no batch of prompts are left out of their epoch.
    """

    def __init__(  # noqa: PLR0913
        self,
        lengths: NDArray[np.int32],
        batch_size: int,
        seed: int,
        *,
        by_length: bool,
        group: int,
        repeats: int,
    ) -> None:
        """Take what `Order` takes, `batch_size` counted in rows."""
        super().__init__(lengths, batch_size, seed, by_length=by_length)
        self.group = group
        self.repeats = repeats

    def __len__(self) -> int:
        return self._full() * self.group * self.repeats

    def __iter__(self) -> Iterator[int]:
        rows = list(super().__iter__())
        for start in range(0, self._full(), self.batch_size):
            batch = [row for row in rows[start : start + self.batch_size] for _ in range(self.group)]
            for _ in range(self.repeats):
                yield from batch

    def _full(self) -> int:
        """Return how many rows fill batches."""
        return len(self.lengths) // self.batch_size * self.batch_size


def epoch_order(
    lengths: NDArray[np.int32], batch_size: int, seed: tuple[int, int], *, by_length: bool
) -> NDArray[np.int64]:
    """Return the row numbers of one epoch [N]: shuffled, sorted by length inside windows, and the batches shuffled again.

    The batch with the longest row comes first, so that a want of memory shows at once. Rows that fill no batch come last.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(lengths))
    full = len(shuffled) // batch_size * batch_size
    if not by_length or full == 0:
        return shuffled
    batches = np.concatenate(
        [
            window[np.argsort(lengths[window], kind="stable")].reshape(-1, batch_size)
            for window in np.split(shuffled[:full], range(WINDOW * batch_size, full, WINDOW * batch_size))
        ]
    )
    random.shuffle(batches)
    longest = int(lengths[batches].max(axis=1).argmax())
    batches[[0, longest]] = batches[[longest, 0]]
    return np.concatenate([batches.ravel(), shuffled[full:]])
