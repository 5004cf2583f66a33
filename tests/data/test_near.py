"""All near pairs of hashes, and groups around a leader."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmrecipes.data import near
from vlmrecipes.data.lookalikes import Lookalikes, Picture

FEW_BITS = st.integers(0, 2**12 - 1).map(lambda bits: bits << 26)
HASHES = st.lists(st.one_of(st.integers(0, 2**64 - 1), FEW_BITS), max_size=60, unique=True)


def brute(hashes: list[int], radius: int) -> list[tuple[int, int]]:
    return [(a, b) for a in sorted(hashes) for b in sorted(hashes) if a < b and (a ^ b).bit_count() <= radius]


def found(hashes: list[int], radius: int) -> list[tuple[int, int]]:
    values = np.array(sorted(hashes), dtype=np.uint64)
    pieces = near.near_pairs(values, radius)
    pairs = [pair for one, other in pieces for pair in zip(values[one].tolist(), values[other].tolist(), strict=True)]
    return sorted((min(pair), max(pair)) for pair in pairs)


@given(hashes=HASHES, radius=st.integers(0, 12))
def test_every_pair_within_the_radius_is_found_once(hashes: list[int], radius: int) -> None:
    assert found(hashes, radius) == brute(hashes, radius)


@pytest.mark.parametrize("radius", [1, 4, 6])
def test_every_pair_is_found_when_blocks_are_chosen_and_runs_are_crowded(
    radius: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "CROWD", 64)
    monkeypatch.setattr(near, "CHUNK", 256)
    draw = random.Random(radius)
    hashes = [draw.getrandbits(64) for _ in range(700)] + [draw.getrandbits(16) << 40 for _ in range(300)]
    hashes += [hashed ^ (1 << draw.randrange(64)) ^ (1 << draw.randrange(64)) for hashed in hashes[:200]]
    hashes = sorted(set(hashes))
    assert near._picked(len(hashes), near.BITS, radius) or radius > 4  # noqa: SLF001
    assert found(hashes, radius) == brute(hashes, radius)


@given(hashes=HASHES, others=HASHES, radius=st.integers(0, 12))
def test_those_near_others_are_found_whatever_is_compared_at_a_time(
    hashes: list[int], others: list[int], radius: int
) -> None:
    others += [hashed ^ (1 << bit) for bit, hashed in enumerate(hashes)]
    expected = [any((one ^ other).bit_count() <= radius for one in hashes) for other in others]
    many = [np.array(some, dtype=np.uint64) for some in (hashes, others * 20)]
    assert near.within(*many, radius).tolist() == expected * 20


GREY = bytes(128)


def picture(bits: int) -> Picture:
    long = (0x5555 << 200 | 0x3333_3333 << 32 | bits).to_bytes(32, "big")
    return Picture(f"{bits:064x}", f"{bits:064x}", bits, long, GREY, 8, 8)


@given(bits=st.lists(st.integers(0, 2**10 - 1), unique=True, max_size=40), radius=st.integers(0, 4))
@settings(max_examples=60)
def test_every_member_of_a_group_is_near_its_leader_and_leaders_are_not_near_each_other(
    bits: list[int], radius: int
) -> None:
    pictures = [picture(number) for number in bits]
    alike = Lookalikes(pictures, radius)
    leaders = alike.leaders([alike.look(one) for one in pictures])
    for look, leader in leaders.items():
        assert look == leader or 0 < alike.near(look)[leader] <= radius
    assert not any(other in alike.near(one) for one in leaders.values() for other in leaders.values())


def test_a_chain_of_pictures_is_not_one_group() -> None:
    chain = [picture(2**length - 1) for length in range(9)]
    alike = Lookalikes(chain, 2)
    leaders = alike.leaders([alike.look(one) for one in chain])
    assert len(set(leaders.values())) == 3
    assert len({alike.part(alike.look(one)) for one in chain}) == 1


def test_flat_pictures_are_alike_only_when_their_pixels_are_equal() -> None:
    flat = [Picture(name, name, 0, bytes(32), GREY, 8, 8) for name in ("a", "b")]
    alike = Lookalikes(flat, 12)
    assert alike.look(flat[0]) != alike.look(flat[1])
    assert not alike.near(alike.look(flat[0]))


def test_a_pair_that_the_longer_hash_does_not_confirm_is_no_pair() -> None:
    one = picture(3)
    long = bytes(a ^ b for a, b in zip(one.phash256, b"\xff" * 9 + bytes(23), strict=True))
    other = one._replace(key="x", pixels="x", phash256=long)
    alike = Lookalikes([one, other], 4)
    assert not alike.near(alike.look(one))


def coloured(*colours: int) -> Picture:
    """Return a picture whose cells have these Cb and Cr in turn; all such pictures have the same hashes."""
    layout = np.tile(np.array(colours, np.int8), 128 // len(colours)).tobytes()
    return picture(3)._replace(key=f"{colours}", pixels=f"{colours}", colours=layout)


def test_pictures_whose_colours_lie_elsewhere_are_no_pair() -> None:
    red, pale, blue, grey = coloured(-20, 60), coloured(-7, 20), coloured(60, -20), coloured(1, -1)
    alike = Lookalikes([red, pale, blue, grey], 4)
    looks = {name: alike.look(one) for name, one in {"red": red, "pale": pale, "blue": blue, "grey": grey}.items()}
    pairs = {(one, other) for one in looks for other in looks if looks[other] in alike.near(looks[one])}
    assert {pair for pair in pairs if "grey" not in pair} == {("red", "pale"), ("pale", "red")}
    assert {one for one, other in pairs if other == "grey"} == {"red", "pale", "blue"}


def test_images_with_equal_hashes_and_other_pixels_are_counted_as_near() -> None:
    one, far = picture(3), picture(2**40 - 1)
    assert Lookalikes([one, one._replace(key="other file"), far], 4).images == 0
    assert Lookalikes([one, one._replace(pixels="other"), far], 4).images == 2
    assert Lookalikes([one, one._replace(pixels="other"), far], None).images == 0
