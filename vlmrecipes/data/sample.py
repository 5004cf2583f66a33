"""Sample, Drop, and the one mapping between them and Arrow columns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vlmrecipes.collector import paused
from vlmrecipes.fingerprint import canonical, sha256

if TYPE_CHECKING:
    import pyarrow as pa

Split = Literal["train", "eval"]

Reason = Literal[
    "bad_row",
    "missing_column",
    "no_answer",
    "bad_messages",
    "missing_image",
    "outside_root",
    "undecodable",
    "unreachable",
    "refused_address",
    "too_large",
    "too_small",
    "timeout",
    "bad_crop",
    "duplicate",
    "near_duplicate",
    "contaminated",
]
"""Why a row was left out; the closed list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One training or evaluation item, as it lies in a snapshot."""

    id: str
    """32 hex digits, from content and source; never from row order."""
    images: tuple[str, ...]
    """Keys of the images in order: SHA-256 of the prepared bytes, 64 hex digits. May be empty."""
    messages: tuple[Mapping[str, Any], ...]
    """Chat turns up to and with the last user turn: `{"role", "content": [{"type": "image"} | {"type": "text", "text"}]}`."""
    references: tuple[str, ...]
    """Accepted answers to the last turn; at least one."""
    group: str
    """Samples of one group are never on both sides."""
    split: Split
    source: str
    metadata: Mapping[str, Any]
    """Scalar columns kept for breakdowns (`question_type`, `page`)."""
    duplicates: str = ""
    """Names the duplicate group of its images, 16 hex digits; empty when nothing looks like them. Not in the digest."""
    key: str = ""
    """Where its row stood in its source when the snapshot was made: `manifest.jsonl:12/3`. Not in the digest."""

    @property
    def answer(self) -> str:
        """The answer that is learned."""
        return answer_of(self.references)

    def digest(self) -> str:
        """Return the SHA-256 of everything in the sample; image bytes enter through their keys."""
        return sha256(canonical(self.content()))

    def content(self) -> dict[str, Any]:
        """Return the sample as plain JSON values."""
        return {
            "id": self.id,
            "images": list(self.images),
            "messages": [dict(message) for message in self.messages],
            "references": list(self.references),
            "group": self.group,
            "split": self.split,
            "source": self.source,
            "metadata": dict(self.metadata),
        }


def answer_of(references: Sequence[str]) -> str:
    """Return the reference that is learned: the commonest, the first of equals."""
    return references[0] if len(references) == 1 else Counter(references).most_common(1)[0][0]


class ImageError(Exception):
    """An image that cannot be used; the row becomes a drop."""

    def __init__(self, reason: Reason, message: str) -> None:
        """Keep the drop's reason and message."""
        super().__init__(reason, message)
        self.reason: Reason = reason
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A row left out, and why."""

    source: str
    key: str
    """Where the row stands in its source: `manifest.jsonl:12`, with `/3` for the exploded element."""
    reason: Reason
    message: str
    images: tuple[str, ...] = ()
    """Keys of the prepared images, when it came so far."""
    twin: str = ""
    """Id of the sample that is kept instead; `NAME@N ID` in another snapshot."""
    distance: int | None = None
    """Bits of the 64-bit perceptual hash by which its images differ from the twin's."""


def primary_key(name: str) -> pa.Field:
    """Return a text column that Lance keeps unique among rows inserted if absent, by any number of writers at once."""
    import pyarrow as pa

    mark = "lance-schema:unenforced-primary-key"
    return pa.field(name, pa.string(), nullable=False, metadata={mark: "true", f"{mark}:position": "1"})


def sample_schema() -> pa.Schema:
    """Return the Arrow schema of the samples table. Messages and metadata are JSON text: their shape is the user's."""
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    return pa.schema(
        [
            primary_key("id"),
            pa.field("digest", text, nullable=False),
            ("images", texts),
            ("messages", text),
            ("references", texts),
            ("group", text),
            ("split", text),
            ("source", text),
            ("metadata", text),
            ("duplicates", text),
            ("key", text),
        ]
    )


def image_schema() -> pa.Schema:
    """Return the Arrow schema of the images table; `key` is its primary key.

    The bytes are compressed already: Lance would try again, at the cost of most of the writing.
    """
    import pyarrow as pa

    plain = {"lance-encoding:compression": "none"}

    return pa.schema(
        [
            primary_key("key"),
            pa.field("data", pa.large_binary(), metadata=plain),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("format", pa.string()),
            ("pixels", pa.string()),
            ("phash", pa.uint64()),
            ("phash256", pa.binary(32)),
            ("colours", pa.binary(128)),
            ("source_sha256", pa.string()),
            ("source_width", pa.int32()),
            ("source_height", pa.int32()),
            ("steps", pa.string()),
        ]
    )


def origin_schema() -> pa.Schema:
    """Return the Arrow schema of the origins table: which image comes of which bytes (their SHA-256), crop and policy.

    Several origins may give one image. Losing a row costs work, and lineage the file that it names, nothing else.
    """
    import pyarrow as pa

    return pa.schema(
        [primary_key("origin"), pa.field("key", pa.string(), nullable=False), ("source_sha256", pa.string())]
    )


def drop_schema() -> pa.Schema:
    """Return the Arrow schema of the drops table."""
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("source", "key", "reason", "message", "twin")]
    return pa.schema([*texts, ("images", pa.list_(pa.string())), ("distance", pa.int32())])


def file_schema() -> pa.Schema:
    """Return the Arrow schema of the files that a snapshot's rows were read from; paths are as row keys begin."""
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("source", "path", "sha256")]
    return pa.schema([*texts, ("bytes", pa.int64())])


def to_table(samples: Sequence[Sample]) -> pa.Table:
    """Return samples as an Arrow table with `sample_schema()`."""
    import pyarrow as pa

    rows = [_row(sample) for sample in samples]
    return pa.Table.from_pylist(rows, schema=sample_schema())


def _row(sample: Sample) -> dict[str, Any]:
    content = sample.content()
    return content | {
        "digest": sample.digest(),
        "duplicates": sample.duplicates,
        "key": sample.key,
        "messages": json.dumps(content["messages"], ensure_ascii=False),
        "metadata": json.dumps(content["metadata"], ensure_ascii=False, sort_keys=True),
    }


@paused()
def from_table(table: pa.Table) -> list[Sample]:
    """Return the samples of an Arrow table that `to_table` made, in its order."""
    return [_sample(row) for row in table.to_pylist()]


def _sample(row: Mapping[str, Any]) -> Sample:
    return Sample(
        id=row["id"],
        images=tuple(row["images"]),
        messages=tuple(json.loads(row["messages"])),
        references=tuple(row["references"]),
        group=row["group"],
        split=row["split"],
        source=row["source"],
        metadata=json.loads(row["metadata"]),
        duplicates=row.get("duplicates") or "",
        key=row.get("key") or "",
    )
