"""`runs`, `report`: the verbs about what was run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmrecipes.cli.options import STORE, Json, StoreUri, Trust
from vlmrecipes.cli.output import outcome
from vlmrecipes.errors import InputError

Name = Annotated[str, typer.Argument(metavar="RUN", help="An id, its beginning, or `latest`.")]
runs = typer.Typer(help="Look at what was run.", no_args_is_help=True)


@runs.command("list")
def list_all(
    where: Annotated[
        str, typer.Option(metavar="SQL", help="A condition: \"recipe = 'x' and status = 'complete' and cer < 0.1\".")
    ] = "",
    metric: Annotated[str, typer.Option(metavar="NAME", help="Best first by this metric of the tuned model.")] = "",
    data: Annotated[str, typer.Option(metavar="NAME[@N]", help="Only runs that used this dataset or snapshot.")] = "",
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """List the runs of the store, newest first."""
    from vlmrecipes.cli.showing import runs_lines
    from vlmrecipes.records.frames import list_runs

    with outcome(as_json=as_json) as done:
        found = list_runs(store, where=where, metric=metric, data=data)
        done({"runs": found}, runs_lines(found))


@runs.command()
def show(
    name: Name,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Show a run's record, and what was exported since."""
    from vlmrecipes.cli.showing import record_lines
    from vlmrecipes.records import exports, ledger, record

    with outcome(as_json=as_json) as done:
        folder = ledger.find(ledger.home(store), name)
        found = record.read(folder) | {"exports": exports.listed(folder)}
        done(found, record_lines(found))


@runs.command()
def rescore(name: Name, store: StoreUri = STORE, as_json: Json = False) -> None:
    """Compute every score of a run again from its stored predictions; exit 1 when one differs in any bit."""
    from vlmrecipes.cli.verdicts import rescore_lines
    from vlmrecipes.records.rescore import rescore as work

    with outcome(as_json=as_json) as done:
        view = work(name, store=store)
        done(view, rescore_lines(view))
        if not view["equal"]:
            raise typer.Exit(1)


@runs.command()
def verify(
    name: Name,
    regenerate: Annotated[int, typer.Option(min=0, metavar="N", help="Also generate so many rows again.")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Another environment is a failure, too.")] = False,
    trust_remote_code: Trust = False,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Hold a run against its record: seal, inputs, environment, scores; exit 1 when a level fails."""
    from vlmrecipes.cli.verdicts import verify_lines
    from vlmrecipes.verification import verify_run

    with outcome(as_json=as_json) as done:
        view = verify_run(name, store=store, regenerate=regenerate, strict=strict, trust_remote_code=trust_remote_code)
        done(view, verify_lines(view))
        if not view["ok"]:
            raise typer.Exit(1)


@runs.command()
def prune(
    names: Annotated[list[str] | None, typer.Argument(metavar="[RUN…]", help="Runs to remove whole.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Remove failed and interrupted runs whole.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also a named run that was started on another host, and is dead there.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it only tell what would go.")] = False,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Remove what training left behind, and runs that are asked for; a complete run goes only when it is named."""
    from vlmrecipes.cli.verdicts import prune_lines
    from vlmrecipes.records.prune import prune_runs

    with outcome(as_json=as_json) as done:
        view = prune_runs(names or (), store=store, failed=failed, force=force, yes=yes)
        done(view, prune_lines(view))


@runs.command("lineage")
def run_lineage(name: Name, store: StoreUri = STORE, as_json: Json = False) -> None:
    """Show what a run was made from, and what was made from it."""
    from vlmrecipes.cli.tracing import lineage_lines
    from vlmrecipes.lineage.trace import lineage_of
    from vlmrecipes.records import ledger

    with outcome(as_json=as_json) as done:
        view = lineage_of(ledger.find(ledger.home(store), name).name, store=store)
        done(view, lineage_lines(view))


def lineage(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN|SNAPSHOT|SAMPLE|SHA256|EXPORT",
            help="Also RUN:SAMPLE, one prediction; the SHA-256 of an image or of a source file.",
        ),
    ] = "",
    source: Annotated[
        str, typer.Option(metavar="NAME", help="Tell what must be done again when this source, or file, is withdrawn.")
    ] = "",
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Show what something was made from and what it went into: from a number back to the files, and forward again."""
    from vlmrecipes.cli.tracing import lineage_lines, touched_lines
    from vlmrecipes.lineage.trace import lineage_of, touched_by

    with outcome(as_json=as_json) as done:
        if bool(name) == bool(source):
            raise InputError.one("give either something to trace or --source NAME")
        if source:
            view = touched_by(source, store=store)
            done(view, touched_lines(view))
        else:
            view = lineage_of(name, store=store)
            done(view, lineage_lines(view))


@runs.command()
def export(
    name: Name,
    to: Annotated[str, typer.Option("--to", metavar="mlflow|openlineage", help="Where the run is told.")],
    uri: Annotated[
        str, typer.Option(metavar="URI", help="MLflow's server or sqlite:///FILE; default: $MLFLOW_TRACKING_URI.")
    ] = "",
    experiment: Annotated[str, typer.Option(metavar="NAME", help="MLflow's experiment; default: the recipe.")] = "",
    weights: Annotated[bool, typer.Option("--weights", help="Send the tuned weights to MLflow, too.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where OpenLineage events go, one a line.")
    ] = None,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Hand a finished run to a tool that others use: an MLflow server, or OpenLineage events in a file."""
    from vlmrecipes.records.handover import hand_over

    with outcome(as_json=as_json) as done:
        view = hand_over(name, to, store=store, uri=uri, experiment=experiment, weights=weights, output=output)
        done(view, [f"{key}: {value}" for key, value in view.items()])


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


def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="RUN_A RUN_B [RUN…]", help="Runs; RUN:base for its untuned model.")
    ],
    metrics: Annotated[
        list[str] | None, typer.Option("--metrics", metavar="NAME", help="A metric; several times for several.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.html", help="Also write a page.")
    ] = None,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Compare runs sample by sample: difference, interval, p-value, what got better and worse; several as a leaderboard."""
    from vlmrecipes.cli.comparing import compare_lines
    from vlmrecipes.compare.work import compare_runs

    with outcome(as_json=as_json) as done:
        wanted = [name for one in metrics or () for name in one.split(",")]
        view = compare_runs(names, store=store, metrics=wanted, output=output)
        done(view, compare_lines(view))
