"""What is in a snapshot, in numbers. Reads columns, never image bytes: a million samples take seconds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.scripts import Scripts
from vlmrecipes.data.snapshot import Snapshot

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TOP = 20
BINS = 24
PIECE = 20_000
"""Distinct texts held as Python objects at a time."""
QUANTILES = (5, 25, 50, 75, 95)
_WORD = r"\S+"


EXAMPLES = 5


def describe(snapshot: Snapshot) -> dict[str, Any]:
    """Return the manifest with `statistics`, all rows left out as `dropped`, and a few samples as `examples`."""
    return snapshot.manifest | {
        "statistics": statistics(snapshot),
        "dropped": snapshot.drops(),
        "examples": [sample.content() for sample in snapshot.chosen(snapshot.ids()[:EXAMPLES])],
    }


def statistics(snapshot: Snapshot) -> dict[str, Any]:
    """Return sizes, formats, text lengths, scripts, answers, splits, sources and drops of a snapshot as JSON values.

    Lengths are in code points and in words (runs of what is not white space); sizes in pixels of the stored images.
    """
    # The two columns of texts are read one after the other: together they may be larger than all the rest.
    prompts, turns = _chats(snapshot.columns("samples", ("messages",))["messages"])
    samples = snapshot.columns("samples", ("images", "references", "group", "split", "source"))
    return {
        "images": _images(snapshot, samples["images"]),
        "prompt": prompts,
        "references": _references(samples["references"]),
        "references_a_sample": _counts(_lengths(samples["references"])),
        "turns_a_sample": turns,
        "answers": answers(samples["references"]),
        "splits": {side: _side(samples, side) for side in ("train", "eval")},
        "sources": _sources(samples),
        "drops": _drops(snapshot),
        "duplicates": snapshot.manifest["duplicates"],
        "leaks": snapshot.manifest["leaks"],
    }


def spread(values: np.ndarray) -> dict[str, Any]:
    """Return count, extremes, mean, quantiles and a histogram (`edges`: n + 1, `counts`: n) of finite numbers."""
    import numpy as np

    if not len(values):
        return {"count": 0}
    quantiles = np.percentile(values, QUANTILES, method="lower")
    whole = np.issubdtype(values.dtype, np.integer)
    number = int if whole else (lambda value: round(float(value), 4))
    edges, counts = _histogram(values, whole=bool(whole))
    return {
        "count": len(values),
        "min": number(values.min()),
        **{f"p{share}": number(value) for share, value in zip(QUANTILES, quantiles, strict=True)},
        "max": number(values.max()),
        "mean": round(float(values.mean()), 4),
        "histogram": {
            "edges": [number(edge) for edge in edges],
            "counts": counts,
        },
    }


def _histogram(values: np.ndarray, *, whole: bool) -> tuple[list[Any], list[int]]:
    """Return edges and counts of at most `BINS` bins of equal width; of whole numbers, bins as wide as whole numbers."""
    import numpy as np

    low, high = values.min(), values.max()
    if low == high:
        return [low, high], [len(values)]
    if whole:
        width = -(-(int(high) - int(low) + 1) // BINS)
        edges = np.arange(int(low), int(high) + width + 1, width)
    else:
        edges = np.linspace(low, high, BINS + 1)
    counts: list[int] = np.histogram(values, edges)[0].tolist()
    return list(edges), counts


def answers(references: pa.ChunkedArray) -> dict[str, Any]:
    """Return how many distinct answers there are, the share of the commonest, and the commonest `TOP`.

    The answer of a sample is its commonest reference, the first of equals.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    single = pc.equal(pc.list_value_length(references), 1)
    several = (texts for texts in references.filter(pc.invert(single)).to_pylist() if texts)
    commonest = pa.array([Counter(texts).most_common(1)[0][0] for texts in several], pa.string())
    found = pa.chunked_array([*_flat(references.filter(single)).chunks, commonest], pa.string()).value_counts()
    found = pa.RecordBatch.from_struct_array(found)
    order = pc.select_k_unstable(found, TOP, [("counts", "descending"), ("values", "ascending")])
    total = len(references) - pc.sum(pc.equal(pc.list_value_length(references), 0)).as_py()
    rows = [
        {"answer": row["values"], "count": row["counts"], "share": round(row["counts"] / total, 4)}
        for row in found.take(order).to_pylist()
    ]
    return {"distinct": len(found), "majority": rows[0]["share"] if rows else 0.0, "top": rows}


def _images(snapshot: Snapshot, lists: pa.ChunkedArray) -> dict[str, Any]:
    """Return the statistics of the images that samples name, each counted once."""
    import numpy as np
    import pyarrow.compute as pc

    table = snapshot.columns("images", ("key", "width", "height", "format"))
    table = table.filter(pc.is_in(table["key"], pc.unique(_flat(lists))))
    width, height = (table[name].to_numpy().astype(np.int64) for name in ("width", "height"))
    sizes = Counter(zip(width.tolist(), height.tolist(), strict=True))
    return {
        "count": table.num_rows,
        "width": spread(width),
        "height": spread(height),
        "megapixels": spread(width * height / 1e6),
        "aspect": spread(width / height),
        "formats": _tally(table["format"]),
        "sizes": {f"{w}x{h}": count for (w, h), count in sorted(sizes.items(), key=lambda i: (-i[1], i[0]))[:TOP]},
        "distinct_sizes": len(sizes),
        "a_sample": _counts(_lengths(lists)),
    }


def _chats(messages: pa.ChunkedArray) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the measures of what users say, and how many turns how many chats have. Each distinct chat is parsed once."""
    import numpy as np

    encoded, turns = _encoded(messages), []

    def prompts() -> Iterator[list[str]]:
        for texts in _pieces(encoded):
            chats = [json.loads(text) for text in texts]
            turns.append(np.array([len(chat) for chat in chats], np.int64))
            yield [prompt_text(chat) for chat in chats]

    places = encoded.indices.to_numpy()
    measured = _text(prompts(), places)
    return measured, _counts(np.concatenate([*turns, np.zeros(0, np.int64)])[places])


def _references(lists: pa.ChunkedArray) -> dict[str, Any]:
    encoded = _encoded(_flat(lists))
    return _text(_pieces(encoded), encoded.indices.to_numpy())


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Return the column with each distinct text once."""
    import pyarrow as pa

    return pa.chunked_array(column, pa.large_string()).combine_chunks().dictionary_encode()


def _pieces(encoded: pa.DictionaryArray) -> Iterator[list[str]]:
    """Yield the distinct texts, some at a time: as Python objects they would take many times the memory."""
    for start in range(0, len(encoded.dictionary), PIECE):
        yield encoded.dictionary.slice(start, PIECE).to_pylist()


def _text(pieces: Iterable[list[str]], places: np.ndarray) -> dict[str, Any]:
    """Return lengths and scripts of texts, given with the place among them of what stands in each row."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    weights, scripts, start = np.bincount(places), Scripts(), 0
    lengths: list[np.ndarray] = [np.zeros((2, 0), np.int64)]
    different: set[int] = set()
    for texts in pieces:
        array = pa.array(texts, pa.string())
        measured = (pc.utf8_length(array), pc.count_substring_regex(array, _WORD))
        lengths.append(np.array([column.to_numpy(zero_copy_only=False) for column in measured], np.int64))
        scripts.add(texts, weights[start : start + len(texts)])
        different.update(map(hash, texts))
        start += len(texts)
    characters, words = np.concatenate(lengths, axis=1)[:, places]
    return {
        "distinct": len(different),
        "characters": spread(characters),
        "words": spread(words),
        "scripts": scripts.counts(),
    }


def prompt_text(messages: Iterable[dict[str, Any]]) -> str:
    """Return what the user says in a chat, turns and parts joined by line breaks."""
    said = (message["content"] for message in messages if message["role"] == "user")
    parts = (part for content in said for part in ([{"text": content}] if isinstance(content, str) else content))
    return "\n".join(part["text"] for part in parts if part.get("text"))


def _flat(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.list_flatten(lists)


def _lengths(lists: pa.ChunkedArray) -> np.ndarray:
    import pyarrow.compute as pc

    lengths: np.ndarray = pc.list_value_length(lists).to_numpy()
    return lengths


def _counts(values: np.ndarray) -> dict[str, int]:
    """Return how often each whole number stands there, keyed by its text, in order."""
    return {str(value): count for value, count in sorted(Counter(values.tolist()).items())}


def _tally(column: pa.ChunkedArray) -> dict[str, int]:
    found = {row["values"]: row["counts"] for row in column.value_counts().to_pylist()}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _side(samples: pa.Table, side: str) -> dict[str, int]:
    import pyarrow.compute as pc

    rows = samples.filter(pc.equal(samples["split"], side))
    return {
        "samples": rows.num_rows,
        "groups": pc.count_distinct(rows["group"]).as_py(),
        "images": pc.count_distinct(_flat(rows["images"])).as_py(),
    }


def _sources(samples: pa.Table) -> dict[str, dict[str, int]]:
    rows = samples.group_by(["source", "split"]).aggregate([([], "count_all")]).to_pylist()
    found: dict[str, dict[str, int]] = {
        name: {"train": 0, "eval": 0} for name in sorted({row["source"] for row in rows})
    }
    for row in rows:
        found[row["source"]][row["split"]] = row["count_all"]
    return found


def _drops(snapshot: Snapshot) -> dict[str, Any]:
    drops = snapshot.columns("drops", ("source", "reason"))
    return {"reasons": _tally(drops["reason"]), "sources": _tally(drops["source"])}
