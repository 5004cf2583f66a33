"""The verb `score`: anyone's predictions, without a store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from vlmrecipes.cli.options import Json
from vlmrecipes.cli.output import interval, outcome, table


def score(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS.jsonl", help="One JSON object a line.")],
    metrics: Annotated[
        list[str], typer.Option("--metrics", metavar="NAME,…", help="Short names or specs: wer,cer,vqa/official@1")
    ],
    by: Annotated[list[str] | None, typer.Option("--by", metavar="COLUMN", help="Score the groups too.")] = None,
    cluster: Annotated[
        str, typer.Option("--cluster", metavar="COLUMN", help="Rows that share it are drawn together: the image.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
    resamples: Annotated[int, typer.Option(min=0, help="For the intervals; 0 for none.")] = 10_000,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.json", help="Write the JSON object there too.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a JSONL file of predictions: rows with `prediction` and `references` (a list) or `reference`."""
    from vlmrecipes.evaluate.answers_file import score_file

    with outcome(as_json=as_json) as done:
        names = [name.strip() for given in metrics for name in given.split(",") if name.strip()]
        found = score_file(predictions, names, by=_split(by), cluster=cluster, seed=seed, resamples=resamples)
        if output is not None:
            _write(output, found)
        done(found, score_lines(found["metrics"]))


def _split(given: list[str] | None) -> list[str]:
    return [name.strip() for each in given or () for name in each.split(",") if name.strip()]


def _write(path: Path, value: dict[str, Any]) -> None:
    from vlmrecipes.records import atomic

    atomic.write_asked(path, (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode())


def score_lines(metrics: dict[str, dict[str, Any]]) -> list[str]:
    """Return a table: a line a metric and group, and under it what the numbers rest on."""
    rows = [row for found in metrics.values() for row in _rows(found)]
    return table(["spec", "group", "value", "95 %", "n", "macro", "failed", "empty"], rows)


def _rows(found: dict[str, Any]) -> Iterator[list[Any]]:
    yield [found["signature"], "", *_estimate(found), found["macro"], found["failed"], found["empty"]]
    for column, groups in found["by"].items():
        for label, group in groups.items():
            yield ["", f"{column} {label}", *_estimate(group), "", "", ""]


def _estimate(found: dict[str, Any]) -> list[Any]:
    return [found["value"], interval(found) or None, found["n"]]
