from __future__ import annotations

import json
import multiprocessing
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import MemoryReader, model, processor
from training import LORA, STEPS, rows, run

from vlmrecipes.errors import RunError
from vlmrecipes.recipe import Lora, Train
from vlmrecipes.train.checkpoints import newest
from vlmrecipes.train.collate import Collator
from vlmrecipes.train.rows import dataset
from vlmrecipes.train.sft import arguments, trainer_class

PROJECTOR = Lora(r=4, language=False, projector="full")


def weights(folder: Path) -> bytes:
    return next(folder.glob("*.safetensors")).read_bytes()


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training with adapters that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def test_leaves_an_adapter_and_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(tmp_path)
    assert (result.steps, result.samples_seen, result.path) == (STEPS, 22, tmp_path / "adapter")
    assert 0 < result.trainable < result.total
    assert (result.peak_memory_bytes is None) == (not torch.cuda.is_available())
    assert "model.visual.merger.mlp.*" in result.lora_modules
    entries = logged(tmp_path)
    assert [entry["step"] for entry in entries] == [*range(1, STEPS + 1)]
    assert set(entries[0]) == {"step", "epoch", "loss", "learning_rate", "grad_norm", "seconds"}
    assert (result.loss_first, result.loss_last) == (entries[0]["loss"], entries[-1]["loss"])
    adapter = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "builtin:reader"
    assert str(tmp_path) not in "".join(map(str, adapter.values()))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("lora", [LORA, PROJECTOR, None], ids=["lora", "projector", "full"])
def test_killed_and_resumed_ends_with_the_same_weights(tmp_path: Path, lora: Lora | None, whole: Path) -> None:
    one = multiprocessing.get_context("spawn").Process(
        target=run, args=(tmp_path,), kwargs={"lora": lora, "reads": 1 + 2 * 4}
    )
    one.start()
    one.join(120)
    assert one.exitcode == -signal.SIGKILL
    (tmp_path / "checkpoints" / ".writing" / "checkpoint-9").mkdir(parents=True)
    resumed = run(tmp_path, lora=lora, resume=True)
    assert resumed.samples_seen < 22
    if lora is not LORA:
        whole = tmp_path / "whole"
        run(whole, lora=lora)
    assert weights(resumed.path) == weights(whole / resumed.path.name)
    told = [{key: entry[key] for key in ("step", "epoch", "loss", "grad_norm")} for entry in logged(tmp_path)]
    assert told == [{key: entry[key] for key in told[0]} for entry in logged(whole)]


def test_resumed_when_all_steps_are_done(tmp_path: Path, whole: Path) -> None:
    run(tmp_path)
    (tmp_path / "adapter").rename(tmp_path / "lost")
    result = run(tmp_path, resume=True)
    assert (result.steps, result.samples_seen) == (STEPS, 0)
    assert weights(tmp_path / "adapter") == weights(whole / "adapter")


def test_loader_processes_change_nothing(tmp_path: Path, whole: Path) -> None:
    run(tmp_path, workers=2)
    assert weights(tmp_path / "adapter") == weights(whole / "adapter")


@pytest.mark.parametrize("ours", ["nll", "chunked_nll"])
def test_loss_and_gradients_are_those_of_trl(tmp_path: Path, ours: str) -> None:
    from trl import SFTTrainer

    reader = MemoryReader()
    read = rows(reader)
    found = dataset(read, np.ones(len(read), np.int32), [reader], tmp_path / "rows.arrow")
    batch = Collator(processor())([found[place] for place in range(4)])

    def step(trainer: Any, loss_type: str, **more: Any) -> tuple[Any, list[Any]]:
        network = model()
        args = arguments(network, Train(steps=1), 1, tmp_path)
        args.loss_type = loss_type
        made = trainer(network, args, Collator(processor()), found, processing_class=processor(), **more)
        learned = batch["labels"][:, 1:].ne(-100).sum()
        loss = made.compute_loss(network.train(), dict(batch), num_items_in_batch=learned)
        loss.backward()
        return loss.detach(), [weight.grad for weight in network.parameters()]

    theirs, their_gradients = step(SFTTrainer, "chunked_nll")
    loss, gradients = step(trainer_class(), ours, order=range(4))
    torch.testing.assert_close(loss, theirs)
    torch.testing.assert_close(gradients, their_gradients)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the loss is (nan|inf) at step"):
        run(tmp_path, lora=None, learning_rate=1e30, max_grad_norm=1e30, warmup_steps=0)


def test_a_checkpoint_that_was_cut_is_passed_over(tmp_path: Path) -> None:
    run(tmp_path)
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-4", "checkpoint-6"]
    assert newest(folder) == (folder / "checkpoint-6", 6)
    (folder / "checkpoint-6" / "trainer_state.json").write_text("{")
    assert newest(folder) == (folder / "checkpoint-4", 4)
    (folder / "checkpoint-4" / "optimizer.pt").unlink()
    assert newest(folder) is None


def test_micro_batches_are_resumed_to_the_same_weights(tmp_path: Path) -> None:
    auto = {"batch_size": "auto", "effective_batch": 4, "gradient_accumulation": 1, "batch_tokens": 60}
    whole = run(tmp_path / "whole", **auto)
    one = multiprocessing.get_context("spawn").Process(
        target=run, args=(tmp_path / "killed",), kwargs={"reads": 5, **auto}
    )
    one.start()
    one.join(120)
    assert one.exitcode == -signal.SIGKILL
    resumed = run(tmp_path / "killed", resume=True, **auto)
    assert resumed.samples_seen < whole.samples_seen
    assert weights(resumed.path) == weights(whole.path)


def test_learned_tokens_are_counted_where_another_count_stands_in_the_place_of_the_trainers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Trainer

    auto = {"batch_size": "auto", "effective_batch": 4, "gradient_accumulation": 1, "batch_tokens": 60}
    run(tmp_path / "whole", **auto)
    # as Unsloth does, which finds no labels in {"micros": …}: with means added up, losses would be a multiple
    monkeypatch.setattr(Trainer, "get_batch_samples", lambda _self, batches, count, _device: ([*batches][:count], None))
    run(tmp_path / "uncounted", **auto)
    assert logged(tmp_path / "uncounted") == [
        {**entry, "seconds": ours["seconds"]}
        for entry, ours in zip(logged(tmp_path / "whole"), logged(tmp_path / "uncounted"), strict=True)
    ]
