"""`snapshots`: the verbs about frozen versions of a dataset."""

from __future__ import annotations

from typing import Annotated

import typer

from vlmrecipes.cli.options import STORE, Json, StoreUri
from vlmrecipes.cli.output import outcome, table

snapshots = typer.Typer(help="Look at frozen versions of a dataset.", no_args_is_help=True)


@snapshots.command("list")
def list_all(store: StoreUri = STORE, as_json: Json = False) -> None:
    """List the snapshots of the store."""
    from vlmrecipes.data.snapshot import list_snapshots

    with outcome(as_json=as_json) as done:
        keys = ("snapshot", "fingerprint", "samples", "created")
        rows = [{key: manifest[key] for key in keys} for manifest in list_snapshots(store)]
        done({"snapshots": rows}, table(keys, [list(row.values()) for row in rows]) if rows else ["no snapshots yet"])


@snapshots.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME@N")], store: StoreUri = STORE, as_json: Json = False
) -> None:
    """Show a snapshot: counts, drops with reasons, a few samples."""
    from vlmrecipes.cli.showing import snapshot_lines, snapshot_view

    with outcome(as_json=as_json) as done:
        view = snapshot_view(store, name)
        done(view, snapshot_lines(view))
