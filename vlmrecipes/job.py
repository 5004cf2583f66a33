"""The part of a run that needs torch, in a process of its own: score the base model, train, score the result.

    python -m vlmrecipes.job RUN_FOLDER [STAGE]

Stages leave a file each (`base.json`, `trained.json`, `tuned.json`), written in one step; a stage whose file is there is
not done again, which is what `run --resume` stands on. The process ends when the one that started it does: it reads
standard input, and the end of that pipe is the sign.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.answering import Models
from vlmrecipes.data.snapshot import Snapshot, open_snapshot
from vlmrecipes.errors import RunError, VlmRecipesError
from vlmrecipes.evaluate.generate import generate
from vlmrecipes.evaluate.journal import Journal
from vlmrecipes.evaluate.metrics import resolve
from vlmrecipes.plan import Plan, chosen, fitting, read_plan, training_rows
from vlmrecipes.progress import track
from vlmrecipes.records import atomic, ledger
from vlmrecipes.records.scoring import evaluated, rows_of, values
from vlmrecipes.train import fleet
from vlmrecipes.train.backend import OWN_PROCESS, Backend, backend

if TYPE_CHECKING:
    from vlmrecipes.train.watch import Watch

FAILURE = "failure.txt"
LENGTHS = "lengths.npy"
"""Tokens of every training row, from the plan."""


def start(folder: Path) -> None:
    """Do what is left of the run in `folder`, in a process of its own. Raises RunError with what it said."""
    (folder / FAILURE).unlink(missing_ok=True)
    command = [sys.executable, "-m", "vlmrecipes.job", str(folder.absolute())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sys.stderr) as job:  # noqa: S603 - our own module
        code = job.wait()
    if code:
        failure = folder / FAILURE
        why = failure.read_text("utf-8") if failure.exists() else f"its process ended with code {code}"
        failure.unlink(missing_ok=True)
        raise RunError(f"run {folder.name} failed: {why}\ngo on with: vlmrecipes run --resume {folder.name}")


def main(folder: Path, only: str = "") -> int:
    """Do what is left of the run in `folder`, or of one stage. Returns the exit code; why it failed lies in `failure.txt`."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _Job(folder, only).work()
    except VlmRecipesError as error:
        _tell(folder, str(error))
        return 1
    except Exception as error:
        _tell(folder, f"{type(error).__name__}: {error}")
        raise
    return 0


def _tell(folder: Path, failure: str) -> None:
    """Say why it failed; of several processes, the first to fail knows."""
    if not (folder / FAILURE).exists():
        atomic.write_bytes(folder / FAILURE, failure.encode("utf-8", "replace"))


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


class _Job:
    """One run's stages, with the model and the snapshots they share."""

    def __init__(self, folder: Path, only: str) -> None:
        self.folder = folder
        self.only = only
        self.plan: Plan = read_plan(folder / "plan.json")
        self.recipe = self.plan.recipe
        self._snapshots: dict[str, Snapshot] = {}
        self._models = Models(self.plan, folder)

    def work(self) -> None:
        """Do the stages that have left no file."""
        if self.plan.trains:
            if self.recipe.eval.baseline:
                self._stage("base", self._predict)
            self._stage("trained", self._train)
            if not self.only:
                self._forget_training()
        self._stage("tuned", self._predict_tuned)

    def _stage(self, name: str, work: Any) -> None:
        path = self.folder / f"{name}.json"
        if path.exists() or self.only not in ("", name):
            return
        if name == "trained" and not self.only and self._trains_apart():
            self._apart(name)
        else:
            told = json.dumps(work(name), ensure_ascii=False).encode()
            if not fleet.first():
                return
            atomic.write_bytes(path, told)
        for journal in self.folder.glob(f"{name}-*.rows.jsonl"):
            journal.unlink()

    def _trains_apart(self) -> bool:
        return self.recipe.train.backend in OWN_PROCESS or self.recipe.train.devices > 1

    def _apart(self, name: str) -> None:
        """Do a stage in a process of its own, or in one for each device, which has the device to itself."""
        self._models.forget()
        command = [*fleet.command(self.recipe.train.devices), "vlmrecipes.job", str(self.folder), name]
        environment = fleet.environment(self.recipe.train.devices)
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as stage:  # noqa: S603 - our own module
            code = stage.wait()
        if code:
            told = self.folder / FAILURE
            raise RunError(told.read_text("utf-8") if told.exists() else f"its training process ended with code {code}")

    def _snapshot(self, name: str) -> Snapshot:
        if name not in self._snapshots:
            self._snapshots[name] = open_snapshot(self.plan.store, name)
        return self._snapshots[name]

    def _train(self, stage: str) -> dict[str, Any]:  # noqa: ARG002 - every stage is told its name
        import numpy as np

        trainer = backend(self.recipe.train.backend)
        model, processor = self._apart_model(trainer) if self.only else self._models.base()
        names = self.plan.train_names()
        rows = training_rows(self.recipe, [self._snapshot(part) for part in names])
        lengths = np.load(self.folder / LENGTHS)
        learned = fitting(self.recipe, lengths)
        about = {"dtype": str(model.dtype).removeprefix("torch."), "attention": attention_of(model)}
        result = trainer.train(
            model=model,
            processor=processor,
            rows=[rows[place] for place in learned],
            lengths=lengths[learned],
            readers=[self._snapshot(part).reader() for part in names],
            settings=self.recipe.train,
            lora=self.recipe.lora,
            grpo=self.recipe.grpo,
            steps=self.plan.steps,
            run=self.folder,
            resume=True,
            base=self.plan.model.id,
            watch=self._watch(processor),
        )
        self._models.forget()
        fleet.part()
        told = asdict(result) | about
        told["path"] = result.path.name
        told["parameters"] = {"total": told.pop("total"), "trainable": told.pop("trainable")}
        return told

    def _forget_training(self) -> None:
        """Delete what only going on with the training needs, once its result is written down."""
        for name in ("checkpoints", "best"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("rows.arrow", LENGTHS):
            (self.folder / name).unlink(missing_ok=True)

    def _watch(self, processor: Any) -> Watch | None:
        """Return what is scored while training: always the same samples."""
        from vlmrecipes.evaluate.engines.hf import HfEngine
        from vlmrecipes.train.watch import Watch

        settings = self.recipe.eval
        if settings.every is None:
            return None
        samples = evaluated(self.plan, settings.every_limit)

        def score(model: Any) -> dict[str, float | None]:
            engine = HfEngine(
                model, processor, self.plan.max_new_tokens, rows=settings.batch_size, tokens=settings.batch_tokens
            )
            said = []
            for part in self.plan.eval_names():
                some = [sample for name, sample in samples if name == part]
                found = generate(engine, some, self._snapshot(part).reader(), probe=False)
                said += [asdict(prediction) for prediction in found.predictions]
            return values(rows_of("tuned", samples, said), settings.metrics)

        better = resolve(settings.select).better if settings.select else "lower"
        return Watch(every=settings.every, score=score, select=settings.select, better=better)

    def _apart_model(self, trainer: Backend) -> tuple[Any, Any]:
        """Return the model as the backend loads it, and its processor, in a process that is the backend's own."""
        from vlmrecipes.models.load import load_processor

        trainer.begin(self.folder)
        model = trainer.load(self.plan.model, self.recipe)
        return model, load_processor(self.plan.model, trust_remote_code=self.recipe.model.trust_remote_code)

    def _predict(self, name: str) -> dict[str, Any]:
        return self._generated(name, None)

    def _predict_tuned(self, name: str) -> dict[str, Any]:
        return self._generated(name, Path(self.plan.tuned) if self.plan.tuned else ledger.weights(self.folder))

    def _generated(self, name: str, tuned: Path | None) -> dict[str, Any]:
        engine, cache = self._models.answers(tuned)
        made, stats = [], []
        for number, part in enumerate(self.plan.eval_names()):
            snapshot = self._snapshot(part)
            samples = chosen(snapshot.samples("eval"), self.recipe.eval.limit)
            with track(f"score {name} on {part}", len(samples)) as advance:
                found = generate(
                    engine,
                    samples,
                    snapshot.reader(),
                    journal=Journal(self.folder / f"{name}-{number}.rows.jsonl"),
                    cache=cache,
                    on_progress=advance,
                )
            made += [asdict(prediction) for prediction in found.predictions]
            stats.append(found.stats | {"max_new_tokens": self.plan.max_new_tokens, "snapshot": part})
        return {"predictions": made, "stats": stats[0] if len(stats) == 1 else {"parts": stats}}


def attention_of(model: Any) -> str:
    """Return the names of the attention implementations of the model's parts."""
    config = model.config
    parts = {
        name: getattr(getattr(config, name, None), "_attn_implementation", None)
        for name in ("vision_config", "text_config")
    }
    return ", ".join(f"{name.removesuffix('_config')} {value}" for name, value in parts.items() if value)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
