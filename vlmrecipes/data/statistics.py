"""What is in a snapshot, in numbers. Reads columns, never image bytes: a million samples take seconds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.scripts import script_counts
from vlmrecipes.data.snapshot import Snapshot

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TOP = 20
BINS = 24
QUANTILES = (5, 25, 50, 75, 95)
_WORD = r"\S+"


EXAMPLES = 5


def describe(snapshot: Snapshot) -> dict[str, Any]:
    """Return the manifest with `statistics`, all rows left out as `dropped`, and a few samples as `examples`."""
    return snapshot.manifest | {
        "statistics": statistics(snapshot),
        "dropped": snapshot.drops(),
        "examples": [sample.content() for sample in snapshot.samples()[:EXAMPLES]],
    }


def statistics(snapshot: Snapshot) -> dict[str, Any]:
    """Return sizes, formats, text lengths, scripts, answers, splits, sources and drops of a snapshot as JSON values.

    Lengths are in code points and in words (runs of what is not white space); sizes in pixels of the stored images.
    """
    samples = snapshot.columns("samples", ("images", "messages", "references", "group", "split", "source"))
    prompts, places = _prompts(samples["messages"])
    references = _flat(samples["references"])
    return {
        "images": _images(snapshot, samples["images"]),
        "prompt": _text(prompts, places),
        "references": _text(*_encoded(references)),
        "references_a_sample": _counts(_lengths(samples["references"])),
        "turns_a_sample": _counts(_turns(samples["messages"])),
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
    import pyarrow.compute as pc

    single = pc.equal(pc.list_value_length(references), 1)
    found = Counter(
        {row["values"]: row["counts"] for row in _flat(references.filter(single)).value_counts().to_pylist()}
    )
    several = references.filter(pc.invert(single)).to_pylist()
    found.update(Counter(texts).most_common(1)[0][0] for texts in several if texts)
    total = sum(found.values())
    top = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:TOP]
    rows = [{"answer": text, "count": count, "share": round(count / total, 4)} for text, count in top]
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


def _text(texts: Sequence[str], places: np.ndarray) -> dict[str, Any]:
    """Return lengths and scripts of texts given once each, with the place of every occurrence's text in them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    array = pa.array(texts, pa.string())
    characters, words = (
        column.to_numpy(zero_copy_only=False).astype(np.int64)
        for column in (pc.utf8_length(array), pc.count_substring_regex(array, _WORD))
    )
    weights = np.bincount(places, minlength=len(texts))
    return {
        "distinct": len(texts),
        "characters": spread(characters[places]),
        "words": spread(words[places]),
        "scripts": script_counts(texts, weights.tolist()),
    }


def _prompts(messages: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Return the distinct user texts of the chats, and which one each sample has."""
    import numpy as np

    chats, places = _encoded(messages)
    texts = [prompt_text(json.loads(chat)) for chat in chats]
    order: dict[str, int] = {}
    renumbered = np.array([order.setdefault(text, len(order)) for text in texts], dtype=np.int64)
    return list(order), renumbered[places] if len(renumbered) else places


def prompt_text(messages: Iterable[dict[str, Any]]) -> str:
    """Return what the user says in a chat, turns and parts joined by line breaks."""
    said = (message["content"] for message in messages if message["role"] == "user")
    parts = (part for content in said for part in ([{"text": content}] if isinstance(content, str) else content))
    return "\n".join(part["text"] for part in parts if part.get("text"))


def _turns(messages: pa.ChunkedArray) -> np.ndarray:
    import numpy as np

    chats, places = _encoded(messages)
    turns = np.array([len(json.loads(chat)) for chat in chats], dtype=np.int64)
    return np.take(turns, places)


def _encoded(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Return the distinct texts of a column, and for each row which one it is."""
    import numpy as np

    array = column.combine_chunks().dictionary_encode()
    return array.dictionary.to_pylist(), array.indices.to_numpy(zero_copy_only=False).astype(np.int64)


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
