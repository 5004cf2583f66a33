"""A raw row read by its source's templates: what the sample will say, and which images it needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmrecipes.data.crop import Crop, read_crop
from vlmrecipes.data.download import Remote, fetch_all
from vlmrecipes.data.images import ImageError, bound
from vlmrecipes.data.sample import Drop, Reason, Split
from vlmrecipes.data.source_tables import Rows
from vlmrecipes.data.sources import Opened
from vlmrecipes.data.sources.row import RawRow, escaped
from vlmrecipes.data.template import AbsentColumnError, NoTextError, Template

ROLES = ("system", "user", "assistant")
Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A row on its way to be a sample."""

    source: str
    key: str
    images: tuple[Any, ...]
    """Image references as `data.images` reads them."""
    crop: Crop | None
    messages: tuple[Message, ...]
    """Up to and with the last user turn."""
    references: tuple[str, ...]
    group: str
    """Empty: by its images."""
    split: Split | None
    metadata: dict[str, Any]


class RowError(Exception):
    """A row that cannot become a sample."""

    def __init__(self, reason: Reason, message: str) -> None:
        """Keep the drop's reason and message."""
        super().__init__(reason, message)
        self.reason: Reason = reason
        self.message = message


def read_row(opened: Opened, row: RawRow) -> Candidate | Drop:
    """Return the row as a Candidate, or as a Drop that says why not."""
    key = escaped(row.key)
    try:
        if row.columns is None:
            raise RowError(row.reason, row.problem)
        if opened.spec.key:
            key = escaped(Template(opened.spec.key).fill(row.columns)) or key
        return _in_unicode(_candidate(opened.name, opened.spec, key, row.columns))
    except AbsentColumnError as error:
        drop = ("missing_column", f"no column {error.args[0]!r} in this row")
    except NoTextError as error:
        drop = ("bad_row", str(error))
    except (RowError, ImageError) as error:
        drop = (error.reason, error.message)
    return Drop(source=opened.name, key=key, reason=drop[0], message=escaped(drop[1]))  # type: ignore[arg-type]


def read_rows(opened: Opened, rows: Sequence[RawRow]) -> list[Candidate | Drop]:
    """Return each row as `read_row` does. Images that are URLs are fetched here, many at a time, and wait in the cache."""
    found = [read_row(opened, row) for row in rows]
    remotes = [image for item in found if isinstance(item, Candidate) for image in _remotes(item)]
    failed = fetch_all(remotes) if remotes else {}
    return [_unless_failed(item, failed) if isinstance(item, Candidate) else item for item in found]


def _remotes(candidate: Candidate) -> list[Remote]:
    return [image for image in candidate.images if isinstance(image, Remote)]


def _unless_failed(candidate: Candidate, failed: Mapping[Remote, ImageError]) -> Candidate | Drop:
    error = next((failed[remote] for remote in _remotes(candidate) if remote in failed), None)
    if error is None:
        return candidate
    return Drop(source=candidate.source, key=candidate.key, reason=error.reason, message=error.message)


def _candidate(source: str, spec: Rows, key: str, columns: Mapping[str, Any]) -> Candidate:
    images = _images(spec, columns)
    messages, references = _chat(spec, columns, len(images))
    return Candidate(
        source=source,
        key=key,
        images=images,
        crop=read_crop(Template(spec.crop).value(columns)) if spec.crop else None,
        messages=messages,
        references=references,
        group=Template(spec.group).fill(columns) if spec.group else "",
        split=_split(spec.split, columns),
        metadata={name: _scalar(columns.get(name)) for name in spec.metadata},
    )


def _in_unicode(candidate: Candidate) -> Candidate:
    """Return `candidate`. Raises RowError when a text in it is none that a table can hold."""
    held = (candidate.images, candidate.messages, candidate.references, candidate.group, candidate.metadata)
    if bad := _no_unicode(held):
        raise RowError("bad_row", f"{bad[:80]}: not Unicode text; a file of such a name needs another")
    return candidate


def _no_unicode(value: Any) -> str:
    """Return the first text inside `value` that is not Unicode; empty when all are."""
    if isinstance(value, str):
        return "" if escaped(value) == value else value
    items = value if isinstance(value, (list, tuple)) else value.values() if isinstance(value, Mapping) else ()
    return next(filter(None, map(_no_unicode, items)), "")


def _images(spec: Rows, columns: Mapping[str, Any]) -> tuple[Any, ...]:
    texts = (spec.image,) if isinstance(spec.image, str) else spec.image
    values = [Template(text).value(columns) for text in texts if text]
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    if any(value is None or value == "" for value in flat):
        raise RowError("missing_image", "the image column is empty")
    return tuple(bound(value, spec.allow_hosts) for value in flat)


def _chat(spec: Rows, columns: Mapping[str, Any], images: int) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    if spec.messages:
        return _from_messages(Template(spec.chat).value(columns), images)
    text = Template(spec.prompt).fill(columns)
    content = [{"type": "image"}] * images + [{"type": "text", "text": text}]
    return ({"role": "user", "content": content},), _references(spec.answer, columns)


def _references(answer: str | tuple[str, ...], columns: Mapping[str, Any]) -> tuple[str, ...]:
    texts = (answer,) if isinstance(answer, str) else answer
    references = tuple(reference for text in texts for reference in Template(text).texts(columns))
    if not any(text.strip() for text in references):
        raise RowError("no_answer", "the answer is empty")
    return references


def _from_messages(value: Any, images: int) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    if not isinstance(value, list) or not value:
        raise RowError("bad_messages", f"a list of messages is wanted, found {type(value).__name__}")
    turns = [_turn(message) for message in value]
    if turns[-1]["role"] != "assistant" or len(turns) == 1:
        raise RowError("no_answer", "the chat does not end with an answer of the assistant to somebody")
    answer = "".join(part["text"] for part in turns[-1]["content"] if part["type"] == "text")
    if not answer.strip():
        raise RowError("no_answer", "the last answer is empty")
    return tuple(_with_images(turns[:-1], images)), (answer,)


def _turn(message: Any) -> Message:
    if not isinstance(message, Mapping) or message.get("role") not in ROLES:
        raise RowError("bad_messages", f"each message needs a role of {', '.join(ROLES)}")
    content = message.get("content")
    if isinstance(content, str):
        return {"role": message["role"], "content": [{"type": "text", "text": content}]}
    if not isinstance(content, Sequence):
        raise RowError("bad_messages", "a message's content is a text or a list of parts")
    return {"role": message["role"], "content": [_part(part) for part in content]}


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, Mapping) and part.get("type") == "image":
        return {"type": "image"}
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    raise RowError("bad_messages", "a part is {type: image} or {type: text, text}")


def _with_images(turns: list[Message], images: int) -> list[Message]:
    """Return the turns with as many image parts as there are images; with none marked, they open the first user turn."""
    marked = sum(part["type"] == "image" for turn in turns for part in turn["content"])
    if marked == images:
        return turns
    if marked:
        raise RowError("bad_messages", f"{marked} image parts for {images} images")
    for turn in turns:
        if turn["role"] == "user":
            turn["content"][:0] = [{"type": "image"}] * images
            return turns
    raise RowError("bad_messages", "no user turn to show the images in")


def _split(text: str, columns: Mapping[str, Any]) -> Split | None:
    value = Template(text).fill(columns) if text else ""
    if value in ("train", "eval"):
        return value  # type: ignore[return-value]
    if value:
        raise RowError("bad_row", f"split must be train or eval, found {value[:40]!r}")
    return None


def _scalar(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
