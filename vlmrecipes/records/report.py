"""One or more runs as a single HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmrecipes.errors import InputError, StoreError
from vlmrecipes.page import charts, formats, html, pictures
from vlmrecipes.page.network import Network
from vlmrecipes.records import (
    atomic,
    examples,
    exports,
    gain,
    ledger,
    lineage,
    logged,
    predictions,
    record,
    stored,
    used,
    view,
)
from vlmrecipes.records.stored import Images

SMALL = (340, 200)
"""Width and height of a small curve, in the units of its view box."""
MOST_BYTES = 5_000_000
LEVELS = ((12, 480), (12, 320), (6, 240), (3, 160), (0, 0))
"""Examples of a kind and width of their pictures in pixels: the first that fits `MOST_BYTES` is taken."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What the files of a run hold."""

    record: dict[str, Any]
    series: dict[str, logged.Points]
    table: Any
    """The predictions, or None."""
    gains: list[gain.Gain]
    exports: list[dict[str, Any]]
    trouble: str
    """Why there are no predictions; empty when there are, or none are expected."""


@dataclass(frozen=True, slots=True)
class _Run:
    """A run as the template lays it out."""

    record: dict[str, Any]
    name: str
    anchor: str
    snapshot: str
    metrics: list[view.Metric]
    breakdowns: list[view.Breakdown]
    facts: list[view.Pair]
    settings: list[view.Table]
    data: list[used.Data]
    generation: list[view.Table]
    lineage: list[view.Table]
    network: Network | None
    steps: list[view.Pair]
    curves: list[tuple[str, charts.Curve]]
    gains: list[gain.Gain]
    verdicts: dict[str, str]
    groups: list[examples.Group]
    sorted_by: str
    trouble: str


def report(names: Sequence[str], output: Path, *, store: str, last: int = 0) -> dict[str, Any]:
    """Write one HTML page about the runs `names`, or the `last` ones, to `output`; returns its path and the runs' scores.

    Raises InputError for a run that is not there, and when none is named.
    """
    there = ledger.home(store)
    newest = [run["run"] for run in ledger.runs(there)[:last]]
    folders = [ledger.find(there, name) for name in (*names, *reversed(newest))]
    if not folders:
        raise InputError.one("no run to report on: name one, or say --last 1")
    try:
        write_report(folders, output, stored.images(store, folders))
    except OSError as error:
        raise InputError.one(f"cannot be written: {error.strerror}", file=str(output), key="--output") from None
    return {"path": str(output.absolute()), "runs": [ledger.outcome(folder) for folder in folders]}


def write_report(folders: Sequence[Path], target: Path, images: Images) -> None:
    """Write the report of the runs in `folders` to `target`, whole or not at all, under 5 MB.

    `images` returns the prepared bytes of the image keys it is given, without those it does not have.
    Raises InputError for no run or more runs than fit, StoreError when a record cannot be read.
    """
    if not folders:
        raise InputError.one("a report needs at least one run")
    loaded = [_load(folder) for folder in folders]
    for most, width in LEVELS:
        page = _page(loaded, images, most, width)
        if len(page) < MOST_BYTES:
            atomic.write_bytes(target, page)
            return
    raise InputError.one(f"a report of {len(folders)} runs is larger than {formats.size(MOST_BYTES)}: give fewer")


def _load(folder: Path) -> _Loaded:
    found = record.read(folder)
    table, trouble = None, ""
    if (path := folder / predictions.NAME).exists():
        try:
            table = predictions.read(path)
        except StoreError:
            trouble = f"{predictions.NAME} cannot be read."
    elif found.get("metrics"):
        trouble = f"{predictions.NAME} is missing."
    return _Loaded(found, logged.series(folder), table, _gains(table, found), exports.listed(folder), trouble)


def _gains(table: Any, found: Mapping[str, Any]) -> list[gain.Gain]:
    """Return what tuning changed by each metric whose counts are stored."""
    told = {metric.name: metric.better for metric in view.metrics(found)}
    names = [name for name in told if table is not None and f"{name}.numerator" in table.column_names]
    if not names:
        return []
    counts = [f"{name}.{part}" for name in names for part in ("numerator", "denominator")]
    rows = table.select(["id", "model", "group", "prediction", "references", *counts]).to_pylist()
    return [gain.told(name, paired) for name, paired in gain.gains(rows, {name: told[name] for name in names})]


def _curves(series: Mapping[str, logged.Points]) -> list[tuple[str, charts.Curve]]:
    """Return the loss as a large curve, what else was logged as small ones."""
    sizes = {"loss": (charts.WIDTH, charts.HEIGHT)}
    drawn = [(name, charts.curve(points, *sizes.get(name, SMALL))) for name, points in series.items()]
    return [(name, curve) for name, curve in drawn if curve]


def _page(loaded: Sequence[_Loaded], images: Images, most: int, width: int) -> bytes:
    runs = [_run(each, f"run-{number}", most) for number, each in enumerate(loaded, 1)]
    shown = [key for run in runs for group in run.groups for example in group.examples for key in example.images]
    thumbnails = pictures.thumbnails(shown, images(list(dict.fromkeys(shown))) if shown else {}, width)
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    return html.render(
        "vlmrecipes.records",
        "report.html.jinja",
        title=title,
        pictures=thumbnails,
        runs=runs,
        together=_together(loaded),
    )


def _together(loaded: Sequence[_Loaded]) -> list[tuple[str, charts.Spans]]:
    """Return one plot a metric of all runs' last models, where several were scored by it on the same samples."""
    found: dict[tuple[str, str], list[tuple[str, float, float, float]]] = {}
    for number, each in enumerate(loaded, 1):
        for name, told in (list((each.record.get("metrics") or {}).values()) or [{}])[-1].items():
            if told.get("value") is not None and told.get("low") is not None:
                spans = (f"run {number}", told["low"], told["value"], told["high"])
                found.setdefault((f"{name} ({told.get('spec')})", _scored_on(each.record)), []).append(spans)
    return [(f"{name} on {where}", charts.spans(rows)) for (name, where), rows in found.items() if len(rows) > 1]


def _scored_on(found: Mapping[str, Any]) -> str:
    """Return the eval samples of a run in words that are equal for equal samples."""
    parts = [part for part in found.get("data") or [] if part.get("role") == "eval"] or found.get("data") or []
    limit = ((found.get("recipe") or {}).get("resolved") or {}).get("eval", {}).get("limit")
    told = [f"{part.get('snapshot')} {str(part.get('fingerprint')).removeprefix('sha256:')[:8]}" for part in parts]
    return ", ".join(told) + (f", the first {limit}" if limit else "")


def _run(loaded: _Loaded, anchor: str, most: int) -> _Run:
    found = loaded.record
    by = view.primary(found)
    return _Run(
        record=found,
        name=_name(found),
        anchor=anchor,
        snapshot=ledger.snapshot(found) or "",
        metrics=view.metrics(found),
        breakdowns=view.breakdowns(found),
        facts=view.facts(found),
        settings=view.settings(found),
        data=used.data(found),
        generation=view.generation(found),
        lineage=[*lineage.exported(loaded.exports), *lineage.tables(found)],
        network=lineage.drawing(found, loaded.exports, anchor),
        steps=lineage.steps(found),
        curves=_curves(loaded.series),
        gains=loaded.gains,
        verdicts={each.name: each.verdict for each in loaded.gains},
        groups=_groups(loaded.table, by, most),
        sorted_by=by[0] if by else "",
        trouble=loaded.trouble,
    )


def _groups(table: Any, by: tuple[str, float] | None, most: int) -> list[examples.Group]:
    if table is None or by is None or not most or f"{by[0]}.numerator" not in table.column_names:
        return []
    return examples.groups(table, *by, most)


def _name(found: Mapping[str, Any]) -> str:
    recipe = found.get("recipe") or {}
    return f"{recipe.get('name') or found['run']} {recipe.get('version') or ''}".strip()
