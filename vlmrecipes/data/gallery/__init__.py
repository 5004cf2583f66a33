"""A snapshot as one HTML page for a curator: statistics, drops, duplicates, samples. Opens offline, runs no script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmrecipes.data.sample import Sample, Split
from vlmrecipes.data.snapshot import Snapshot
from vlmrecipes.data.statistics import statistics
from vlmrecipes.errors import InputError
from vlmrecipes.page import charts, formats, pictures
from vlmrecipes.page.html import render

MOST_BYTES = 5_000_000
LEVELS = ((48, 320), (48, 200), (24, 200), (12, 160), (4, 120))
"""Samples a split (and drops, and duplicates) and the width of their pictures: the first that fits `MOST_BYTES` is taken."""
MOST_IMAGES = 6
"""Pictures shown of one sample."""
WHOLE = 100
"""From here on numbers are shown without decimals."""
LONGEST = 600
"""Characters shown of one text."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A histogram with its title."""

    title: str
    unit: str
    bars: charts.Bars
    low: str
    median: str
    high: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a list of counts."""

    label: str
    count: str
    share: float
    """0 to 1, of all."""
    percent: str


@dataclass(frozen=True, slots=True)
class Card:
    """A sample, or a row left out, as the page shows it."""

    id: str
    images: tuple[str, ...]
    more: int
    """Images that are not shown."""
    turns: tuple[tuple[str, str], ...]
    """(who, text) in order."""
    references: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Double:
    """A row that was left out as a duplicate, beside what was kept."""

    key: str
    message: str
    images: tuple[str, ...]
    twin: tuple[str, ...]
    twin_name: str
    """Id of the sample that was kept; `NAME@N ID` in another snapshot."""
    distance: str


def write_page(snapshot: Snapshot, target: Path, found: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write the page to `target`, whole or not at all, under 5 MB; return `{"path", "bytes"}`. Raises InputError.

    `found`: the snapshot's statistics, from a caller that has them.
    """
    if target.is_dir():
        raise InputError.one(f"{target}: is a folder; name a file")
    found, drops = found or statistics(snapshot), snapshot.drops()
    sides: dict[Split, list[str]] = {"train": snapshot.ids("train"), "eval": snapshot.ids("eval")}
    pages = (_page(snapshot, found, (sides, drops), most, width) for most, width in LEVELS)
    page = next((page for page in pages if len(page) < MOST_BYTES), None)
    if page is None:
        raise InputError.one(f"{snapshot.name}: even the smallest page is over {formats.size(MOST_BYTES)}")
    try:
        temporary = target.with_name(f".{target.name}.tmp")
        temporary.write_bytes(page)
        temporary.replace(target)
    except OSError as error:
        raise InputError.one(f"{target}: cannot be written: {error.strerror}") from None
    return {"path": str(target), "bytes": len(page)}


def _page(
    snapshot: Snapshot,
    found: dict[str, Any],
    rows: tuple[Mapping[Split, Sequence[str]], Sequence[dict[str, Any]]],
    most: int,
    width: int,
) -> bytes:
    """Return the page with at most `most` of the samples of a side and of the drops, pictures `width` pixels wide."""
    ids, drops = rows
    sides = [(side, [_card(s) for s in snapshot.chosen(_spread(ids[side], most))]) for side in ids]
    doubles = _doubles(snapshot, drops, most)
    left_out = _left_out(drops, most)
    shown = [
        *(key for _, cards in sides for card in cards for key in card.images),
        *(key for double in doubles for key in (*double.images, *double.twin)),
        *(key for _, _, cards in left_out for card in cards for key in card.images),
    ]
    images = _read(snapshot, shown)
    return render(
        __name__,
        "snapshot.html.jinja",
        title=snapshot.name,
        pictures=pictures.thumbnails(shown, images, width),
        manifest=snapshot.manifest,
        fingerprint=snapshot.fingerprint,
        numbers=_numbers(snapshot, found),
        found=found,
        charts=list(_charts(found)),
        answers=_answers(found["answers"]),
        lists=list(_lists(found)),
        sides=sides,
        doubles=doubles,
        left_out=left_out,
        splits=_rows(found["splits"]),
    )


def _read(snapshot: Snapshot, keys: Iterable[str]) -> dict[str, bytes]:
    """Return the bytes of the images that the store has."""
    reader, there = snapshot.reader(), snapshot.sizes()
    wanted = [key for key in dict.fromkeys(keys) if key in there]
    return dict(zip(wanted, reader.read(wanted), strict=True))


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most `most` items, evenly spread: ids are hashes, so this is a fair draw, the same every time."""
    step = max(1, -(-len(items) // most))
    return list(items[::step])


def _card(sample: Sample) -> Card:
    turns = tuple((str(turn["role"]), _said(turn["content"])) for turn in sample.messages)
    facts = (("id", sample.id), ("group", _cut(sample.group)), ("source", sample.source))
    metadata = tuple((key, _cut(str(value))) for key, value in sample.metadata.items())
    images, more = sample.images[:MOST_IMAGES], max(0, len(sample.images) - MOST_IMAGES)
    return Card(sample.id, images, more, turns, tuple(map(_cut, sample.references[:MOST_IMAGES])), facts + metadata)


def _said(content: Any) -> str:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return _cut("\n".join(part["text"] for part in parts if part.get("text")))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text):,} characters)"


def _left_out(drops: Sequence[dict[str, Any]], most: int) -> list[tuple[str, int, list[Card]]]:
    """Return (reason, count, some of them) of the rows left out, the commonest reason first."""
    reasons: dict[str, list[dict[str, Any]]] = {}
    for drop in drops:
        reasons.setdefault(drop["reason"], []).append(drop)
    order = sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
    return [(reason, len(rows), [_drop_card(row) for row in _spread(rows, most)]) for reason, rows in order]


def _drop_card(drop: Mapping[str, Any]) -> Card:
    images = tuple(drop.get("images") or ())[:MOST_IMAGES]
    return Card(f"{drop['source']} {drop['key']}", images, 0, (), (_cut(drop["message"]),), ())


def _doubles(snapshot: Snapshot, drops: Sequence[Mapping[str, Any]], most: int) -> list[Double]:
    """Return the rows left out that name the sample which was kept in their place."""
    named = _spread([drop for drop in drops if drop.get("images") and drop.get("twin")], most)
    samples = {sample.id: sample for sample in snapshot.chosen([drop["twin"] for drop in named])}
    return [
        Double(
            key=f"{drop['source']} {drop['key']}",
            message=_cut(drop["message"]),
            images=tuple(drop["images"])[:MOST_IMAGES],
            twin=_kept(drop["twin"], samples),
            twin_name=drop["twin"],
            distance="" if drop.get("distance") is None else str(drop["distance"]),
        )
        for drop in named
    ]


def _kept(twin: str, samples: Mapping[str, Sample]) -> tuple[str, ...]:
    """Return the image keys of what was kept; none when that is in another snapshot."""
    return samples[twin].images[:MOST_IMAGES] if twin in samples else ()


def _numbers(snapshot: Snapshot, found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    rows, doubles = snapshot.manifest["rows"], snapshot.manifest["duplicates"]
    leaks = snapshot.manifest["leaks"]
    return [
        ("samples", formats.count(rows["samples"]), f"of {formats.count(rows['read'])} rows read"),
        ("images", formats.count(found["images"]["count"]), f"{len(found['images']['formats'])} formats"),
        ("left out", formats.count(rows["dropped"]), f"{rows['dropped'] / max(1, rows['read']):.1%} of rows"),
        ("duplicates", formats.count(doubles["exact"]), f"exact; {formats.count(doubles.get('near', 0))} near"),
        ("leaks", formats.count(sum(leaks.values())), "shared between train and eval"),
    ]


def _charts(found: Mapping[str, Any]) -> Iterable[Chart]:
    images, prompt, references = (found[name] for name in ("images", "prompt", "references"))
    wanted = (
        ("Image width", "pixels", images["width"]),
        ("Image height", "pixels", images["height"]),
        ("Image size", "megapixels", images["megapixels"]),
        ("Aspect", "width over height", images["aspect"]),
        ("Prompt length", "characters", prompt["characters"]),
        ("Reference length", "characters", references["characters"]),
        ("Reference length", "words", references["words"]),
    )
    for title, unit, spread in wanted:
        if spread["count"]:
            ends = (_value(spread[key]) for key in ("min", "p50", "max"))
            yield Chart(title, unit, charts.histogram(**spread["histogram"]), *ends)


def _value(value: float) -> str:
    return f"{value:.3g}" if isinstance(value, float) and value < WHOLE else formats.count(round(value))


def _answers(answers: Mapping[str, Any]) -> list[Row]:
    return [
        Row(_cut(row["answer"]), formats.count(row["count"]), row["share"], f"{row['share']:.1%}")
        for row in answers["top"]
    ]


def _lists(found: Mapping[str, Any]) -> Iterable[tuple[str, list[Row]]]:
    yield "Formats", _counted(found["images"]["formats"])
    yield "Images a sample", _counted(found["images"]["a_sample"])
    yield "Commonest sizes", _counted(dict(list(found["images"]["sizes"].items())[:8]), found["images"]["count"])
    for name, title in (("prompt", "Scripts of prompts"), ("references", "Scripts of references")):
        yield title, _counted({script: each["characters"] for script, each in found[name]["scripts"].items()})
    yield "References a sample", _counted(found["references_a_sample"])


def _counted(counts: Mapping[str, int], total: int = 0) -> list[Row]:
    every = total or sum(counts.values()) or 1
    return [Row(label, formats.count(n), n / every, f"{n / every:.1%}") for label, n in counts.items()]


def _rows(splits: Mapping[str, Mapping[str, int]]) -> list[Row]:
    return _counted({side: counts["samples"] for side, counts in splits.items()})
