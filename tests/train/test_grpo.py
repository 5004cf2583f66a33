from __future__ import annotations

import json
import multiprocessing
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from families import FAMILIES, make
from tiny import MemoryReader, assistant, model, png, processor, sample, user
from training import rows, run

from vlmrecipes.errors import RunError
from vlmrecipes.models import tokens
from vlmrecipes.models.catalog import resolve
from vlmrecipes.models.load import load_model, load_processor
from vlmrecipes.models.turns import rows_of
from vlmrecipes.recipe import Lora, Train
from vlmrecipes.rewarding import Grpo, Reward
from vlmrecipes.train.backend import TrainResult
from vlmrecipes.train.grpo import arguments, unsaid
from vlmrecipes.train.rewards import terms
from vlmrecipes.train.rows import prompts
from vlmrecipes.train.task import Task
from vlmrecipes.train.trl_backend import train

STEPS = 4
LORA = Lora(r=4, language=False, projector="full")
ASCII = r"(?s)[\x00-\x7f].*"
"""Begins with an ASCII character: true of half of what random weights say."""
REWARDS = (Reward(name="format", pattern=ASCII), Reward(name="length", least=4, weight=0.5))
GRPO = Grpo(rewards=REWARDS, group=4, max_completion_length=4)
KEPT = ("step", "loss", "grad_norm", "reward", "rewards", "length")


def learn(folder: Path, grpo: Grpo = GRPO, **more: Any) -> TrainResult:
    """Train by rewards: two prompts a step, a checkpoint after every second step."""
    given = {"method": "grpo", "batch_size": 4, "gradient_accumulation": 2, "steps": STEPS, "lora": LORA}
    return run(folder, grpo=grpo, **given | more)


def weights(folder: Path) -> bytes:
    return next(folder.glob("*.safetensors")).read_bytes()


def logged(folder: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: entry[key] for key in KEPT if key in entry} for entry in entries]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult]:
    """A training by rewards that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, learn(folder)


def test_tells_the_curve_of_every_reward(whole: tuple[Path, TrainResult]) -> None:
    folder, result = whole
    assert (result.steps, result.samples_seen, result.path, result.collapse) == (STEPS, 8, folder / "adapter", None)
    assert result.rewards
    assert result.rewards["terms"] == [
        {"name": "format", "weight": 1.0, "spec": ASCII},
        {"name": "length", "weight": 0.5, "spec": "least 4, most None"},
    ]
    curve = result.rewards["curve"]
    assert curve["step"] == [1, 2, 3, 4]
    assert {"reward", "reward_std", "zero_variance", "truncated", "length", "entropy"} < set(curve)
    weighed = zip(curve["reward"], curve["format/mean"], curve["length/mean"], strict=True)
    assert all(total == pytest.approx(form + length / 2, abs=1e-5) for total, form, length in weighed)
    assert (result.rewards["first"], result.rewards["last"]) == (curve["reward"][0], curve["reward"][-1])


def test_killed_and_resumed_ends_with_the_same_weights(tmp_path: Path, whole: tuple[Path, TrainResult]) -> None:
    one = multiprocessing.get_context("spawn").Process(target=learn, args=(tmp_path,), kwargs={"reads": 2 * 2 + 1})
    one.start()
    one.join(120)
    assert one.exitcode == -signal.SIGKILL
    resumed = learn(tmp_path, resume=True)
    assert resumed.samples_seen < 8
    assert weights(resumed.path) == weights(whole[0] / "adapter")
    assert logged(tmp_path) == logged(whole[0])
    assert resumed.rewards == whole[1].rewards


@pytest.mark.parametrize("method", ["grpo", "gspo"])
def test_answers_that_are_learned_from_twice(tmp_path: Path, method: str) -> None:
    grpo = GRPO.model_copy(update={"iterations": 2, "beta": 0.1, "epsilon": 1e-6})
    result = learn(tmp_path, grpo, method=method, learning_rate=1e-2, warmup_steps=0)
    assert result.samples_seen == 4, "two generations of two prompts for four steps"
    assert result.rewards
    assert any(result.rewards["curve"]["clipped"])
    curve = result.rewards["curve"]
    assert [value is None for value in curve["reward"]] == [False, True, False, True]
    assert curve["clipped"][::2] == [0.0, 0.0], "the first time, the model is the one that answered"
    assert curve["kl"][-1] > 0


def test_a_constant_reward_stops_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmrecipes.train.curve.WINDOW_GROUPS", 10)
    result = learn(tmp_path, Grpo(rewards=(Reward(name="length", least=0),), group=4, max_completion_length=4), steps=9)
    assert result.steps == 5
    assert result.collapse
    assert (result.collapse["reason"], result.collapse["rose"]) == ("zero-variance", False)
    assert "from step 1 on, all answers to a prompt got the same reward (mean 1.000)" in result.collapse["message"]


def test_a_reward_that_is_no_number_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards.py").write_text("def bad(answer, references, prompt):\n    return float('nan')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RunError, match=r"the reward my_rewards:bad of .* is nan: it must be a finite number"):
        learn(tmp_path / "run", Grpo(rewards=(Reward(name="my_rewards:bad"),), group=4, max_completion_length=4))


def test_a_reward_is_told_what_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def asked(answer, references, prompt):\n    return float(prompt == 'Read the text.') + len(answer) % 2\n"
    (tmp_path / "told_rewards.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    rewards = (Reward(name="told_rewards:asked"),)
    result = learn(tmp_path / "run", GRPO.model_copy(update={"rewards": rewards}), steps=1)
    assert result.rewards
    assert result.rewards["first"] >= 1


def test_settings_are_what_the_recipe_says_under_a_configuration_that_has_its_own_mind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trl

    class Minded(trl.GRPOConfig):  # type: ignore[misc] # as Unsloth's, which sets what papers recommend
        def __init__(self, **given: Any) -> None:
            wide = {"epsilon_high": 0.28} if given["epsilon_high"] is None else {}
            super().__init__(**given | wide | {"scale_rewards": "none"})

    monkeypatch.setattr("trl.GRPOConfig", Minded)
    settings = Train(method="grpo", steps=1, batch_size=4)
    task = Task(
        processor=processor(),
        rows=[],
        lengths=np.zeros(0, np.int32),
        readers=[],
        settings=settings,
        grpo=GRPO,
        steps=1,
        run=tmp_path,
        own_loss=True,
    )
    made = arguments(task, GRPO, model(), terms(GRPO), [])
    assert (made.epsilon, made.epsilon_high, made.scale_rewards) == (0.2, 0.2, "group")


def test_rows_of_no_picture_and_of_several_are_answered_together(tmp_path: Path) -> None:
    reader = MemoryReader()
    keys = [reader.add(png(40 + 10 * number, 32, number)) for number in range(4)]
    said = [user("One"), assistant("first"), user("and then?", 0)]
    samples = [
        sample(0, [user("None", 0)], "a", []),
        sample(1, [user("Two", 2)], "b", keys[:2]),
        sample(2, said, "c", [keys[2]]),
    ]
    found = [row for one in samples for row in rows_of(one)]
    lengths = tokens.count(processor(), found, {key: (40 + 10 * place, 32) for place, key in enumerate(keys)}).total
    result = train(
        model=model(),
        processor=processor(),
        rows=found,
        lengths=lengths.astype(np.int32),
        readers=[reader],
        settings=Train(method="grpo", steps=1, batch_size=8),
        lora=LORA,
        grpo=GRPO.model_copy(update={"group": 2}),
        steps=1,
        run=tmp_path,
    )
    assert (result.samples_seen, len(found)) == (4, 4)


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")  # TRL's own, for Pixtral's pixels
@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"mllama"}))  # which a plan refuses
def test_families_answer_and_learn(tmp_path: Path, family: str) -> None:
    ref, reader = resolve(str(make(family, tmp_path / family))), MemoryReader()
    keys = [reader.add(png(60 + 10 * number, 40, number)) for number in range(2)]
    found = [row for place, key in enumerate(keys) for row in rows_of(sample(place, [user("Read.")], "a", [key]))]
    result = train(
        model=load_model(ref),
        processor=load_processor(ref),
        rows=found,
        lengths=np.ones(2, np.int32),
        readers=[reader],
        settings=Train(method="grpo", steps=1, batch_size=4),
        lora=Lora(r=4),
        grpo=GRPO.model_copy(update={"group": 2, "max_completion_length": 2}),
        steps=1,
        run=tmp_path / "run",
    )
    assert result.samples_seen == 2
    assert result.rewards


def test_pictures_are_never_part_of_an_answer() -> None:
    reading = processor()
    never = unsaid(reading)
    assert reading.tokenizer.convert_tokens_to_ids("<|image_pad|>") in never
    assert reading.tokenizer.eos_token_id not in never


def test_prompts_carry_their_references(tmp_path: Path) -> None:
    found = rows(MemoryReader())
    kept = prompts(found, np.zeros(len(found), np.int32), tmp_path / "rows.arrow")
    assert kept[3]["references"] == list(found[3].references) == [found[3].answer]
    assert json.loads(kept[3]["prompt"]) == found[3].messages()
