"""`runs`, `report`: the verbs about what was run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmrecipes.cli.options import STORE, Json, StoreUri
from vlmrecipes.cli.output import outcome

runs = typer.Typer(help="Look at what was run.", no_args_is_help=True)


@runs.command("list")
def list_all(store: StoreUri = STORE, as_json: Json = False) -> None:
    """List the runs of the store, newest first."""
    from vlmrecipes.cli.showing import runs_lines
    from vlmrecipes.records import ledger

    with outcome(as_json=as_json) as done:
        found = ledger.runs(ledger.home(store))
        done({"runs": found}, runs_lines(found))


@runs.command()
def show(
    name: Annotated[str, typer.Argument(metavar="RUN", help="An id, its beginning, or `latest`.")],
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Show a run's record."""
    from vlmrecipes.cli.showing import record_lines
    from vlmrecipes.records import ledger, record

    with outcome(as_json=as_json) as done:
        found = record.read(ledger.find(ledger.home(store), name))
        done(found, record_lines(found))


def report(
    names: Annotated[list[str] | None, typer.Argument(metavar="RUN…", help="Run ids, or `latest`.")] = None,
    last: Annotated[int, typer.Option(min=0, help="The newest so many runs, oldest first.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.html")] = Path("report.html"),
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page about one or several runs, and print their scores."""
    from vlmrecipes.cli.showing import report_lines
    from vlmrecipes.records.report import report as work

    with outcome(as_json=as_json) as done:
        view = work(names or (), output, store=store, last=last)
        done(view, report_lines(view))
