"""The ledger as tables: runs, their metrics, their data and their predictions, for polars and for SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.errors import InputError
from vlmrecipes.evaluate.metrics import resolve
from vlmrecipes.extras import need
from vlmrecipes.progress import say
from vlmrecipes.records import ledger as folders
from vlmrecipes.records import predictions

if TYPE_CHECKING:
    import polars as pl

Entry = tuple[Mapping[str, Any], Mapping[str, Any]]

_TEXTS = ("run", "status", "kind", "recipe", "recipe_version", "snapshot", "model", "sweep", "created", "error")
_METRIC_NUMBERS = ("value", "low", "high", "numerator", "denominator", "macro")


@dataclass(frozen=True, slots=True)
class Ledger:
    """What all runs of a store say, read from their folders when it was made."""

    runs: pl.DataFrame
    """One row a run, newest first: `run, status, kind, recipe, recipe_version, snapshot, model, sweep, created, error,
    seconds`, and for every metric its value as `cer`, before training as `base_cer`."""
    metrics: pl.DataFrame
    """One row a run, model and metric: `run, model, metric, spec, value, low, high, numerator, denominator, macro, n`."""
    data: pl.DataFrame
    """One row a run and snapshot: `run, role, snapshot, name, fingerprint, samples`."""
    predictions: pl.LazyFrame
    """The rows of all `predictions.parquet`, with `run`; nothing is read before it is asked for."""

    def sql(self, query: str) -> pl.DataFrame:
        """Return what a query over the tables `runs`, `metrics`, `data`, `predictions` gives. Raises InputError."""
        polars = need("polars", "ask the ledger")
        tables = {name: getattr(self, name) for name in ("runs", "metrics", "data", "predictions")}
        try:
            with polars.SQLContext(tables) as context:
                found: pl.DataFrame = context.execute(query, eager=True)
        except polars.exceptions.PolarsError as error:
            raise InputError.one(f"the query {query!r} cannot be answered: {error}") from None
        return found


def ledger(store: str) -> Ledger:
    """Return the runs of a store as tables. Raises MissingExtraError without polars."""
    home = folders.home(store)
    return _tables(home, folders.entries(home))


def _tables(home: Path, entries: Sequence[Entry]) -> Ledger:
    polars = need("polars", "give the ledger as tables")
    return Ledger(
        runs=_frame([_run(*entry) for entry in entries], _TEXTS, ("seconds",)),
        metrics=_frame(
            [row for entry in entries for row in _metrics(*entry)],
            ("run", "model", "metric", "spec"),
            _METRIC_NUMBERS,
            ("n",),
        ),
        data=_frame(
            [row for entry in entries for row in _data(*entry)],
            ("run", "role", "snapshot", "name", "fingerprint"),
            (),
            ("samples",),
        ),
        predictions=_predictions(polars, [home / str(line["run"]) for line, _ in entries]),
    )


def list_runs(store: str, *, where: str = "", metric: str = "", data: str = "") -> list[dict[str, Any]]:
    """Return the lines of `vlmrecipes runs list`, newest first, or best first by `metric`.

    `where` is an SQL condition over the columns of `Ledger.runs`, `data` a dataset or one snapshot of it (`receipts@3`).
    Raises InputError for a condition that cannot be read and for a metric that no run has.
    """
    home = folders.home(store)
    entries = folders.entries(home)
    lines = [line for line, record in entries if _uses(record, data)]
    if where:
        kept = set(_tables(home, entries).sql(f"SELECT run FROM runs WHERE {where}")["run"].to_list())  # noqa: S608 - it is the user's
        lines = [line for line in lines if line["run"] in kept]
    return _ranked(lines, metric) if metric else lines


def _uses(record: Mapping[str, Any], wanted: str) -> bool:
    names = [str(part["snapshot"]) for part in record.get("data") or ()]
    return not wanted or any(wanted in (name, name.partition("@")[0]) for name in names)


def _ranked(lines: Sequence[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    known = sorted({name for line in lines for name in _values(line)})
    if lines and metric not in known:
        raise InputError.one(f"no run has {metric!r}; there is: {', '.join(known) or 'none yet'}", key="--metric")
    sign = 1.0 if lines and resolve(metric).better == "lower" else -1.0
    values = {line["run"]: _values(line).get(metric) for line in lines}
    return sorted(lines, key=lambda line: (values[line["run"]] is None, sign * (values[line["run"]] or 0.0)))


def _values(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the tuned model, or of the only one."""
    found = line["metrics"] or {}
    return dict(found.get("tuned") or found.get("base") or {})


def _run(line: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    metrics = line["metrics"] or {}
    about = {key: (record.get(key) or {}).get("id") for key in ("model", "sweep")}
    about |= {"error": record.get("error") or line.get("why")}
    scores = {name: _number(value) for name, value in (metrics.get("tuned") or {}).items()}
    before = {f"base_{name}": _number(value) for name, value in (metrics.get("base") or {}).items()}
    return {name: line.get(name) for name in _TEXTS} | about | {"seconds": _number(line["seconds"])} | scores | before


def _metrics(line: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for model, by_name in (record.get("metrics") or {}).items():
        for name, told in by_name.items():
            numbers = {key: _number(told.get(key)) for key in _METRIC_NUMBERS}
            yield (
                {"run": line["run"], "model": model, "metric": name, "spec": told.get("spec")}
                | numbers
                | {"n": told.get("n")}
            )


def _data(line: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for part in record.get("data") or ():
        about = {key: part.get(key) for key in ("role", "snapshot", "fingerprint")}
        samples = (part.get("selection") or part).get("samples")
        yield {"run": line["run"], "name": str(part["snapshot"]).partition("@")[0], "samples": samples} | about


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _frame(
    rows: Sequence[Mapping[str, Any]], texts: Sequence[str], numbers: Sequence[str], counts: Sequence[str] = ()
) -> pl.DataFrame:
    """Return rows as a table; columns that are not named are numbers."""
    polars = need("polars", "give the ledger as tables")
    types = dict.fromkeys(texts, polars.String) | dict.fromkeys(numbers, polars.Float64)
    types |= dict.fromkeys(counts, polars.Int64)
    more = dict.fromkeys(name for row in rows for name in row if name not in types)
    frame: pl.DataFrame = polars.DataFrame(list(rows), schema=types | dict.fromkeys(more, polars.Float64), orient="row")
    return frame


def _predictions(polars: Any, runs: Sequence[Path]) -> pl.LazyFrame:
    scans = []
    for folder in runs:
        if (path := folder / predictions.NAME).is_file():
            try:
                scan = polars.scan_parquet(path)
                scan.collect_schema()
            except (polars.exceptions.PolarsError, OSError) as error:
                say(f"{path}: cannot be read: {error}")
                continue
            scans.append(scan.select(polars.lit(folder.name).alias("run"), polars.all()))
    if scans:
        found: pl.LazyFrame = polars.concat(scans, how="diagonal")
        return found
    empty: pl.LazyFrame = polars.LazyFrame(schema={"run": polars.String, "model": polars.String, "id": polars.String})
    return empty
