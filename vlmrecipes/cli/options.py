"""Options that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
StoreUri = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URI",
        envvar="VLMRECIPES_STORE",
        help="Folder that holds data and runs, or s3://BUCKET/PREFIX for data; its runs lie in $VLMRECIPES_RUNS.",
    ),
]
Recipe = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipes/*.toml file.")]
Swap = Annotated[
    list[str] | None,
    typer.Option(
        "--data", metavar="ROLE=NAME@N", help="Use another snapshot: train=receipts@3, eval=…; or NAME@N alone."
    ),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: --set train.steps=30")
]
Trust = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Allow code from the model's repository, if the recipe asks for it too."),
]
Code = Annotated[
    bool, typer.Option("--allow-code", help="Allow rewards that are Python functions, if the recipe names some.")
]
Events = Annotated[
    Path | None,
    typer.Option(
        "--openlineage",
        metavar="FILE",
        envvar="VLMRECIPES_OPENLINEAGE",
        help="Append OpenLineage events of the run to this file, one a line.",
    ),
]
STORE = ".vlmrecipes"
