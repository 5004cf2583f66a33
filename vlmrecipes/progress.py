"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LINE_SECONDS = 5.0
BAR_SECONDS = 0.1


class Advance(Protocol):
    """Called with the number of items done since the last call, and a short note to show."""

    def __call__(self, count: int = 1, note: str = "") -> None:
        """Move on by `count`."""


@contextmanager
def track(label: str, total: int | None) -> Iterator[Advance]:
    """Yield a function that moves the progress of `label` towards `total` items on."""
    if sys.stderr.isatty():
        with _bar(label, total) as advance:
            yield advance
    else:
        with _lines(label, total) as advance:
            yield advance


def say(text: str) -> None:
    """Print one line on standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the one place that writes progress


@contextmanager
def _bar(label: str, total: int | None) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total, note="")
        waiting, last, latest = 0, time.monotonic(), ""

        def advance(count: int = 1, note: str = "") -> None:
            nonlocal waiting, last, latest
            waiting, latest = waiting + count, note or latest
            if time.monotonic() - last >= BAR_SECONDS:
                progress.update(task, advance=waiting, note=latest)
                waiting, last = 0, time.monotonic()

        yield advance
        progress.update(task, advance=waiting, note=latest)


@contextmanager
def _lines(label: str, total: int | None) -> Iterator[Advance]:
    done, last, latest = 0, time.monotonic(), ""
    of = "" if total is None else f"/{total}"

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal done, last, latest
        done, latest = done + count, note or latest
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            say(f"{label}: {done}{of} {latest}".rstrip())

    say(f"{label}: 0{of}")
    yield advance
    say(f"{label}: {done}{of} {latest}".rstrip())
