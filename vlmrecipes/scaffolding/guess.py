"""Which column is what, told by its values first and by its name second. Pure: rows in, choices out.

The names are those of widely used sets (DocVQA, TextVQA, VQAv2, COCO captions, ImageFolder, TRL's chats).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlmrecipes.data.sources.folder import SUFFIXES
from vlmrecipes.data.template import Template
from vlmrecipes.evaluate.answers import MIN_ANNOTATORS
from vlmrecipes.evaluate.text import is_unspaced

ANSWERS = (
    *("answer", "answers", "text", "transcription", "transcript", "ground_truth", "gt", "target", "output"),
    *("response", "solution", "latex", "formula", "caption", "captions", "description", "sentence", "sentences"),
    *("label", "labels", "class", "category", "parent"),
)
CAPTIONS = {"caption", "captions", "description", "sentence", "sentences"}
PROMPTS = ("question", "prompt", "query", "instruction", "input", "problem")
GROUPS = ("group", "page", "page_id", "document", "document_id", "doc_id", "book", "writer", "writer_id")
CROPS = ("bbox", "box", "polygon", "crop")
PLACES = {"path", "name", "stem", "file_name", "file_names"}
"""Columns that say where a row lies, and are no answer."""
MOST_CLASSES, LONGEST_CLASS = 40, 40
FEWEST_GROUPS = 5
MOST_METADATA, MOST_VALUES = 4, 12
BOX, POINT = 4, 2

Columns = Mapping[str, Sequence[Any]]
"""The values of each column that are there, of the rows that were looked at."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A key of a declaration's `[[source]]`, its value (a text, texts, or what a user gave), and why."""

    key: str
    value: Any
    why: str


def choices(columns: Columns, chosen: dict[str, Any]) -> list[Choice]:
    """Return what each column that a template can name is taken for; keys in `chosen` are settled already."""
    columns = {name: values for name, values in columns.items() if Template(_field(name)).fields == (name,)}
    kinds = {name: kind(values) for name, values in columns.items()}
    found: list[Choice] = []
    for guess in (_image, _chat, _crop, _prompt, _answer, _group, _split, _metadata):
        taken = {column for choice in found for column in _columns(choice.value)}
        free = {name: values for name, values in columns.items() if name not in taken}
        found += [
            one for one in guess(free, kinds, chosen | {one.key: one.value for one in found}) if one.key not in chosen
        ]
    return found


def exploded(columns: Columns) -> str:
    """Return the column to explode: lists of objects that have a text among their keys; empty when there is none."""
    for name, values in columns.items():
        if kind(values) == "objects" and set(ANSWERS) & {key for value in values for item in value for key in item}:
            return name
    return ""


def metrics(columns: Columns, source: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics that fit the answers."""
    answer, prompt = source.get("answer"), str(source.get("prompt", ""))
    names = [name for text in ([answer] if isinstance(answer, str) else answer or ()) for name in _columns(text)]
    values = [value for name in names for value in columns.get(name, ())]
    lists = [value for value in values if isinstance(value, list)]
    if lists and min(map(len, lists)) >= MIN_ANNOTATORS and prompt != PICTURE:
        return ("vqa",)
    if prompt == PICTURE:
        return ("rouge_l", "cider")
    if prompt == CLASS or (len(names) == 1 and is_class(values)):
        return ("exact",)
    if _columns(prompt) or lists or source.get("messages"):
        return ("anls", "exact")
    texts = [str(value) for value in values]
    return ("cer",) if 2 * sum(map(is_unspaced, texts)) > len(texts) else ("wer", "cer")


TEXT, PICTURE, CLASS = "Read the text.", "Describe the picture.", "What is it?"


def kind(values: Sequence[Any]) -> str:
    """Return what all `values` are: image, images, chat, objects, box, texts, text, number, other; empty for none."""
    kinds = {_kind(value) for value in values}
    return kinds.pop() if len(kinds) == 1 else ("other" if kinds else "")


def is_class(values: Sequence[Any]) -> bool:
    """Tell whether values are names of classes: short, few, and each there several times."""
    texts = [value for value in values if isinstance(value, str)]
    different = set(texts)
    return (
        len(texts) == len(values)
        and 2 <= len(different) <= min(MOST_CLASSES, len(texts) // 3)  # noqa: PLR2004 - two classes at least
        and max(map(len, different)) <= LONGEST_CLASS
    )


def _kind(value: Any) -> str:
    if (
        isinstance(value, bytes)
        or _is_path(value)
        or (isinstance(value, Mapping) and {"bytes", "path"} >= value.keys())
    ):
        return "image"
    if isinstance(value, list):
        return _kind_of_list(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return "other"
    return "text" if isinstance(value, str) else "number"


def _kind_of_list(value: list[Any]) -> str:
    if not value:
        return "other"
    inner = {_kind(item) for item in value}
    if inner == {"image"}:
        return "images"
    if inner == {"text"}:
        return "texts"
    if all(isinstance(item, Mapping) for item in value):
        return "chat" if all("role" in item and "content" in item for item in value) else "objects"
    if len(value) == BOX and inner == {"number"}:
        return "box"
    points = all(isinstance(item, list) and len(item) == POINT and kind(item) == "number" for item in value)
    return "box" if points else "other"


def _is_path(value: Any) -> bool:
    """Tell whether `value` is a path or URL of an image, or one as a data URI."""
    if not isinstance(value, str) or "\n" in value:
        return False
    plain = re.split(r"[?#]", value, maxsplit=1)[0] if "://" in value else value
    return value.startswith("data:image/") or plain.lower().endswith(tuple(SUFFIXES))


def _columns(value: Any) -> list[str]:
    texts = (value,) if isinstance(value, str) else value
    return [name for text in texts for name in Template(text).fields] if isinstance(texts, tuple) else []


def _named(free: Columns, names: Sequence[str], fits: Any) -> str:
    """Return the first of `names` that is a free column whose values fit, case aside; empty when there is none."""
    lower = {column.lower(): column for column in free}
    return next((lower[name] for name in names if name in lower and fits(lower[name])), "")


def _image(free: Columns, kinds: Mapping[str, str], _: Mapping[str, Any]) -> Iterator[Choice]:
    several = [name for name in free if kinds[name] == "images"]
    single = [name for name in free if kinds[name] == "image"]
    if "image" in single or "images" in several:
        name = "image" if "image" in single else "images"
        yield Choice("image", _field(name), "by name and values")
    elif "path" in single:
        yield Choice("image", _field("path"), "each image is a row")
    elif several:
        yield Choice("image", _field(several[0]), "lists of images")
    elif single:
        value = _field(single[0]) if len(single) == 1 else tuple(map(_field, single))
        yield Choice("image", value, "image files" if len(single) == 1 else "several columns of image files")


def _chat(free: Columns, kinds: Mapping[str, str], _: Mapping[str, Any]) -> Iterator[Choice]:
    found = next((name for name in free if kinds[name] == "chat"), "")
    if found:
        yield Choice("messages", found, "whole chats: role and content")


def _crop(free: Columns, kinds: Mapping[str, str], _: Mapping[str, Any]) -> Iterator[Choice]:
    if name := _named(free, CROPS, lambda column: kinds[column] == "box"):
        yield Choice("crop", _field(name), "a box or outline in pixels")


def _prompt(free: Columns, kinds: Mapping[str, str], chosen: Mapping[str, Any]) -> Iterator[Choice]:
    if "messages" in chosen:
        return
    if name := _named(free, PROMPTS, lambda column: kinds[column] == "text"):
        yield Choice("prompt", _field(name), "by name")


def _answer(free: Columns, kinds: Mapping[str, str], chosen: Mapping[str, Any]) -> Iterator[Choice]:
    if "messages" in chosen:
        return
    name = _columns(chosen.get("answer", ""))[:1] or [_answer_column(free, kinds)]
    if not name[0]:
        return
    yield Choice("answer", _field(name[0]), "by name" if name[0].lower() in ANSWERS else "the only column of texts")
    if "prompt" not in chosen:
        yield _plain_prompt(name[0], free.get(name[0], ()))


def _answer_column(free: Columns, kinds: Mapping[str, str]) -> str:
    def fits(column: str) -> bool:
        folders = column == "parent" and len(set(map(str, free[column]))) < 2  # noqa: PLR2004 - one folder is no class
        return kinds[column] in ("text", "texts", "number") and not folders

    left = [name for name in free if kinds[name] in ("text", "texts") and name not in {*PLACES, "parent"}]
    return _named(free, ANSWERS, fits) or (left[0] if len(left) == 1 else "")


def _plain_prompt(answer: str, values: Sequence[Any]) -> Choice:
    if answer.lower() in CAPTIONS:
        return Choice("prompt", PICTURE, f"{answer} sounds like captions; write what the model shall be asked")
    if is_class(values):
        return Choice("prompt", CLASS, f"{answer} has {len(set(values))} values; write what the model shall be asked")
    return Choice("prompt", TEXT, "no column of questions; write what the model shall be asked")


def _group(free: Columns, kinds: Mapping[str, str], _: Mapping[str, Any]) -> Iterator[Choice]:
    def fits(column: str) -> bool:
        different = len(set(map(str, free[column])))
        return kinds[column] in ("text", "number") and FEWEST_GROUPS <= different < len(free[column])

    if name := _named(free, GROUPS, fits):
        yield Choice("group", _field(name), "stays on one side of the split")


def _split(free: Columns, kinds: Mapping[str, str], _: Mapping[str, Any]) -> Iterator[Choice]:
    if name := _named(
        free, ("split",), lambda column: kinds[column] == "text" and set(free[column]) == {"train", "eval"}
    ):
        yield Choice("split", _field(name), "train and eval, as given")


def _metadata(free: Columns, kinds: Mapping[str, str], _: Mapping[str, Any]) -> Iterator[Choice]:
    found = [
        name
        for name, values in free.items()
        if kinds[name] == "text" and name not in PLACES and 1 < len(set(values)) <= MOST_VALUES < len(values)
    ]
    if found:
        yield Choice("metadata", tuple(found[:MOST_METADATA]), "few values; metrics can be broken down by them")


def _field(name: str) -> str:
    return "{" + name + "}"
