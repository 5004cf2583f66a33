"""Rows with prepared images become samples: duplicates leave, groups are dealt to sides, ids are given."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmrecipes.data import dedup, split
from vlmrecipes.data.declaration import Declaration
from vlmrecipes.data.lookalikes import Look, Lookalikes, Picture
from vlmrecipes.data.sample import Drop, Reason, Sample, Split
from vlmrecipes.data.sources.candidate import Candidate
from vlmrecipes.fingerprint import canonical, sha256

FOREIGN_RADIUS = 4
"""Bits, for `decontaminate` when `near` is not given."""
SHOWN_CONTRADICTIONS = 20


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the rows."""

    samples: list[Sample]
    """Ordered by id."""
    drops: list[Drop]
    """Rows left out as duplicates, or because eval holds them."""
    leaks: dict[str, int]
    """How many images, duplicate groups and groups stand on both sides."""
    contradictions: list[dict[str, Any]]
    """Rows with the same images and prompt whose answers have nothing in common."""
    near_images: int
    """Images, told apart by their pixels, with a near one among the rows."""
    brought: int
    """Samples in eval although their own group was not dealt there: a group with their images, or near ones, was."""
    largest: int
    """Rows in the largest joined group: they move between sides together."""

    def facts(self) -> dict[str, Any]:
        """Return the manifest's entries about duplicates and splits."""
        sides = Counter(sample.split for sample in self.samples)
        reasons = Counter(drop.reason for drop in self.drops)
        return {
            "duplicates": {
                "exact": reasons["duplicate"],
                "near": reasons["near_duplicate"],
                "near_images": self.near_images,
            },
            "contaminated": reasons["contaminated"],
            "splits": {side: sides[side] for side in ("train", "eval")},
            "brought_to_eval": self.brought,
            "largest_group": self.largest,
            "leaks": self.leaks,
            "contradictions": {
                "count": len(self.contradictions),
                "examples": self.contradictions[:SHOWN_CONTRADICTIONS],
            },
        }


def settle(
    declaration: Declaration,
    candidates: Sequence[Candidate],
    images: Sequence[tuple[Picture, ...]],
    *,
    benchmarks: Sequence[tuple[str, Picture]] = (),
    held: Collection[str] = (),
) -> Settled:
    """Return the samples and drops of `candidates`, whose prepared images are `images`. The order of rows decides nothing.

    `benchmarks`: pictures of other snapshots' eval sides, each with the name of its sample. `held`: groups that the parent
    snapshot has in eval, for a stratified split.
    """
    rows = _Rows(declaration, candidates, images)
    doubles = dedup.exact_duplicates(rows.contents, rows.ranks) if declaration.dedup.exact else {}
    # Duplicates take part, and join their groups: a row that comes later must not pull its elder twin out of eval.
    sides = rows.sides(held)
    kept = [row for row in range(len(candidates)) if row not in doubles]
    tainted, foreign = _tainted(rows, kept, sides, benchmarks)
    clean = [row for row in kept if row not in tainted and row not in foreign]
    nears = dedup.near_duplicates(clean, rows.texts, rows.looks, rows.alike, rows.ranks) if rows.searched else {}
    samples = rows.samples([row for row in clean if row not in nears], sides)
    twins = _Twins(rows, samples, doubles | nears)
    drops = [
        *(twins.drop(row, "duplicate", "same images, prompt and answer as", twin) for row, twin in doubles.items()),
        *(
            twins.drop(row, "near_duplicate", "near images, same prompt and answer as", twin)
            for row, twin in nears.items()
        ),
        *(twins.drop(row, "contaminated", "its image is near one in eval:", twin) for row, twin in tainted.items()),
        *(_foreign(rows, row, name, distance) for row, (name, distance) in foreign.items()),
    ]
    return Settled(
        sorted(samples.values(), key=lambda sample: sample.id),
        drops,
        rows.leaks(samples),
        _contradictions(candidates, rows),
        rows.alike.images,
        rows.brought([row for row in samples if sides[row] == "eval"]),
        max(Counter(rows.joined()).values(), default=0),
    )


class _Rows:
    """The rows and what they are compared by."""

    def __init__(
        self, declaration: Declaration, candidates: Sequence[Candidate], images: Sequence[tuple[Picture, ...]]
    ) -> None:
        self.declaration, self.candidates, self.images = declaration, candidates, images
        self.declared = split.declared_sides([c.group for c in candidates], [c.split for c in candidates])
        self.searched = declaration.dedup.near is not None
        self.salt = declaration.split.salt or declaration.name
        self.pixels = [tuple(picture.pixels for picture in row) for row in images]
        self.texts = [sha256(canonical([c.messages, c.references])) for c in candidates]
        self.contents = [sha256(canonical([*row])) for row in zip(self.pixels, self.texts, strict=True)]
        self.groups = [
            c.group or "+".join(p) or content
            for c, p, content in zip(candidates, self.pixels, self.contents, strict=True)
        ]
        self.alike = Lookalikes((picture for row in images for picture in row), declaration.dedup.near)
        self.looks: list[tuple[Look, ...]] = [tuple(self.alike.look(picture) for picture in row) for row in images]
        self.ranks = [self._rank(row) for row in range(len(candidates))]
        self.duplicates = self._duplicates()

    def _rank(self, row: int) -> dedup.Rank:
        c, images = self.candidates[row], self.images[row]
        about = sha256(canonical([c.source, c.group, c.split, c.metadata]))
        order = f"{about} {[(picture.key, picture.pixels) for picture in images]}"
        if self.declaration.dedup.keep == "first-by-id":
            return dedup.rank(self.declared[row], 0, self.contents[row] + order)
        return dedup.rank(self.declared[row], sum(picture.width * picture.height for picture in images), order)

    def _duplicates(self) -> list[str]:
        """Return the name of each row's duplicate group; empty when no other row has its images, or near ones."""
        ranked = sorted(range(len(self.looks)), key=lambda row: self.ranks[row])
        names = {
            look: pixel for row in ranked[::-1] for look, pixel in zip(self.looks[row], self.pixels[row], strict=True)
        }
        leaders = self.alike.leaders([look for row in ranked for look in self.looks[row]])
        sizes = Counter(look for row in self.looks for look in {leaders[look] for look in row})
        shared = [sorted({names[leaders[look]] for look in row if sizes[leaders[look]] > 1}) for row in self.looks]
        return [sha256("+".join(pixels).encode())[:16] if pixels else "" for pixels in shared]

    def links(self) -> list[tuple[Any, ...]]:
        parts = [tuple(("part", self.alike.part(look)) for look in row) for row in self.looks]
        return [(*p, content, *some) for p, content, some in zip(self.pixels, self.contents, parts, strict=True)]

    def joined(self) -> list[int]:
        return split.joined([(f"g{group}", *links) for group, links in zip(self.groups, self.links(), strict=True)])

    def sides(self, held: Collection[str]) -> list[Split]:
        rule = self.declaration.split
        return split.sides(
            self.groups,
            self.links(),
            self.declared,
            share=rule.eval,
            salt=self.salt,
            strata=[str(c.metadata.get(rule.column)) for c in self.candidates] if rule.stratify else (),
            held=held,
        )

    def brought(self, evals: Collection[int]) -> int:
        """Return how many of `evals` are there by the group of another's images. With strata no group is dealt a side: 0."""
        rule, salt = self.declaration.split, self.salt
        undeclared = [self.groups[row] for row in evals if self.declared[row] is None and not rule.stratify]
        return sum(not split.is_dealt(group, rule.eval, salt) for group in undeclared)

    def samples(self, kept: Sequence[int], sides: Sequence[Split]) -> dict[int, Sample]:
        seen: Counter[str] = Counter()
        return {row: self._sample(row, sides[row], seen) for row in sorted(kept, key=lambda row: sides[row])}

    def _sample(self, row: int, side: Split, seen: Counter[str]) -> Sample:
        """Return the sample. Its id comes from what it says; copies that `dedup` was told to keep are told apart by number."""
        c, images, group = self.candidates[row], tuple(picture.key for picture in self.images[row]), self.groups[row]
        content = sha256(canonical([c.source, images, c.messages, c.references, group, c.metadata]))
        seen[content] += 1
        return Sample(
            id=(content if seen[content] == 1 else sha256(f"{content} {seen[content]}".encode()))[:32],
            images=images,
            messages=c.messages,
            references=c.references,
            group=group,
            split=side,
            source=c.source,
            metadata=c.metadata,
            duplicates=self.duplicates[row],
            key=c.key,
        )

    def leaks(self, samples: Mapping[int, Sample]) -> dict[str, int]:
        sides = [sample.split for sample in samples.values()]
        names: dict[str, list[Any]] = {
            "images": [self.pixels[row] for row in samples],
            "duplicate_groups": [filter(None, [sample.duplicates]) for sample in samples.values()],
            "groups": [[sample.group] for sample in samples.values()],
        }
        return {name: len(split.on_both(sides, some)) for name, some in names.items()}


def _tainted(
    rows: _Rows, kept: Sequence[int], sides: Sequence[Split], benchmarks: Sequence[tuple[str, Picture]]
) -> tuple[dict[int, dedup.Twin], dict[int, tuple[str, int]]]:
    """Return the training rows with an image near one of this set's eval side, or of `benchmarks`. Eval wins."""
    train = [row for row in kept if sides[row] == "train"]
    evals = sorted((row for row in kept if sides[row] == "eval"), key=lambda row: (rows.ranks[row], rows.contents[row]))
    held: dict[Look, str] = {}
    for place, row in enumerate(evals):
        for look in rows.looks[row]:
            held.setdefault(look, f"{place:012}")  # so that the first in rank is named, wherever its row stands
    own = dedup.contaminated(train, rows.looks, rows.alike, held)
    twins = {row: dedup.Twin(evals[int(name)], distance) for row, (name, distance) in own.items()}
    if not benchmarks:
        return twins, {}
    near = rows.declaration.dedup.near
    pictures = [picture for row in rows.images for picture in row] + [picture for _, picture in benchmarks]
    alike = Lookalikes(pictures, FOREIGN_RADIUS if near is None else near)
    looks = [tuple(alike.look(picture) for picture in row) for row in rows.images]
    names = {alike.look(picture): name for name, picture in sorted(benchmarks, reverse=True)}
    found = dedup.contaminated(train, looks, alike, names)
    return twins, {row: where for row, where in found.items() if row not in twins}


class _Twins:
    """The samples that rows were left out for."""

    def __init__(self, rows: _Rows, samples: Mapping[int, Sample], kept: Mapping[int, dedup.Twin]) -> None:
        self._rows, self._samples, self._kept = rows, samples, kept

    def drop(self, row: int, reason: Reason, why: str, twin: dedup.Twin) -> Drop:
        other, last = self._rows.candidates[twin.row], twin.row
        while last not in self._samples and last in self._kept:
            last = self._kept[last].row
        return Drop(
            source=self._rows.candidates[row].source,
            key=self._rows.candidates[row].key,
            reason=reason,
            message=f"{why} {other.source} {other.key}",
            images=tuple(picture.key for picture in self._rows.images[row]),
            twin=self._samples[last].id if last in self._samples else "",
            distance=twin.distance,
        )


def _foreign(rows: _Rows, row: int, name: str, distance: int) -> Drop:
    return Drop(
        source=rows.candidates[row].source,
        key=rows.candidates[row].key,
        reason="contaminated",
        message=f"its image is near one in the eval side of {name.partition(' ')[0]}",
        images=tuple(picture.key for picture in rows.images[row]),
        twin=name,
        distance=distance,
    )


def _contradictions(candidates: Sequence[Candidate], rows: _Rows) -> list[dict[str, Any]]:
    asked: dict[str, list[int]] = defaultdict(list)
    for row, (candidate, pixels) in enumerate(zip(candidates, rows.pixels, strict=True)):
        if pixels:
            asked[sha256(canonical([pixels, candidate.messages]))].append(row)
    found = []
    for same in asked.values():
        answers = [{text.strip() for text in candidates[row].references} for row in same]
        if len(same) > 1 and not set.intersection(*answers):
            keys = sorted(f"{candidates[row].source} {candidates[row].key}" for row in same)
            found.append({"rows": keys, "answers": sorted(set.union(*answers))})
    return sorted(found, key=lambda one: one["rows"])
