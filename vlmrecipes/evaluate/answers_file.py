"""Anyone's predictions, one JSON object a line: `prediction` with `references` or `reference`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmrecipes.errors import InputError, Problem
from vlmrecipes.evaluate.score import Answer, score
from vlmrecipes.progress import track

LONGEST_LINE = 64 * 2**20
"""Bytes; a longer line is no prediction."""


@dataclass(frozen=True, slots=True)
class _Columns:
    by: Sequence[str]
    cluster: str


class _BadLineError(ValueError):
    """One line cannot be scored; `key` names the part."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key = key


def score_file(  # noqa: PLR0913 - as `score`, of a file
    path: Path,
    metrics: Sequence[str],
    *,
    by: Sequence[str] = (),
    cluster: str = "",
    seed: int = 0,
    resamples: int = 10_000,
) -> dict[str, Any]:
    """Return `{"file", "rows", "metrics"}`, the last as `score` has it, of a JSONL file of predictions.

    A row is an object: `prediction`, a text, or null where generating failed (scored worst and counted); `references`,
    texts of which the closest counts, or one `reference`. `id` names it in messages, else its line does. `by` names columns
    to group by; `cluster` the column whose equal values are resampled together (the image, the page), else each row
    stands for itself. Other columns are ignored.

    Raises InputError with all bad lines by number, or what `score` raises.
    """
    if not metrics:
        raise InputError.one("names no metric; give wer,cer or others", key="metrics")
    answers = read(path, by=by, cluster=cluster)
    try:
        with track("scoring", len(answers) * len(set(metrics))) as advance:
            summaries, _ = score(answers, metrics, by=by, seed=seed, resamples=resamples, on_progress=advance)
    except InputError as error:
        raise InputError([Problem(str(path), p.key, p.problem) for p in error.problems]) from None
    return {"file": str(path), "rows": len(answers), "metrics": summaries}


def read(path: Path, *, by: Sequence[str] = (), cluster: str = "") -> list[Answer]:
    """Return the rows of a JSONL file of predictions; blank lines are skipped. Raises InputError with all bad lines."""
    columns, answers, problems = _Columns(by, cluster), [], []
    for number, line in _lines(path):
        try:
            answers.append(_answer(_object(line), number, columns))
        except _BadLineError as error:
            where = f"line {number}" + (f": {error.key}" if error.key else "")
            problems.append(Problem(str(path), where, str(error)))
    if problems:
        raise InputError(problems)
    if not answers:
        raise InputError.one("has no rows; write one JSON object a line", file=str(path))
    return answers


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Return the numbered lines that are not blank."""
    try:
        with path.open("rb") as file, track(f"reading {path.name}", None) as advance:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                advance()
                if not line.isspace():
                    yield number, line
    except OSError as error:
        raise InputError.one(f"cannot be read: {error.strerror or error}", file=str(path)) from None


def _object(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        raise _BadLineError("", "is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise _BadLineError("", f"is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise _BadLineError("", 'is not a JSON object; write {"prediction": …, "references": […]}')
    return row


def _answer(row: dict[str, Any], number: int, columns: _Columns) -> Answer:
    if "prediction" not in row:
        raise _BadLineError("prediction", "is missing; null says that generating failed")
    prediction = row["prediction"]
    if prediction is not None and not isinstance(prediction, str):
        raise _BadLineError("prediction", f"is {_kind(prediction)}, give a text or null")
    labels = {column: _label(row, column) for column in columns.by if row.get(column) is not None}
    return Answer(
        id=_whole("id", str(row.get("id", f"line {number}"))),
        prediction=prediction,
        references=_references(row),
        cluster=_label(row, columns.cluster) if columns.cluster else str(number),
        labels=labels,
    )


def _references(row: dict[str, Any]) -> tuple[str, ...]:
    key = "references" if "references" in row else "reference"
    if "references" in row and "reference" in row:
        raise _BadLineError("reference", "stands beside `references`; give one of them")
    if key not in row:
        raise _BadLineError("references", "is missing; give a list of texts, or one text as `reference`")
    given = row[key] if key == "references" else [row[key]]
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise _BadLineError(key, f"is {_kind(row[key])}, give {'a list of texts' if key == 'references' else 'a text'}")
    if not given:
        raise _BadLineError(key, "is empty; give at least one text")
    return tuple(given)


def _label(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        raise _BadLineError(column, "is missing; rows are clustered by it")
    if isinstance(value, dict | list):
        raise _BadLineError(column, f"is {_kind(value)}, give a text, number or truth value")
    return _whole(column, value) if isinstance(value, str) else json.dumps(value)


def _whole(key: str, text: str) -> str:
    """Return a text that is printed later. Raises _BadLineError for one that cannot be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _BadLineError(key, "holds half of a surrogate pair: not Unicode text") from None
    return text


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list with other things than texts" if value else "an empty list"
    kinds = {dict: "an object", bool: "a truth value", int: "a number", float: "a number", str: "a text"}
    return kinds.get(type(value), "null")
