"""The scores of what a run generated, written into its predictions and its record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.data.sample import Sample
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.errors import InputError, Problem
from vlmrecipes.evaluate.metrics import Score
from vlmrecipes.evaluate.score import Answer, score
from vlmrecipes.plan import Plan, chosen
from vlmrecipes.records import predictions, record
from vlmrecipes.records.caveats import about_rewards, against_majority, majority, warnings
from vlmrecipes.records.fields import trained_fields
from vlmrecipes.records.predictions import MODELS

UNSAID: Mapping[str, Any] = {"text": "", "tokens": 0, "truncated": False}
"""A prediction of nothing."""

Evaluated = list[tuple[str, Sample]]
"""(snapshot, sample) pairs."""


def evaluated(plan: Plan, limit: int | None = None) -> Evaluated:
    """Return everything that is scored, in order; `limit` takes fewer samples of each snapshot, as the recipe's does."""
    limit = min((number for number in (limit, plan.recipe.eval.limit) if number), default=None)
    return [
        (name, sample)
        for name in plan.eval_names()
        for sample in chosen(open_snapshot(plan.store, name).samples("eval"), limit)
    ]


def score_problems(plan: Plan, file: str) -> list[Problem]:
    """Return what speaks against scoring these references, told before anything is trained."""
    answers = [answer(_row("tuned", name, sample, UNSAID)) for name, sample in evaluated(plan)]
    try:
        if answers:
            score(answers, plan.recipe.eval.metrics, by=plan.recipe.eval.by, resamples=1)
    except InputError as error:
        return [Problem(file, f"eval.{problem.key}".rstrip("."), problem.problem) for problem in error.problems]
    return []


def score_run(folder: Path, plan: Plan) -> None:
    """Score what the job left in `folder`; write predictions.parquet and the record's fields."""
    samples, names = evaluated(plan), plan.recipe.eval.metrics
    results: dict[str, Any] = {}
    generate: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for model in MODELS:
        if (stage := folder / f"{model}.json").exists():
            found = json.loads(stage.read_text("utf-8"))
            said = rows_of(model, samples, found["predictions"])
            results[model], scores = score(
                [answer(row) for row in said], names, by=plan.recipe.eval.by, seed=plan.recipe.train.seed
            )
            generate[model] = _probed(found["stats"], said, names)
            rows += [row | counts(scores, place) for place, row in enumerate(said)]
    predictions.write(folder / predictions.NAME, rows, names)
    found = warnings(plan, rows, results, generate)
    baselines = majority(plan, [answer(row) for row in rows if row["model"] == next(reversed(results))], results)
    fields: dict[str, Any] = {"metrics": results, "generate": generate}
    fields |= {"baselines": {"majority": baselines} if baselines else {}}
    fields |= {"warnings": [*found, *against_majority(baselines, results)]}
    if (stage := folder / "trained.json").exists():
        trained = json.loads(stage.read_text("utf-8"))
        fields["warnings"] += about_rewards(trained)
        fields |= trained_fields(trained, record.read(folder)["model"])
    record.update(folder, **fields)


def values(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float | None]:
    """Return the value of each metric over rows of predictions.parquet, without intervals."""
    summaries, _ = score([answer(row) for row in rows], names, resamples=1)
    return {name: summary["value"] for name, summary in summaries.items()}


def _probed(stats: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return what the job tells of generating, the rows it answered without pictures scored beside the same rows with them.

    `probes.blank` becomes `{rows, metrics, seen}`: each metric on blank pictures, and on the rows' own.
    """
    if "parts" in stats:
        return {"parts": [_probed(part, rows, names) for part in stats["parts"]]}
    probes = dict(stats["probes"])
    if blank := probes.get("blank"):
        said = {item["id"]: item for item in blank["predictions"]}
        seen = [row for row in rows if row["id"] in said and row["snapshot"] == stats["snapshot"]]
        unseen = [{**row, "prediction": said[row["id"]]["text"]} for row in seen]
        probes["blank"] = {"rows": len(seen), "metrics": values(unseen, names), "seen": values(seen, names)}
    return {**stats, "probes": probes}


def answer(row: Mapping[str, Any]) -> Answer:
    """Return a row of predictions.parquet as it is scored: clustered by group, grouped by source, snapshot and metadata."""
    metadata = {key: str(value) for key, value in json.loads(row["metadata"] or "{}").items()}
    return Answer(
        id=row["id"],
        prediction=row["prediction"],
        references=tuple(row["references"]),
        cluster=row["group"],
        labels={"source": row["source"], "snapshot": row.get("snapshot") or ""} | metadata,
    )


def rows_of(model: str, samples: Evaluated, said: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of predictions.parquet, without counts, of samples and what was said to them (`id, text, …`)."""
    by_id = {item["id"]: item for item in said}
    return [_row(model, name, sample, by_id[sample.id]) for name, sample in samples]


def _row(model: str, snapshot: str, sample: Sample, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of predictions.parquet without its counts."""
    content = sample.messages[-1]["content"]
    return {
        "model": model,
        "id": sample.id,
        "prediction": said["text"],
        "references": list(sample.references),
        "prompt": "\n".join(part["text"] for part in content if part["type"] == "text"),
        "images": list(sample.images),
        "group": sample.group,
        "split": sample.split,
        "source": sample.source,
        "snapshot": snapshot,
        "metadata": json.dumps(dict(sample.metadata), ensure_ascii=False),
        "tokens": said["tokens"],
        "truncated": said["truncated"],
        "error": said.get("error") or None,
    }


def counts(scores: Mapping[str, Sequence[Score]], place: int) -> dict[str, float]:
    """Return the columns that metrics, by the names in `scores`, add to the row at `place`."""
    columns: dict[str, float] = {}
    for name, found in scores.items():
        columns |= {f"{name}.numerator": found[place].numerator, f"{name}.denominator": found[place].denominator}
    return columns
