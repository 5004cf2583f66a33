"""What verbs print, and the only place where errors become exit codes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from vlmrecipes.errors import InputError, StoreError, VlmRecipesError

INTERRUPTED = 130
DAMAGE = re.compile(r"LanceError\(|lance error:|/lance/rust/")
"""In what LanceDB and pylance say of a table that they cannot read."""


@contextmanager
def outcome(*, as_json: bool) -> Iterator[Callable[..., None]]:
    """Yield `done(value, lines)`, which prints the verb's JSON object or its lines; turn expected errors into exit codes.

    With `as_json`, standard output gets exactly one JSON object, also for an error: `{"error", "problems"}`.
    """

    def done(value: Any, lines: Iterable[str] = ()) -> None:
        if as_json:
            typer.echo(json.dumps(value, ensure_ascii=False, indent=2))
        else:
            for line in lines:
                typer.echo(line)

    try:
        yield done
    except VlmRecipesError as error:
        _fail(error, as_json=as_json)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(1) from None
    except (OSError, RuntimeError, ValueError) as error:
        if not DAMAGE.search(str(error)):
            raise
        _fail(
            StoreError(f"the store cannot be read; `snapshots verify` tells what is damaged: {error}"), as_json=as_json
        )


def _fail(error: VlmRecipesError, *, as_json: bool) -> None:
    typer.echo(str(error), err=True)
    if as_json:
        typer.echo(json.dumps({"error": str(error), "problems": problems_json(error)}, ensure_ascii=False, indent=2))
    raise typer.Exit(error.exit_code) from None


def problems_json(error: VlmRecipesError) -> list[dict[str, str]]:
    """Return the problems of an InputError as JSON objects; none for other errors."""
    problems = error.problems if isinstance(error, InputError) else []
    return [{"file": p.file, "key": p.key, "problem": p.problem} for p in problems]


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return aligned lines: text to the left, numbers to the right."""
    cells = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return ["  ".join(_aligned(text, width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def interval(found: Mapping[str, Any]) -> str:
    """Return the bounds of an estimate; empty where there is none, as for a single sample."""
    return "" if found["low"] is None else f"[{found['low']:.3f}, {found['high']:.3f}]"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _aligned(text: str, width: int) -> str:
    number = text.replace(".", "").replace(",", "").replace("-", "").isdigit()
    return text.rjust(width) if number else text.ljust(width)


def quoted(text: str, most: int) -> str:
    """Return text from data in quotes, on one line, with what a terminal would obey escaped, cut after `most` letters."""
    return repr(text if len(text) <= most else f"{text[:most]}…")
