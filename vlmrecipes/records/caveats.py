"""What would mislead a reader of a run's scores, told in its record as `warnings: [{code, message, …}]`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmrecipes.data.lookalikes import Picture, near_to, perhaps_near, pictures_of
from vlmrecipes.data.sample import answer_of
from vlmrecipes.data.snapshot import Snapshot, open_snapshot
from vlmrecipes.errors import VlmRecipesError
from vlmrecipes.evaluate.metrics import resolve
from vlmrecipes.evaluate.paired import too_few
from vlmrecipes.evaluate.score import Answer, score
from vlmrecipes.evaluate.text import ws
from vlmrecipes.page import formats
from vlmrecipes.plan import Plan, read_plan
from vlmrecipes.records.gain import gains

NEAR = 4
"""Bits in which the 64-bit perceptual hashes of near images differ at most, as in a declaration's `dedup.near`."""
SHARE = 0.05
"""A larger share of truncated or empty answers is told."""
BLIND = 0.9
"""A model that reaches this share of its score on blank pictures does not need them."""
SHOWN = 3

Row = Mapping[str, Any]
Results = Mapping[str, Mapping[str, Mapping[str, Any]]]
Warnings = Iterator[dict[str, Any]]


def warnings(plan: Plan, rows: Sequence[Row], results: Results, generate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what speaks against taking the scores at their word; each has a `code`, a `message` and its numbers.

    `rows` are those of predictions.parquet with their counts, `results` and `generate` the record's `metrics` and `generate`.
    """
    trained, gone = _learned(plan)
    scored = [open_snapshot(plan.store, name) for name in plan.eval_names()]
    return [
        *_not_compared(gone),
        *_near_overlap(trained, scored, rows),
        *image_policy(trained, scored),
        *_empty_references(rows),
        *_answers(rows),
        *_gain(rows, results),
        *_blind(results, generate),
        *_adapter(generate),
    ]


def about_rewards(train: Mapping[str, Any]) -> Warnings:
    """Yield what speaks against a training by rewards; `train` is what the job tells of it."""
    if not (found := train.get("rewards")):
        return
    curve, collapse = found.get("curve") or {}, train.get("collapse")
    for term in found["terms"]:
        spread = curve.get(f"{term['name']}/std") or []
        if spread and not any(spread):
            value = curve[f"{term['name']}/mean"][-1]
            message = f"the reward {term['name']} was {value:.3f} for every answer: it taught nothing"
            yield {"code": "constant-reward", "message": message, "reward": term["name"], "value": value}
    if collapse and collapse["rose"]:
        yield {"code": "stopped-early", **{key: collapse[key] for key in ("message", "since", "reward")}}


def _learned(plan: Plan) -> tuple[list[Snapshot], list[str]]:
    """Return the snapshots that the model learned, in this run or in the one that is scored, and the names of absent ones."""
    tuning = Path(plan.tuned).parent / "plan.json" if plan.tuned else None
    names = plan.train_names() or (read_plan(tuning).train_names() if tuning and tuning.exists() else [])
    found, gone = [], []
    for name in names:
        try:
            found.append(open_snapshot(plan.store, name))
        except VlmRecipesError:
            gone.append(name)
    return found, gone


def _not_compared(gone: Sequence[str]) -> Warnings:
    if gone:
        names = ", ".join(gone)
        message = f"the model learned {names}, which the store does not have: it may have seen these samples"
        yield {"code": "training-data-gone", "message": message, "snapshots": list(gone)}


def majority(plan: Plan, answers: Sequence[Answer], results: Results) -> dict[str, Any]:
    """Return `{answer, share, metrics}` of always giving the most frequent training answer; empty where that is no rival.

    It is one for metrics of right and wrong answers (VQA accuracy, exact match, …), not for error rates of read text.
    """
    names = [name for name in next(iter(results.values()), {}) if resolve(name).better == "higher"]
    if not names or not answers:
        return {}
    sides = [snapshot.side("train", ("references",)) for snapshot in _learned(plan)[0]]
    told = [ws(answer_of(each)) for side in sides for each in side["references"].to_pylist()]
    if not told:
        return {}
    answer, count = min(Counter(told).items(), key=lambda item: (-item[1], item[0]))
    same = [
        Answer(id=one.id, prediction=answer, references=one.references, cluster=one.cluster, labels={})
        for one in answers
    ]
    found, _ = score(same, names, resamples=1)
    return {
        "answer": answer,
        "share": count / len(told),
        "metrics": {name: summary["value"] for name, summary in found.items()},
    }


def against_majority(found: Mapping[str, Any], results: Results) -> Warnings:
    """Yield a warning for each metric whose interval reaches down to what the most frequent answer scores."""
    last = list(results.values())[-1] if results else {}
    for name, value in (found.get("metrics") or {}).items():
        low = last[name]["low"]
        if value is not None and low is not None and low <= value:
            message = (
                f"always answering {found['answer']!r} scores {name} {value:.3f}: the model's {last[name]['value']:.3f} "
                "is not clearly more"
            )
            yield {"code": "majority-answer", "message": message, "metric": name, "majority": value}


def _near_overlap(trained: Sequence[Snapshot], scored: Sequence[Snapshot], rows: Sequence[Row]) -> Warnings:
    """Compare perceptual hashes; pixels that are the same on both sides are refused by the plan."""
    seen = _pictures(scored, {key for row in rows for key in row["images"]})
    learned = (perhaps_near(snapshot.pictures("train", Picture._fields), seen, NEAR) for snapshot in trained)
    if near := near_to(seen, [one for images in learned for one in pictures_of(images)], NEAR):
        samples = sorted({row["id"] for row in rows if not near.isdisjoint(row["images"])})
        message = (
            f"{len(samples)} scored samples have pictures that look like training pictures (near by perceptual hash; "
            f"samples {', '.join(samples[:SHOWN])}): their scores may be remembered, not read"
        )
        yield {"code": "near-overlap", "message": message, "samples": len(samples), "images": len(near)}


def _pictures(snapshots: Sequence[Snapshot], keys: set[str]) -> list[Picture]:
    """Return the pictures of `keys` with their hashes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(keys, pa.string())
    tables = (snapshot.columns("images", Picture._fields) for snapshot in snapshots)
    found = [one for images in tables for one in pictures_of(images.filter(pc.is_in(images["key"], value_set=wanted)))]
    return list({one.key: one for one in found}.values())


def image_policy(trained: Sequence[Snapshot], scored: Sequence[Snapshot]) -> Warnings:
    """Yield a warning for each pair of snapshots whose pictures were prepared differently."""
    for one in scored:
        for other in trained:
            mine, theirs = (snapshot.manifest["declaration"]["prepare"] for snapshot in (one, other))
            keys = [key for key in sorted(mine.keys() | theirs.keys()) if mine.get(key) != theirs.get(key)]
            if keys:
                told = ", ".join(f"{key} {theirs.get(key)} and {mine.get(key)}" for key in keys)
                message = (
                    f"pictures of {other.name} (learned) and {one.name} (scored) were prepared differently: {told}"
                )
                yield {"code": "image-policy", "message": message, "keys": keys}


def _empty_references(rows: Sequence[Row]) -> Warnings:
    empty = sorted({row["id"] for row in rows if not any(ws(text) for text in row["references"])})
    if empty:
        message = f"{len(empty)} scored samples have only empty references (samples {', '.join(empty[:SHOWN])})"
        yield {"code": "empty-references", "message": message, "samples": len(empty)}


def _answers(rows: Sequence[Row]) -> Warnings:
    """Tell of answers that failed, stopped at the token limit, or are empty where something was to be said."""
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        failed = sum(row["prediction"] is None for row in own)
        cut = sum(bool(row["truncated"]) for row in own)
        empty = sum(row["prediction"] is not None and not ws(row["prediction"]) for row in own)
        if failed:
            message = f"{model}: {failed} of {len(own)} answers failed and count as wrong"
            yield {"code": "failed-answers", "message": message, "model": model, "share": failed / len(own)}
        for code, count, what in (
            ("truncated-answers", cut, "stopped at the token limit"),
            ("empty-answers", empty, "are empty"),
        ):
            if count > SHARE * len(own):
                message = f"{model}: {count} of {len(own)} answers {what}"
                yield {"code": code, "message": message, "model": model, "share": count / len(own)}


def _gain(rows: Sequence[Row], results: Results) -> Warnings:
    """Test the tuned model against the base model on the same samples."""
    better = {name: resolve(name).better for name in results.get("tuned") or ()}
    for name, found in gains(rows, better):
        if found.difference is None or found.verdict == "better":
            continue
        numbers = {key: getattr(found, key) for key in ("difference", "low", "high", "p", "clusters")}
        changed = f"{name} changed by {formats.change(found.difference, found.low, found.high)}"
        changed += "" if found.p is None else f", p {formats.p_value(found.p)}"
        code, why = "base-better", "the untuned model is better"
        if found.verdict == "unclear":
            code, why = "gain-unclear", too_few(found.clusters) or "these samples cannot tell whether tuning helped"
        yield {"code": code, "message": f"{changed}: {why}", "metric": name} | numbers


def _parts(generate: Mapping[str, Any], model: str) -> list[Mapping[str, Any]]:
    """Return what was told of generating for each snapshot that was scored."""
    told = generate.get(model) or {}
    return list(told.get("parts") or [told])


def _blind(results: Results, generate: Mapping[str, Any]) -> Warnings:
    """Compare the score on blank pictures, which the engine probed, with that of the same rows as they are."""
    for model in results:
        for probe in ((part.get("probes") or {}).get("blank") or {} for part in _parts(generate, model)):
            for name, blank in (probe.get("metrics") or {}).items():
                seen = (probe.get("seen") or {}).get(name)
                if blank is not None and seen is not None and _needs_no_picture(name, blank, seen):
                    message = f"{model}: {name} is {blank:.3f} on blank pictures and {seen:.3f} on the real ones: does it look?"
                    numbers = {"model": model, "metric": name, "blank": blank, "seen": seen}
                    yield {"code": "blind", "message": message} | numbers


def _adapter(generate: Mapping[str, Any]) -> Warnings:
    """Tell of an adapter's weights that the scored model did not take."""
    for model in generate:
        for part in _parts(generate, model):
            for kind, where in (("unused", "in its file fit nothing in the model"), ("absent", "are not in its file")):
                if names := (part.get("adapter_weights") or {}).get(kind):
                    message = (
                        f"{model}: the adapter was not applied as it was trained: {len(names)} of its weights {where} "
                        f"({', '.join(names[:SHOWN])})"
                    )
                    yield {"code": "adapter-not-applied", "message": message, "model": model, "weights": len(names)}


def _needs_no_picture(name: str, blank: float, seen: float) -> bool:
    return blank <= seen / BLIND if resolve(name).better == "lower" else blank >= seen * BLIND
