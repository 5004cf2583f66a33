"""Which side a sample is on: decided by groups, stable under growth and row order."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence

from vlmrecipes.data.sample import Split

_BITS = 64


def in_eval(group: str, share: float, salt: str) -> bool:
    """Tell whether a keyed hash of `group` falls into the first `share` (0 to 1) of the hash range."""
    digest = hashlib.blake2b(group.encode("utf-8", "surrogatepass"), key=_key(salt), digest_size=_BITS // 8).digest()
    return int.from_bytes(digest, "big") < share * float(2**_BITS)


def _key(salt: str) -> bytes:
    return hashlib.sha256(salt.encode("utf-8", "surrogatepass")).digest()


def joined(links: Sequence[Sequence[Hashable]]) -> list[int]:
    """Return a component number for each item; items that share a link, directly or through others, share it."""
    parent = list(range(len(links)))
    first: dict[Hashable, int] = {}
    for item, names in enumerate(links):
        for name in names:
            _union(parent, item, first.setdefault(name, item))
    return [_root(parent, item) for item in range(len(links))]


def _root(parent: list[int], item: int) -> int:
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item


def _union(parent: list[int], a: int, b: int) -> None:
    a, b = _root(parent, a), _root(parent, b)
    parent[max(a, b)] = min(a, b)


def sides(
    groups: Sequence[str],
    pixels: Sequence[Sequence[str]],
    declared: Sequence[Split | None],
    *,
    share: float,
    salt: str,
) -> list[Split]:
    """Return the side of every sample.

    Groups that share an image are joined. A joined group is on the eval side when any of its groups is dealt there, or any
    of its samples is declared there: so growth may move samples from train to eval, never from eval to train.
    A declared side is kept as declared.
    """
    components = joined([(f"g{group}", *keys) for group, keys in zip(groups, pixels, strict=True)])
    evals = _eval_components(components, groups, declared, share, salt)
    return [
        side or ("eval" if component in evals else "train")
        for component, side in zip(components, declared, strict=True)
    ]


def _eval_components(
    components: Sequence[int], groups: Sequence[str], declared: Sequence[Split | None], share: float, salt: str
) -> set[int]:
    dealt: dict[str, bool] = {}
    evals = set()
    for component, group, side in zip(components, groups, declared, strict=True):
        if side is None and group not in dealt:
            dealt[group] = in_eval(group, share, salt)
        if side == "eval" or (side is None and dealt[group]):
            evals.add(component)
    return evals


def shared_images(splits: Sequence[Split], pixels: Sequence[Sequence[str]]) -> set[str]:
    """Return the pixel hashes that stand on both sides: leaks."""
    seen: Mapping[str, set[str]] = {"train": set(), "eval": set()}
    for side, keys in zip(splits, pixels, strict=True):
        seen[side].update(keys)
    return seen["train"] & seen["eval"]
