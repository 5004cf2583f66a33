from __future__ import annotations

import numpy as np
import pytest

from vlmrecipes.data.order import Groups, Order, epoch_order

LENGTHS = np.random.default_rng(0).integers(10, 500, 1003).astype(np.int32)


@pytest.mark.parametrize("by_length", [True, False])
@pytest.mark.parametrize("count", [1, 7, 8, 1003])
def test_every_row_once(count: int, by_length: bool) -> None:
    order = epoch_order(LENGTHS[:count], 8, (1, 0), by_length=by_length)
    assert sorted(order.tolist()) == list(range(count))


def test_seed_and_epoch_decide() -> None:
    order = Order(LENGTHS, 8, 1, by_length=True)
    first, again = list(order), list(order)
    order.set_epoch(1)
    assert first == again != list(order)
    assert first != list(Order(LENGTHS, 8, 2, by_length=True))
    assert len(order) == 1003


def test_batches_hold_rows_of_like_length() -> None:
    def padding(by_length: bool) -> float:
        order = epoch_order(LENGTHS, 8, (1, 0), by_length=by_length)[:1000].reshape(-1, 8)
        return float(1 - LENGTHS[order].sum() / (LENGTHS[order].max(axis=1) * 8).sum())

    assert padding(by_length=True) < 0.1
    assert padding(by_length=False) > 0.3


def test_batches_come_in_no_order_of_length() -> None:
    order = epoch_order(LENGTHS, 8, (1, 0), by_length=True)[8:1000].reshape(-1, 8)
    means = LENGTHS[order].mean(axis=1)
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_the_longest_row_comes_first() -> None:
    order = epoch_order(LENGTHS[:1000], 8, (3, 0), by_length=True)
    assert LENGTHS[:1000].max() in LENGTHS[order[:8]]


@pytest.mark.parametrize("by_length", [True, False])
def test_devices_share_a_batch_of_one_and_have_as_much_to_do(by_length: bool) -> None:
    one, four = (np.array(list(Order(LENGTHS, 32, 1, by_length=by_length, devices=n))) for n in (1, 4))
    full = len(LENGTHS) // 32 * 32
    assert np.array_equal(np.sort(one[:full].reshape(-1, 32)), np.sort(four[:full].reshape(-1, 32)))
    assert np.array_equal(one[full:], four[full:])
    if by_length:
        tokens = LENGTHS[four[:full]].reshape(-1, 4, 8).sum(axis=2)
        assert (tokens.max(axis=1) - tokens.min(axis=1)).max() < 20


@pytest.mark.parametrize("by_length", [True, False])
def test_groups_repeat_rows_and_batches(by_length: bool) -> None:
    order = Groups(LENGTHS[:11], 4, 1, by_length=by_length, group=3, repeats=2)
    plain = list(Order(LENGTHS[:11], 4, 1, by_length=by_length))
    first, second = ([row for row in plain[start : start + 4] for _ in range(3)] for start in (0, 4))
    assert list(order) == [*first, *first, *second, *second]
    assert len(order) == 48
    assert len(Groups(LENGTHS[:3], 4, 1, by_length=by_length, group=3, repeats=2)) == 0
