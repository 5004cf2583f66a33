"""`run --search`: settings drawn one after another by what scored well so far, a record each, and one leaderboard.

The values come from the tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011) as Optuna has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmrecipes.again.grid import MOST
from vlmrecipes.again.plans import overridden
from vlmrecipes.again.ranges import Range, Space, assignments, ends, space
from vlmrecipes.again.trials import attempt, entries, plans, told
from vlmrecipes.errors import InputError, RunError
from vlmrecipes.evaluate.metrics import resolve
from vlmrecipes.extras import need
from vlmrecipes.plan import Plan
from vlmrecipes.progress import say
from vlmrecipes.recipe import Recipe
from vlmrecipes.records import ledger, process, record
from vlmrecipes.run import resume_run
from vlmrecipes.tables import parse


def search(  # noqa: PLR0913 - a recipe and what is tried
    file: Path,
    trials: int,
    ranges: Sequence[str],
    *,
    store: str,
    resume: str = "",
    swaps: Sequence[str] = (),
    overrides: Sequence[str] = (),
    trust_remote_code: bool = False,
    allow_code: bool = False,
) -> dict[str, Any]:
    """Run a recipe with `trials` draws from `ranges` (`train.learning_rate=1e-5..1e-3`, `lora.r=8,16`); return as `sweep`.

    What is sought is the best value of the recipe's first metric, of the tuned model on the eval side; the draws follow the
    recipe's `train.seed`. Both ends of every range, and every choice, are planned before the first is run. A draw whose run
    fails, or which cannot be planned together, counts as one and the others go on; the latter are listed in `refused`,
    `[{settings, error}]`. Settings that are drawn again are not run again.

    `resume` is the id of a search to go on with, to as many `trials` in all: what has a record is told to the sampler and not
    run again, an interrupted run is finished. The draws are those that it would have made uninterrupted.

    Raises InputError as `sweep`, and for a search to resume that began otherwise; MissingExtraError without optuna.
    """
    if not 1 <= trials <= MOST:
        raise InputError.one(f"{trials} trials; 1 to {MOST} are run", file="--search")
    found = space(ranges)
    optuna = need("optuna", "search settings (--search)")
    given: dict[str, Any] = {"store": store, "swaps": swaps, "overrides": overrides}
    given |= {"trust_remote_code": trust_remote_code, "allow_code": allow_code}
    mine = _Search(resume or record.new_run_id(), file, plans(file, ends(found), **given), given)
    study = _study(optuna, mine)
    if resume:
        _go_on(mine)
    say(f"search {mine.name}; after an interruption go on with --resume {mine.name}")
    for place in range(1, trials + 1):
        trial = study.ask(_distributions(optuna, found))
        settings = assignments(found, trial.params)
        say(f"search {mine.name}, {place} of {trials}: {' '.join(settings)}")
        value = mine.value(place, settings)
        study.tell(trial, value, state=optuna.trial.TrialState.FAIL if value is None else None)
    refused = [{"settings": list(settings), "error": why} for settings, why in mine.refused.items()]
    return told(mine.name, store) | {"refused": refused}


@dataclass(frozen=True, slots=True)
class _Search:
    """What is tried, and what cannot be."""

    name: str
    file: Path
    ends: Sequence[Plan]
    given: Mapping[str, Any]
    """What every plan is made with."""
    refused: dict[tuple[str, ...], str] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        return self.ends[0].recipe.eval.metrics[0]

    def records(self) -> list[dict[str, Any]]:
        return [found for _, found in entries(self.name, self.given["store"])]

    def value(self, place: int, settings: tuple[str, ...]) -> float | None:
        """Return the score of settings, run now if they have no record; nothing when they have failed or are refused."""
        for found in self.records():
            if found["sweep"]["place"] == place and found["sweep"]["settings"] != list(settings):
                raise _other(self.name, found)
        if settings not in self.refused and self._recorded(settings) is None:
            self._run(place, settings)
        run = self._recorded(settings) or {"status": "refused"}
        return run["metrics"]["tuned"][self.metric]["value"] if run["status"] == "complete" else None

    def _recorded(self, settings: tuple[str, ...]) -> dict[str, Any] | None:
        return next((found for found in self.records() if found["sweep"]["settings"] == list(settings)), None)

    def _run(self, place: int, settings: tuple[str, ...]) -> None:
        try:
            (plan,) = plans(self.file, [settings], **self.given)
        except InputError as error:
            say(str(error))
            self.refused[settings] = str(error)
        else:
            attempt(plan, self.file, self.name, place, settings)


def _study(optuna: Any, mine: _Search) -> Any:
    """Return an empty study. Raises InputError where settings change what is measured."""
    measured = {plan.recipe.eval.metrics[0] for plan in mine.ends}
    if len(measured) > 1:
        raise InputError.one(
            f"one metric is sought, and these settings change it: {', '.join(sorted(measured))}", file="--search"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = "minimize" if resolve(mine.metric).better == "lower" else "maximize"
    sampler = optuna.samplers.TPESampler(seed=mine.ends[0].recipe.train.seed)
    return optuna.create_study(direction=direction, sampler=sampler)


def _distributions(optuna: Any, found: Space) -> dict[str, Any]:
    return {key: _distribution(optuna.distributions, values) for key, values in found.items()}


def _distribution(kinds: Any, values: Range | Sequence[str]) -> Any:
    if not isinstance(values, Range):
        return kinds.CategoricalDistribution(values)
    if values.whole:
        return kinds.IntDistribution(int(values.low), int(values.high))
    return kinds.FloatDistribution(values.low, values.high, log=values.log)


def _go_on(mine: _Search) -> None:
    """Check that a search may be gone on with, and finish the runs in it that were interrupted."""
    records = mine.records()
    if not records:
        raise InputError.one(f"no search {mine.name!r} in the store", file="--resume")
    for found in records:
        if why := process.alive(found, ledger.home(mine.given["store"]) / found["run"]):
            raise InputError.one(f"run {found['run']} of it: {why}", file="--resume", key=mine.name)
        if not _same(mine, found):
            raise _other(mine.name, found)
    for found in records:
        if found["status"] == "interrupted":
            _finish(mine, found["run"])


def _same(mine: _Search, found: Mapping[str, Any]) -> bool:
    """Tell whether a record is of the recipe and the data that are searched now."""
    before = overridden(mine.ends[0].recipe, found["sweep"]["settings"], mine.file)
    used = [(part["role"], part["snapshot"]) for part in found["data"]]
    return before == parse(Recipe, found["recipe"]["resolved"], found["run"]) and used in [
        plan.roles() for plan in mine.ends
    ]


def _other(name: str, found: Mapping[str, Any]) -> InputError:
    tried = " ".join(found["sweep"]["settings"])
    problem = (
        f"run {found['run']} ({tried}) is not what this recipe, data, --set, ranges and seed draw: give the same again"
    )
    return InputError.one(problem, file="--resume", key=name)


def _finish(mine: _Search, run: str) -> None:
    try:
        resume_run(run, **{key: mine.given[key] for key in ("store", "trust_remote_code", "allow_code")})
    except (RunError, InputError) as error:
        # It was killed before its plan was written: a trial that failed.
        say(str(error))
