from __future__ import annotations

import json
import multiprocessing
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny import MemoryReader, lines, processor
from training import run

from vlmrecipes.evaluate.engines.hf import HfEngine
from vlmrecipes.evaluate.generate import generate
from vlmrecipes.records.scoring import rows_of, values
from vlmrecipes.train.watch import Best, Watch

pytestmark = pytest.mark.filterwarnings("ignore:.*is not writable.*:UserWarning")
PROBE = {2: 0.5, 4: 0.2, 6: 0.3}


def cer(model: Any) -> Any:
    """Really generate and score."""
    reader = MemoryReader()
    given = [("lines@1", sample) for sample in lines(reader, 3)]
    found = generate(HfEngine(model, processor(), 4), [sample for _, sample in given], reader, probe=False)
    return values(rows_of("tuned", given, [asdict(one) for one in found.predictions]), ["cer"])


@dataclass
class Told:
    """Really generates, then scores as if step 4 were the best; which step it is follows from those logged before."""

    folder: Path

    def __call__(self, model: Any) -> Any:
        cer(model)
        return {"cer": PROBE[2 + 2 * len(logged(self.folder))]}


def watch(folder: Path, select: str = "cer") -> Watch:
    return Watch(every=2, score=Told(folder), select=select)


def weights(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def logged(folder: Path) -> list[tuple[int, float]]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(entry["step"], entry["eval"]["cer"]) for entry in entries if "eval" in entry]


def test_scores_are_logged_and_change_nothing_of_the_training(tmp_path: Path) -> None:
    run(tmp_path / "plain")
    result = run(tmp_path / "watched", watch=Watch(every=4, score=cer))
    assert result.selected is None
    assert [step for step, _ in logged(tmp_path / "watched")] == [4, 6]
    assert all(value > 0 for _, value in logged(tmp_path / "watched"))
    assert weights(tmp_path / "watched") == weights(tmp_path / "plain")


def test_the_best_step_is_kept_also_when_it_was_killed_and_resumed(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", watch=watch(tmp_path / "whole"))
    assert whole.selected == {"step": 4, "metric": "cer", "value": 0.2}
    last = run(tmp_path / "last", watch=watch(tmp_path / "last", select=""))
    assert last.selected is None
    assert weights(tmp_path / "whole") != weights(tmp_path / "last")

    killed = tmp_path / "killed"
    options = {"reads": 1 + 2 * 5, "watch": watch(killed)}
    one = multiprocessing.get_context("spawn").Process(target=run, args=(killed,), kwargs=options)
    one.start()
    one.join(120)
    assert one.exitcode == -signal.SIGKILL
    seen = [step for step, _ in logged(killed)]
    assert seen[-1] == 4
    result = run(killed, resume=True, watch=watch(killed))
    assert result.selected == whole.selected
    assert logged(killed) == logged(tmp_path / "whole")
    assert weights(killed) == weights(tmp_path / "whole")


def test_higher_may_be_better_and_no_number_is_never_best(tmp_path: Path) -> None:
    best, high = Best(tmp_path / "best"), Watch(every=1, score=dict, select="vqa", better="higher")
    for step, value in enumerate([None, float("nan"), 0.2, 0.7, 0.7, 0.1]):
        best.offer(step, value, high, lambda folder: (folder / "w").write_text("x"))
    assert best.note() == {"step": 3, "metric": "vqa", "value": 0.7}


def test_tensorboard_is_told_every_step_once_also_when_killed_and_resumed(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = {"log_to": ("tensorboard",), "watch": Watch(every=3, score=Fixed())}
    one = multiprocessing.get_context("spawn").Process(
        target=run, args=(tmp_path,), kwargs={"reads": 2 * 5 + 1, **options}
    )
    one.start()
    one.join(120)
    assert one.exitcode == -signal.SIGKILL
    run(tmp_path, resume=True, **options)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    entries = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [(entry["step"], pytest.approx(entry["loss"])) for entry in entries if "loss" in entry]
    assert [(event.step, event.value) for event in board.Scalars("train/loss")] == losses
    assert [(event.step, event.value) for event in board.Scalars("eval/cer")] == [(3, 0.25), (6, 0.25)]
    assert "train/learning_rate" in board.Tags()["scalars"]


@dataclass
class Fixed:
    """Says the same score at every step."""

    def __call__(self, model: Any) -> Any:  # noqa: ARG002
        return {"cer": 0.25, "wer": None}
