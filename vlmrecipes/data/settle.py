"""Rows with prepared images become samples: duplicates leave, groups are dealt to sides, ids are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vlmrecipes.data import dedup, split
from vlmrecipes.data.declaration import Declaration
from vlmrecipes.data.sample import Drop, Sample, Split
from vlmrecipes.data.sources.candidate import Candidate
from vlmrecipes.fingerprint import canonical, sha256


class Picture(NamedTuple):
    """What settling needs to know of a prepared image; the fields are columns of the images table."""

    key: str
    """SHA-256 of the prepared bytes, 64 hex digits."""
    pixels: str
    """SHA-256 of the decoded pixels."""
    phash: int
    """64-bit perceptual hash."""
    width: int
    """Pixels."""
    height: int


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the rows."""

    samples: list[Sample]
    """Ordered by id."""
    drops: list[Drop]
    """Rows left out as duplicates."""
    leaks: int
    """Images on both sides."""

    def facts(self) -> dict[str, Any]:
        """Return the manifest's entries about duplicates and splits."""
        sides = Counter(sample.split for sample in self.samples)
        return {
            "duplicates": {"exact": len(self.drops), "near": 0},
            "splits": {side: sides[side] for side in ("train", "eval")},
            "leaks": {"images": self.leaks},
        }


def settle(declaration: Declaration, candidates: Sequence[Candidate], images: Sequence[tuple[Picture, ...]]) -> Settled:
    """Return the samples and drops of `candidates`, whose prepared images are `images`. The order of rows decides nothing."""
    pixels = [tuple(image.pixels for image in row) for row in images]
    declared = [candidate.split for candidate in candidates]
    contents = [_content(c, p) for c, p in zip(candidates, pixels, strict=True)]
    doubles = _duplicates(candidates, images, contents) if declaration.dedup.exact else {}
    groups = [c.group or _own_group(p, content) for c, p, content in zip(candidates, pixels, contents, strict=True)]
    # Duplicates take part, and join their groups: a row that comes later must not pull its elder twin out of eval.
    sides = split.sides(
        groups,
        [(*p, content) for p, content in zip(pixels, contents, strict=True)],
        declared,
        share=declaration.split.eval,
        salt=declaration.split.salt or declaration.name,
    )
    kept = sorted((row for row in range(len(contents)) if row not in doubles), key=lambda row: sides[row])
    seen: Counter[str] = Counter()
    keys = [tuple(image.key for image in row) for row in images]
    samples = [_sample(candidates[row], keys[row], groups[row], sides[row], seen) for row in kept]
    leaks = split.shared_images([sides[row] for row in kept], [pixels[row] for row in kept])
    drops = [_drop(candidates[row], candidates[twin]) for row, twin in doubles.items()]
    return Settled(sorted(samples, key=lambda sample: sample.id), drops, len(leaks))


def _content(candidate: Candidate, pixels: tuple[str, ...]) -> str:
    return sha256(canonical([pixels, candidate.messages, candidate.references]))


def _own_group(pixels: tuple[str, ...], content: str) -> str:
    return "+".join(pixels) if pixels else content


def _duplicates(
    candidates: Sequence[Candidate], images: Sequence[tuple[Picture, ...]], contents: list[str]
) -> dict[int, int]:
    rows = zip(candidates, images, strict=True)
    order = [
        f"{sha256(canonical([c.source, c.group, c.split, c.metadata]))} {[(i.key, i.pixels) for i in row]}"
        for c, row in rows
    ]
    return dedup.exact_duplicates(contents, [c.split for c in candidates], order)


def _drop(candidate: Candidate, twin: Candidate) -> Drop:
    message = f"same images, prompt and answer as {twin.source} {twin.key}"
    return Drop(source=candidate.source, key=candidate.key, reason="duplicate", message=message)


def _sample(candidate: Candidate, images: tuple[str, ...], group: str, side: Split, seen: Counter[str]) -> Sample:
    """Return the sample. Its id comes from what it says; copies that `dedup` was told to keep are told apart by number."""
    identity = [candidate.source, images, candidate.messages, candidate.references, group, candidate.metadata]
    content = sha256(canonical(identity))
    seen[content] += 1
    return Sample(
        id=(content if seen[content] == 1 else sha256(f"{content} {seen[content]}".encode()))[:32],
        images=images,
        messages=candidate.messages,
        references=candidate.references,
        group=group,
        split=side,
        source=candidate.source,
        metadata=candidate.metadata,
    )
