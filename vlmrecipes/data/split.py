"""Which side a sample is on: decided by groups, stable under growth and row order."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

from vlmrecipes.data.sample import Split

_BITS = 64
RANGE = float(2**_BITS)


def dealt_number(group: str, salt: str) -> int:
    """Return a keyed hash of `group` under RANGE; eval is dealt the groups in the first `share` of it."""
    digest = hashlib.blake2b(group.encode("utf-8", "surrogatepass"), key=_key(salt), digest_size=_BITS // 8).digest()
    return int.from_bytes(digest, "big")


def is_dealt(group: str, share: float, salt: str) -> bool:
    """Tell whether `group` is dealt to eval."""
    return dealt_number(group, salt) < share * RANGE


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


def declared_sides(groups: Sequence[str], own: Sequence[Split | None]) -> list[Split | None]:
    """Return the side that each sample is declared on: its `own`, or else that of the declared ones of its group.

    `groups` are those that rows name, empty for none. Of a group that is declared on both sides the rest is in train.
    """
    named: dict[str, Split] = {}
    for group, side in zip(groups, own, strict=True):
        if group and side:
            named[group] = "train" if side == "train" else named.get(group, side)
    return [side or named.get(group) for group, side in zip(groups, own, strict=True)]


def sides(  # noqa: PLR0913 - what decides a split
    groups: Sequence[str],
    links: Sequence[Sequence[Hashable]],
    declared: Sequence[Split | None],
    *,
    share: float,
    salt: str,
    strata: Sequence[str] = (),
    held: Collection[str] = (),
) -> list[Split]:
    """Return the side of every sample.

    Groups that share a link (an image, a near image) are joined. A joined group is on the eval side when any of its groups
    is dealt there, or any of its samples is declared there: so growth may move samples from train to eval, never from
    eval to train. A declared side (of `declared_sides`) is kept as declared.

    With `strata`, one label a sample, joined groups are taken in the order of their hashes until each stratum has its
    `share` of samples, as nearly as whole groups allow. No rule that looks at the data alone can hold both that share and
    everybody who was in eval; so the groups `held`, those of the parent snapshot's eval side, are in eval first.
    """
    components = joined([(f"g{group}", *names) for group, names in zip(groups, links, strict=True)])
    evals = _eval_components(components, groups, declared, 0.0 if strata else share, salt)
    if strata:
        evals |= {component for component, group in zip(components, groups, strict=True) if group in held}
        numbers = [dealt_number(group, salt) for group in groups]
        evals |= _filled(components, numbers, strata, evals, share)
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
            dealt[group] = is_dealt(group, share, salt)
        if side == "eval" or (side is None and dealt[group]):
            evals.add(component)
    return evals


def _filled(
    components: Sequence[int], numbers: Sequence[int], strata: Sequence[str], evals: set[int], share: float
) -> set[int]:
    """Return the components that fill each stratum up to `share`. A component is of its first stratum by name."""
    sizes = Counter(components)
    lowest: dict[int, int] = {}
    stratum: dict[int, str] = {}
    for component, number, label in zip(components, numbers, strata, strict=True):
        lowest[component] = min(number, lowest.get(component, number))
        stratum[component] = min(label, stratum.get(component, label))
    wanted: dict[str, float] = defaultdict(float)
    for component, size in sizes.items():
        wanted[stratum[component]] += share * size - (size if component in evals else 0)
    filled = set()
    for component in sorted(set(sizes) - evals, key=lambda component: lowest[component]):
        if wanted[stratum[component]] * 2 >= sizes[component]:
            wanted[stratum[component]] -= sizes[component]
            filled.add(component)
    return filled


def on_both(splits: Sequence[Split], names: Sequence[Iterable[str]]) -> set[str]:
    """Return the names (pixel hashes, groups) that stand on both sides: leaks."""
    seen: Mapping[str, set[str]] = {"train": set(), "eval": set()}
    for side, some in zip(splits, names, strict=True):
        seen[side].update(some)
    return seen["train"] & seen["eval"]
