"""What is in a snapshot, in numbers. Reads columns, never image bytes: a million samples take seconds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.scripts import Scripts
from vlmrecipes.data.snapshot import Snapshot

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TOP = 20
BINS = 24
PIECE = 20_000
"""Rows whose texts are held at a time."""
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
    import pyarrow.compute as pc

    prompts, turns = _chats(snapshot.pieces("samples", "messages", PIECE))
    references = _text(map(pc.list_flatten, snapshot.pieces("samples", "references", PIECE)))
    replies = snapshot.columns("samples", ("references",))["references"]
    replied = {"references_a_sample": _counts(_lengths(replies)), "answers": answers(replies)}
    del replies  # the texts may be larger than all the rest
    samples = snapshot.columns("samples", ("images", "group", "split", "source"))
    return {
        "images": _images(snapshot, samples["images"]),
        "prompt": prompts,
        "references": references,
        "turns_a_sample": turns,
        **replied,
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
    total = pc.sum(pc.greater(pc.list_value_length(references), 0), min_count=0).as_py()
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


def _chats(pieces: Iterable[pa.Array]) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the measures of what users say, and how many turns how many chats have."""
    import numpy as np

    turns: list[np.ndarray] = [np.zeros(0, np.int64)]

    def prompts(texts: list[str], places: np.ndarray) -> list[str]:
        chats = json.loads(f"[{','.join(texts)}]")  # one call for all takes half the time
        turns.append(np.array([len(chat) for chat in chats], np.int64)[places])
        return [prompt_text(chat) for chat in chats]

    return _text(pieces, prompts), _counts(np.concatenate(turns))


def _text(
    pieces: Iterable[pa.Array], told: Callable[[list[str], np.ndarray], list[str]] = lambda texts, _: texts
) -> dict[str, Any]:
    """Return lengths and scripts of texts, which come a piece at a time: all as Python objects would fill the memory.

    `told` gives for the distinct texts of a piece, and the place among them of each row's, what is measured.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    scripts, different = Scripts(), set[int]()
    lengths: list[np.ndarray] = [np.zeros((2, 0), np.int64)]
    for piece in pieces:
        encoded = piece.dictionary_encode()
        places = encoded.indices.to_numpy()
        texts = told(encoded.dictionary.to_pylist(), places)
        array = pa.array(texts, pa.string())
        measured = (pc.utf8_length(array), pc.count_substring_regex(array, _WORD))
        lengths.append(np.array([column.to_numpy(zero_copy_only=False) for column in measured], np.int64)[:, places])
        scripts.add(texts, np.bincount(places, minlength=len(texts)))
        different.update(map(hash, texts))
    characters, words = np.concatenate(lengths, axis=1)
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
