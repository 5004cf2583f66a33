"""A recipe with nothing left to decide, worked out against its data without a GPU; what would go wrong is told first."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.collector import paused
from vlmrecipes.data.place import absolute
from vlmrecipes.data.snapshot import Snapshot, open_snapshot
from vlmrecipes.errors import InputError, Problem
from vlmrecipes.fingerprint import fingerprint
from vlmrecipes.models import memory, tokens
from vlmrecipes.models.catalog import ModelRef, resolve
from vlmrecipes.models.turns import Row, mixture, rows_in, rows_of
from vlmrecipes.plan import checks
from vlmrecipes.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vlmrecipes.data.sample import Sample

VERSION = 1
PACKAGES = ("accelerate", "datasets", "peft", "torch", "transformers", "trl")
"""Packages whose versions decide what a run does."""
MARGIN, MOST_NEW = 1.25, 1024
"""Predictions may be so many times longer than the longest reference, and at most so many tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A snapshot in a role."""

    snapshot: str
    fingerprint: str
    samples: int
    """On the side that the role uses."""
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `run` will do."""

    recipe: Recipe
    store: str
    model: ModelRef
    train: tuple[Use, ...]
    eval: tuple[Use, ...]
    trains: bool
    """False: only `tuned`, or the model itself, is scored."""
    tuned: str
    """Folder of an adapter or of whole weights to score instead of training; empty for the model itself."""
    steps: int
    tokens: Mapping[str, int]
    """`p50`, `p95`, `max` tokens of a training row, `supervised_p50` of its answer; of eval rows when nothing is trained."""
    max_new_tokens: int
    memory_bytes: int
    """Estimate; see `models.memory`."""
    packages: Mapping[str, str]
    problems: tuple[Problem, ...] = ()
    overlong: int = 0
    """Training rows that are left out because they are longer than `model.max_length`."""
    rows: Sequence[Row] = field(default=(), compare=False)
    """The rows that are learned; made again from the snapshots where they are needed, not written."""
    lengths: NDArray[np.int32] | None = field(default=None, compare=False)
    """Tokens of every training row [N], left out or not; kept beside the plan, not in it."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the intent: recipe, data, model and package versions; not of paths, machines and loader processes."""
        uses = [[use.snapshot, use.fingerprint, use.weight] for use in (*self.train, *self.eval)]
        model = [self.model.files or self.model.id, self.model.revision]
        recipe = self.recipe.model_dump(mode="json", exclude={"train": {"workers"}, "model": {"id"}})
        intent = [
            recipe,
            uses,
            model,
            self.steps,
            self.max_new_tokens,
            dict(self.packages),
        ]
        return fingerprint(intent)

    def train_names(self) -> list[str]:
        """Return the exact snapshots that are learned."""
        return [use.snapshot for use in self.train]

    def eval_names(self) -> list[str]:
        """Return the exact snapshots that are scored."""
        return [use.snapshot for use in self.eval]

    def roles(self) -> list[tuple[str, str]]:
        """Return (role, snapshot) pairs."""
        return [("train", name) for name in self.train_names()] + [("eval", name) for name in self.eval_names()]

    def summary(self) -> dict[str, Any]:
        """Return the JSON object of `vlmrecipes plan`."""
        return {
            "plan": self.fingerprint.removeprefix("sha256:")[:12],
            "fingerprint": self.fingerprint,
            "snapshot": (self.train or self.eval)[0].snapshot if self.train or self.eval else None,
            "samples": sum(use.samples for use in self.train or self.eval),
            "steps": self.steps,
            "tokens": dict(self.tokens),
            "overlong": self.overlong,
            "memory_bytes": self.memory_bytes,
            "problems": [{"file": p.file, "key": p.key, "problem": p.problem} for p in self.problems],
        }

    def to_json(self) -> dict[str, Any]:
        """Return all of the plan that `read_plan` needs, as JSON."""
        return {
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "recipe": self.recipe.model_dump(mode="json"),
            "store": absolute(self.store),
            "model": _fields(self.model),
            "train": [_fields(use) for use in self.train],
            "eval": [_fields(use) for use in self.eval],
            "trains": self.trains,
            "tuned": self.tuned,
            "steps": self.steps,
            "tokens": dict(self.tokens),
            "max_new_tokens": self.max_new_tokens,
            "overlong": self.overlong,
            "memory_bytes": self.memory_bytes,
            "packages": dict(self.packages),
        }


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def read_plan(path: Path) -> Plan:
    """Return a plan that `to_json` wrote. Raises InputError when it cannot be read."""
    try:
        data = json.loads(path.read_text("utf-8"))
        known = {
            key: data[key] for key in ("store", "trains", "tuned", "steps", "tokens", "max_new_tokens", "overlong")
        }
        return Plan(
            recipe=Recipe.model_validate_json(json.dumps(data["recipe"])),
            model=ModelRef(**data["model"]),
            train=tuple(Use(**use) for use in data["train"]),
            eval=tuple(Use(**use) for use in data["eval"]),
            memory_bytes=data["memory_bytes"],
            packages=data["packages"],
            **known,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError.one(f"cannot be read as a plan: {error}", file=str(path)) from None


@paused()
def make_plan(  # noqa: PLR0913
    recipe: Recipe,
    *,
    store: str,
    file: str,
    snapshots: Mapping[str, str] | None = None,
    trains: bool = True,
    tuned: str = "",
) -> Plan:
    """Return the plan of `recipe`, read from `file`. `snapshots` replaces the recipe's by role (`train`, `eval`).

    What would fail later is in `problems`. Raises InputError, with all of it, when snapshots or the model are not there.
    """
    recipe = with_snapshots(recipe, snapshots or {})
    found, model = _find(recipe, store, file, trains=trains)
    processor = _processor(model, recipe, file)
    parts = [(found[part.snapshot], part.weight) for part in recipe.data.parts()] if trains else []
    evals = [found[name] for name in dict.fromkeys(recipe.data.eval_snapshots())]
    rows = training_rows(recipe, [snapshot for snapshot, _ in parts])
    scored = [(s, chosen(s.samples("eval"), recipe.eval.limit)) for s in evals]
    eval_rows = [row for _, samples in scored for sample in samples for row in list(rows_of(sample))[-1:]]
    sizes = _sizes(found)
    every = _answered(recipe, tokens.count(processor, rows, sizes)) if rows else None
    lengths = every or (tokens.count(processor, eval_rows, sizes) if eval_rows and not trains else None)
    if every:
        learned = fitting(recipe, every.total)
        rows = [rows[place] for place in learned]
        lengths = every[learned] if rows else None
    overlong = len(every.total) - len(rows) if every else 0
    return Plan(
        recipe=recipe,
        store=store,
        model=model,
        train=tuple(use_of(snapshot, len(snapshot.to_arrow("train")), weight) for snapshot, weight in parts),
        eval=tuple(use_of(snapshot, len(samples)) for snapshot, samples in scored),
        trains=trains,
        tuned=tuned,
        steps=_steps(recipe, len(rows)) if trains else 0,
        tokens=_spread(lengths),
        max_new_tokens=recipe.eval.max_new_tokens or _new_tokens(processor, scored),
        memory_bytes=(need := _memory(recipe, model, lengths, trains=trains)),
        packages={name: package_version(name) for name in PACKAGES},
        problems=tuple(
            Problem(file, key, text)
            for key, text in (
                *checks.settings(recipe),
                *(checks.training(recipe) if trains else ()),
                *(checks.family(recipe, memory.family(model, recipe.model)) if trains else ()),
                *checks.sides(rows, eval_rows, overlong, trains=trains),
                *checks.rows(recipe, rows or eval_rows, lengths, trains=trains),
                *(checks.groups(recipe, len(rows), processor.model_input_names) if trains else []),
                *checks.leaks([snapshot for snapshot, _ in parts], scored),
                *checks.too_large(need),
            )
        ),
        overlong=overlong,
        rows=rows,
        lengths=every.total if every else None,
    )


def with_snapshots(recipe: Recipe, swaps: Mapping[str, str]) -> Recipe:
    """Return the recipe with other snapshots, by role."""
    if not swaps:
        return recipe
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=dict(swaps))})


def _sizes(snapshots: Mapping[str, Snapshot]) -> dict[str, tuple[int, int]]:
    """Return (width, height) in pixels of all images of the snapshots, by key."""
    names = ("key", "width", "height")
    tables = (snapshot.pictures(None, names) for snapshot in {s.name: s for s in snapshots.values()}.values())
    rows = (row for table in tables for row in zip(*(table[name].to_pylist() for name in names), strict=True))
    return {key: (width, height) for key, width, height in rows}


def _find(recipe: Recipe, store: str, file: str, *, trains: bool) -> tuple[dict[str, Snapshot], ModelRef]:
    """Return the snapshots by the recipe's names for them, and the model. Raises InputError with all that are not there."""
    wanted = {part.snapshot: "data.train" for part in recipe.data.parts()} if trains else {}
    wanted |= {name: wanted.get(name, "data.eval") for name in recipe.data.eval_snapshots()}
    found, problems = snapshots_of(wanted, store, file)
    try:
        weights = recipe.model.init == "weights"
        model = resolve(recipe.model.id, recipe.model.revision, file=file, weights=weights)
    except InputError as error:
        raise InputError([*problems, *error.problems]) from None
    if problems:
        raise InputError(problems)
    return found, model


def snapshots_of(wanted: Mapping[str, str], store: str, file: str) -> tuple[dict[str, Snapshot], list[Problem]]:
    """Return the snapshots `wanted` (name → key of the recipe) by name, and a problem for each that is not there.

    Raises StoreError for one that an older version of this program made.
    """
    found: dict[str, Snapshot] = {}
    problems: list[Problem] = []
    for name, key in wanted.items():
        try:
            found[name] = open_snapshot(store, name)
        except InputError as error:
            problems += [Problem(file, key, problem.problem) for problem in error.problems]
    for snapshot in found.values():
        snapshot.need_today()
    return found, problems


def _processor(model: ModelRef, recipe: Recipe, file: str) -> Any:
    from vlmrecipes.models.load import load_processor

    try:
        processor = load_processor(model, trust_remote_code=recipe.model.trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError.one(
            f"{model.id}: its processor cannot be loaded: {reason}", file=file, key="model.id"
        ) from None
    if problem := _unfit(processor):
        raise InputError.one(f"{model.id} {problem}", file=file, key="model.id")
    return processor


def _unfit(processor: Any) -> str:
    """Return why rows of pictures and chats cannot be made with a processor; empty when they can."""
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        return (
            "reads no pictures: its processor has no image processor beside a tokenizer; name a vision-language model"
        )
    if not (processor.chat_template or processor.tokenizer.chat_template):
        return "has no chat template: name its instruction-tuned sibling, or add chat_template.jinja to a local copy"
    return ""


@paused()
def training_rows(recipe: Recipe, snapshots: Sequence[Snapshot]) -> list[Row]:
    """Return the rows of one epoch, in the order that `Plan.lengths` has; `snapshots` are those of `recipe.data.train`."""
    weights = [part.weight for part in recipe.data.parts()]
    parts = [
        (list(rows_in(snapshot.to_arrow("train"), place)), weight)
        for place, (snapshot, weight) in enumerate(zip(snapshots, weights, strict=False))
    ]
    return mixture(parts, recipe.train.seed)


def _answered(recipe: Recipe, lengths: tokens.Lengths) -> tokens.Lengths:
    """Return the lengths of rows as they are learned: with [grpo], the model's own longest answers stand for those given."""
    if recipe.grpo is None:
        return lengths
    longest = recipe.grpo.max_completion_length
    return tokens.Lengths(prompt=lengths.prompt, completion=lengths.completion * 0 + longest)


def fitting(recipe: Recipe, lengths: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the places of the rows that are learned: all, or those within `model.max_length` where longer ones are dropped."""
    import numpy as np

    most = recipe.model.max_length if recipe.model.overlong == "drop" else lengths.max(initial=0)
    return np.flatnonzero(lengths <= most)


def chosen(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """Return the first `limit` samples by id, all without a limit: a choice that row order and time do not change."""
    return sorted(samples, key=lambda sample: sample.id)[:limit]


def use_of(snapshot: Snapshot, samples: int, weight: float = 1.0) -> Use:
    """Return a snapshot in a role, with so many samples on the side that is used."""
    return Use(snapshot=snapshot.name, fingerprint=snapshot.fingerprint, samples=samples, weight=weight)


def _steps(recipe: Recipe, rows: int) -> int:
    train = recipe.train
    if train.steps is not None:
        return train.steps
    batches = math.ceil(rows / train.rows_a_step)
    if recipe.grpo:
        batches = rows // recipe.prompts_per_step * recipe.grpo.iterations
    return max(1, math.ceil(batches * (train.epochs or 0)))


def _spread(lengths: tokens.Lengths | None) -> dict[str, int]:
    import numpy as np

    if lengths is None:
        return {"p50": 0, "p95": 0, "max": 0, "supervised_p50": 0}
    total = lengths.total
    return {
        "p50": int(np.percentile(total, 50)),
        "p95": int(np.percentile(total, 95)),
        "max": int(total.max()),
        "supervised_p50": int(np.percentile(lengths.completion, 50)),
    }


def _new_tokens(processor: Any, scored: Sequence[tuple[Snapshot, Sequence[Sample]]]) -> int:
    texts = [text for _, samples in scored for sample in samples for text in sample.references]
    longest = int(tokens.text_lengths(processor, texts).max()) if texts else 1
    return min(MOST_NEW, math.ceil(longest * MARGIN) + 8)


def _memory(recipe: Recipe, model: ModelRef, lengths: tokens.Lengths | None, *, trains: bool) -> int:
    longest = int(lengths.total.max()) if lengths else 0
    return memory.estimate(model, recipe.model, recipe.lora, recipe.train if trains else None, longest)
