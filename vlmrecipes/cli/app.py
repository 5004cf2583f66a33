"""The verbs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vlmrecipes.cli.again import rerun, searched, swept
from vlmrecipes.cli.exporting import export
from vlmrecipes.cli.options import STORE, Code, Events, Json, Recipe, Settings, StoreUri, Swap, Trust
from vlmrecipes.cli.output import outcome
from vlmrecipes.cli.runs import compare, lineage, report, runs
from vlmrecipes.cli.scoring import score
from vlmrecipes.cli.snapshots import snapshots
from vlmrecipes.errors import InputError

app = typer.Typer(
    name="vlmrecipes",
    help="Versioned image-text data, TOML recipes, and honest scores for tuning vision-language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(snapshots, name="snapshots")
app.add_typer(runs, name="runs")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to fill; made when absent.")] = Path(),
    from_images: Annotated[
        Path | None, typer.Option("--from-images", metavar="DIR2", help="Your images: a folder, or a file of rows.")
    ] = None,
    from_hub: Annotated[
        str,
        typer.Option(
            "--from-hub", metavar="ID", help="A set of the Hugging Face hub: owner/name or owner/name@revision."
        ),
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Say what a column is: --set 'answer={text}' --set part=test"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a small project that runs as it is: of drawn images, of your own, or of a hub set; columns are guessed."""
    from vlmrecipes.cli.showing import init_lines
    from vlmrecipes.scaffolding import scaffold

    with outcome(as_json=as_json) as done:
        view = scaffold(folder, from_images=from_images, from_hub=from_hub, overrides=settings or ())
        done(view, init_lines(view, folder))


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Declarations and recipes.")],
    as_json: Json = False,
) -> None:
    """Check declarations and recipes; every problem is told, with the way out."""
    from vlmrecipes.cli.checking import check_file

    with outcome(as_json=as_json) as done:
        problems = [problem for file in files for problem in check_file(file)]
        lines = [": ".join(part for part in problem.values() if part) for problem in problems]
        done({"problems": problems}, lines or [f"{len(files)} files, no problems"])
        if problems:
            raise typer.Exit(2)


@app.command()
def schema(
    kind: Annotated[str, typer.Argument(metavar="declaration|recipe")],
    as_json: Json = False,  # noqa: ARG001 - every verb takes it; a schema is JSON anyway
) -> None:
    """Print the JSON Schema of declarations or recipes, for editors."""
    from vlmrecipes.cli.checking import json_schema

    with outcome(as_json=True) as done:
        done(json_schema(kind))


@app.command()
def ingest(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET.toml", help="A declaration.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="What ${VLMRECIPES_DATA} in the declaration's paths stands for.")
    ] = None,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Bring a declared dataset into the store and freeze a snapshot, if anything changed."""
    from vlmrecipes.ingestion import ingest as work

    if root is not None:
        os.environ["VLMRECIPES_DATA"] = str(root.absolute())
    with outcome(as_json=as_json) as done:
        result = work(dataset, store=store, workers=workers)
        done(result, _ingest_lines(result))


def _ingest_lines(result: dict[str, Any]) -> list[str]:
    rows, splits = result["rows"], result["splits"]
    drops = ", ".join(f"{reason} {count}" for reason, count in result["drops"].items()) or "none"
    state = "unchanged" if result["unchanged"] else "frozen"
    leaks = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in result["leaks"].items() if count)
    return [
        f"{result['snapshot']} {state} in {result['seconds']:.1f} s  {result['fingerprint']}",
        f"  rows read {rows['read']} = samples {rows['samples']} + dropped {rows['dropped']} ({drops})",
        (
            f"  images {result['images']}, near another {result['duplicates']['near_images']}; train {splits['train']}, "
            f"eval {splits['eval']}, {result['brought_to_eval']} of them by the group of an image they share or are near"
        ),
        (
            f"  moved since the parent: {result['moves']['to_eval']} to eval, {result['moves']['to_train']} to train; "
            f"largest joined group {result['largest_group']} rows; contradictions {result['contradictions']['count']}"
        ),
        *([f"  warning: {_MANY}"] if result["brought_to_eval"] > MANY_BROUGHT * rows["samples"] else []),
        *([f"  warning: {leaks} stand on both sides; a plan on this snapshot refuses shared images"] if leaks else []),
    ]


MANY_BROUGHT = 0.1
_MANY = (
    "so many came to eval by look-alikes; where these are no copies, a smaller dedup.near (or none) keeps them apart"
)


@app.command()
def plan(
    recipe: Recipe,
    data: Swap = None,
    settings: Settings = None,
    trust_remote_code: Trust = False,
    allow_code: Code = False,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Resolve a recipe against its data, without a GPU: token lengths, steps, memory, and what would go wrong."""
    from vlmrecipes.cli.showing import plan_lines
    from vlmrecipes.run import planned

    with outcome(as_json=as_json) as done:
        allowed = {"trust_remote_code": trust_remote_code, "allow_code": allow_code}
        view = planned(recipe, store=store, swaps=data or (), overrides=settings or (), **allowed)
        done(view, plan_lines(view))
        if view["problems"]:
            raise typer.Exit(2)


@app.command()
def run(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE", help="A recipes/*.toml file; not with --resume.")
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=A,B…]", help="Settings of --grid or --search.", show_default=False),
    ] = None,
    data: Swap = None,
    settings: Settings = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=A,B", help="Run every combination: --grid lora.r=8,16 train.learning_rate=1e-4,2e-4"),
    ] = None,
    search: Annotated[
        int | None,
        typer.Option(metavar="N", help="Run N draws: --search 12 train.learning_rate=1e-5..1e-3 lora.r=8,16,32"),
    ] = None,
    resume: Annotated[
        str, typer.Option(metavar="RUN", help="Go on with an interrupted run; with --search, with that search.")
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="With --resume: the run was started on another host, and is dead there.")
    ] = False,
    trust_remote_code: Trust = False,
    allow_code: Code = False,
    openlineage: Events = None,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Run a recipe: score, tune, score again, record, report."""
    from vlmrecipes.cli.showing import run_lines
    from vlmrecipes.run import resume_run, run_recipe

    with outcome(as_json=as_json) as done:
        _check_words(recipe, more, grid, search, resume)
        _check_resumed(resume, searches=search is not None, given={"--data": data, "--set": settings, "--grid": grid})
        if force and (recipe or not resume):
            raise InputError.one("goes with --resume RUN only", key="--force")
        _events_to(openlineage)
        given: dict[str, Any] = {"store": store, "swaps": data or (), "overrides": settings or ()}
        given |= {"trust_remote_code": trust_remote_code, "allow_code": allow_code}
        if recipe and search is not None:
            searched(done, recipe, search, more or (), resume=resume, **given)
        elif recipe and grid:
            swept(done, recipe, [*grid, *(more or ())], **given)
        elif recipe:
            view = run_recipe(recipe, **given)
            done(view, run_lines(view))
        else:
            allowed = {"trust_remote_code": trust_remote_code, "allow_code": allow_code}
            view = resume_run(resume, store=store, force=force, **allowed)
            done(view, run_lines(view))


def _check_words(
    recipe: Path | None, more: list[str] | None, grid: list[str] | None, search: int | None, resume: str
) -> None:
    """Raise InputError for words of `run` that do not go together."""
    if search is not None and (grid or not recipe):
        raise InputError.one("--search takes a RECIPE, and settings after it instead of --grid")
    if search is None and bool(recipe) == bool(resume):
        raise InputError.one("give either a RECIPE or --resume RUN")
    if more and not grid and search is None:
        raise InputError.one(f"{more[0]}: one recipe at a time; settings are given by --set, --grid or --search")


def _check_resumed(resume: str, *, searches: bool, given: Mapping[str, list[str] | None]) -> None:
    """Raise InputError for what a resumed run cannot be told: it goes on as it was planned."""
    told = [name for name, words in given.items() if words] if resume and not searches else []
    if told:
        way = f"vlmrecipes rerun {resume} makes a new run with other settings"
        raise InputError.one(f"{', '.join(told)}: a resumed run goes on as it was planned; {way}", key="--resume")


@app.command()
def evaluate(
    recipe: Recipe,
    model: Annotated[
        str,
        typer.Option(
            metavar="ID|RUN|NAME", help="A model, a run whose model is scored (RUN:base: untuned), or a server's name."
        ),
    ] = "",
    engine: Annotated[
        str, typer.Option(help="What generates predictions: hf, unsloth, openai, tesseract; default: the recipe's.")
    ] = "",
    base_url: Annotated[
        str, typer.Option(metavar="URL", help="The server of --engine openai, as http://localhost:8000/v1.")
    ] = "",
    data: Swap = None,
    settings: Settings = None,
    trust_remote_code: Trust = False,
    openlineage: Events = None,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Score a model, or the result of a run, on a recipe's eval side."""
    from vlmrecipes.cli.showing import run_lines
    from vlmrecipes.run import evaluate_model

    with outcome(as_json=as_json) as done:
        _events_to(openlineage)
        view = evaluate_model(
            recipe,
            model,
            engine=engine,
            base_url=base_url,
            store=store,
            swaps=data or (),
            overrides=settings or (),
            trust_remote_code=trust_remote_code,
        )
        done(view, run_lines(view))


def _events_to(file: Path | None) -> None:
    if file is not None:
        os.environ["VLMRECIPES_OPENLINEAGE"] = str(file)


app.command()(compare)
app.command()(export)
app.command()(lineage)
app.command()(report)
app.command()(rerun)
app.command()(score)


@app.command()
def doctor(store: StoreUri = STORE, as_json: Json = False) -> None:
    """Look at this machine: packages, device, store, built-in model, fonts."""
    from vlmrecipes.cli.doctor import checks

    with outcome(as_json=as_json) as done:
        found = checks(store)
        marks = {"ok": "ok  ", "warning": "note", "error": "FAIL"}
        done({"checks": found}, [f"{marks[item['state']]}  {item['check']}: {item['detail']}" for item in found])
        if any(item["state"] == "error" for item in found):
            raise typer.Exit(1)
