"""`rerun`, `runs reproduce`, `run --grid` and `run --search`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vlmrecipes.cli.options import STORE, Code, Json, Settings, StoreUri, Trust
from vlmrecipes.cli.output import interval, outcome, table
from vlmrecipes.cli.runs import Name, runs

SHOWN = 8


def rerun(
    name: Name,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="[ROLE=]NAME@N|latest",
            help="Other data: latest, receipts@5, train=latest, eval=…; a role not named keeps the run's snapshot.",
        ),
    ] = None,
    settings: Settings = None,
    model: Annotated[
        str,
        typer.Option(metavar="RUN|ID", help="Of a run that only scored: score another run's model, or another model."),
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.html", help="Also write the comparison as a page.")
    ] = None,
    trust_remote_code: Trust = False,
    allow_code: Code = False,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Run a run's recipe again, on newer data or as it was, and tell what the data changed and what the model."""
    from vlmrecipes.again.rerun import rerun as work
    from vlmrecipes.cli.comparing import compare_lines
    from vlmrecipes.cli.showing import run_lines

    with outcome(as_json=as_json) as done:
        view = work(
            name,
            store=store,
            swaps=data or (),
            overrides=settings or (),
            model=model,
            trust_remote_code=trust_remote_code,
            allow_code=allow_code,
            output=output,
        )
        compared = compare_lines(view["comparison"]) if view["comparison"] else []
        done(view, [*run_lines(view), "", *compared])


def swept(done: Callable[..., None], recipe: Path, grid: Sequence[str], **given: Any) -> None:
    """Do `run --grid`; exit 1 when one of its runs fails."""
    from vlmrecipes.again.sweep import sweep as work

    _show_sweep(done, work(recipe, grid, **given))


def searched(done: Callable[..., None], recipe: Path, trials: int, ranges: Sequence[str], **given: Any) -> None:
    """Do `run --search`; exit 1 when one of its runs fails, or draws that cannot be planned."""
    from vlmrecipes.again.search import search as work

    _show_sweep(done, work(recipe, trials, ranges, **given))


def _show_sweep(done: Callable[..., None], view: Mapping[str, Any]) -> None:
    done(view, swept_lines(view))
    if view.get("refused") or any(run["status"] != "complete" for run in view["runs"]):
        raise typer.Exit(1)


def swept_lines(view: Mapping[str, Any]) -> list[str]:
    """Return the leaderboard by every metric, the runs that failed, and what to keep in mind."""
    settings = {run["run"]: " ".join(run["settings"]) for run in view["runs"]}
    lines: list[str] = []
    for metric, rows in view["leaderboard"].items():
        cells = [(row["rank"], settings[row["name"]], row["name"], row["value"], interval(row)) for row in rows]
        lines += [*table(("rank", "settings", "run", metric, "95 %"), cells), ""]
    failed = [run for run in view["runs"] if run["status"] != "complete"]
    lines += [f"{run['run']} {run['status']}: {' '.join(run['settings'])}: {run['error']}" for run in failed]
    lines += [f"refused: {' '.join(draw['settings'])}: {draw['error']}" for draw in view.get("refused", ())]
    lines += [f"note: {note}" for note in view["notes"]]
    best = view["best"]
    return [*lines, f"sweep {view['sweep']}" + (f", best: {best} ({settings[best]})" if best else "")]


@runs.command()
def reproduce(
    name: Name,
    trust_remote_code: Trust = False,
    allow_code: Code = False,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Do a run again from its record, and hold its scores against the recorded intervals; exit 1 when one is outside."""
    from vlmrecipes.again.reproduction import reproduce as work

    with outcome(as_json=as_json) as done:
        view = work(name, store=store, trust_remote_code=trust_remote_code, allow_code=allow_code)
        done(view, reproduced_lines(view))
        if not view["ok"]:
            raise typer.Exit(1)


def reproduced_lines(view: Mapping[str, Any]) -> list[str]:
    """Return the verdict, every metric against its recorded interval, and what was different."""
    return list(_reproduced(view))


def _reproduced(view: Mapping[str, Any]) -> Iterator[str]:
    verdict = "equal to the last bit" if view["equal"] else "within the intervals" if view["ok"] else "NOT REPRODUCED"
    yield f"{view['reproduction_of']} done again as {view['run']}: {verdict}"
    rows = [
        (model, name, told["recorded"], told["found"], interval(told), "ok" if told["within"] else "OUTSIDE")
        for model, by_name in view["metrics"].items()
        for name, told in by_name.items()
    ]
    yield from table(("model", "metric", "recorded", "now", "95 %", ""), rows)
    said = view["predictions"]
    yield f"{said['equal']} of {said['n']} predictions are the same letter by letter"
    changed = view["plan"]["differences"]
    yield f"plan: {'the same' if view['plan']['equal'] else 'another, by ' + ', '.join(changed)}"
    found = view["environment"]
    yield f"environment: {len(found)} differences" if found else "environment: the same"
    yield from (f"  {problem}" for problem in found[:SHOWN])
