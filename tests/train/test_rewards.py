from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrecipes.errors import InputError, RunError
from vlmrecipes.recipe import Recipe
from vlmrecipes.rewarding import Grpo, Reward
from vlmrecipes.tables import parse
from vlmrecipes.train.reward_checks import code_problems
from vlmrecipes.train.rewards import best, by_length, terms

CODE = """
def polite(answer, references, prompt):
    return 1.0 if "please" in answer else -0.5 * len(references)

def narrow(answer):
    return 1.0
"""


def reward(answer: str, *references: str, **given: Any) -> float:
    return terms(Grpo(rewards=(Reward(**given),)))[0](answer, references, "the prompt")


def recipe(
    train: dict[str, Any] | None = None, grpo: dict[str, Any] | None = None, lora: bool = True
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": "r",
        "version": "1.0.0",
        "data": {"train": "d"},
        "model": {"id": "builtin:reader"},
        "train": {"method": "grpo", "steps": 1} | (train or {}),
        "grpo": {"rewards": [{"name": "cer"}]} | (grpo or {}),
        "eval": {"metrics": ["cer"]},
    }
    return found | ({"lora": {}} if lora else {})


def problems(data: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InputError) as caught:
        parse(Recipe, data, "r.toml")
    return {problem.key: problem.problem for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("name", "answer", "references", "expected"),
    [
        ("cer", "abcd", ("abxd",), 0.75),
        ("cer", "a long answer to it", ("ab",), 0.0),
        ("wer", "one two", ("one too",), 0.5),
        ("exact_match", "circle", ("square", "circle"), 1.0),
        ("exact_match", "", ("circle",), 0.0),
        ("vqa", "The Cat", ("cat", "cat", "cat", "cat", "dog"), 1.0),
        ("anls", "hallo", ("hello",), 0.8),
    ],
)
def test_metrics_as_rewards(name: str, answer: str, references: tuple[str, ...], expected: float) -> None:
    assert reward(answer, *references, name=name) == pytest.approx(expected)


@given(st.text(max_size=30), st.lists(st.text(max_size=30), min_size=1, max_size=3))
def test_what_is_built_in_lies_between_0_and_1(answer: str, references: list[str]) -> None:
    for name in ("cer", "wer", "exact_match", "vqa", "anls", "length"):
        assert 0 <= reward(answer, *references, name=name) <= 1
    assert 0 <= by_length(3, 7, answer, references) <= 1


@pytest.mark.parametrize(("answer", "expected"), [("12.50 EUR", 1.0), ("12.50 EUR, please", 0.0), ("", 0.0)])
def test_format_is_of_the_whole_answer(answer: str, expected: float) -> None:
    assert reward(answer, "x", name="format", pattern=r"\d+\.\d\d EUR") == expected


def test_a_pattern_that_never_ends_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmrecipes.train.rewards.PATIENCE", 0.05)
    with pytest.raises(RunError, match=r"takes longer than 0.05 s on an answer of 41 characters"):
        reward("a" * 40 + "b", "x", name="format", pattern=r"(a|aa)+$\1b")


@pytest.mark.parametrize(
    ("given", "lengths"),
    [
        ({}, {0: 0.0, 2: 0.5, 4: 1.0, 8: 0.5}),
        ({"least": 4}, {0: 0.0, 2: 0.5, 4: 1.0, 99: 1.0}),
        ({"most": 4}, {0: 1.0, 4: 1.0, 6: 0.5, 8: 0.0, 99: 0.0}),
        ({"least": 2, "most": 4}, {1: 0.5, 3: 1.0, 5: 0.75}),
    ],
)
def test_length(given: dict[str, int], lengths: dict[int, float]) -> None:
    assert {count: reward("x" * count, "four", name="length", **given) for count in lengths} == lengths


def test_rewards_of_one_name_are_told_apart_and_weighed() -> None:
    found = terms(Grpo(rewards=[{"name": "cer"}, {"name": "format", "pattern": "a", "weight": 2}, {"name": "cer"}]))
    assert [term.name for term in found] == ["cer", "format", "cer 2"]
    assert best(found) == 4.0
    assert best(terms(Grpo(rewards=[{"name": "cer"}, {"name": "length", "weight": -1}]))) == 1.0


def test_a_function_needs_to_be_allowed_and_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "house_rules.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names = ("house_rules:polite", "house_rules:narrow", "house_rules:absent", "no_such_module:f")
    given = parse(Recipe, recipe(grpo={"rewards": [{"name": name} for name in names]}), "r.toml")
    refused = code_problems(given, "r.toml", allowed=False)
    assert [problem.key for problem in refused] == [f"grpo.rewards[{place}].name" for place in range(4)]
    assert all("say --allow-code to allow it" in problem.problem for problem in refused)
    assert "house_rules" not in sys.modules, "what is not allowed is not imported"
    unfit = code_problems(given, "r.toml", allowed=True)
    assert [problem.key for problem in unfit] == [f"grpo.rewards[{place}].name" for place in (1, 2, 3)]
    assert all("it must be a function(answer, references, prompt)" in problem.problem for problem in unfit)
    assert reward("yes, please", "a", name=names[0]) == 1.0
    assert reward("yes", "a", "b", name=names[0]) == -1.0
    (term,) = terms(Grpo(rewards=[{"name": names[0]}]))
    assert term.spec.startswith("sha256:")


@pytest.mark.parametrize(
    ("given", "key", "told"),
    [
        ({"name": "ceer"}, "grpo.rewards[0]", "no reward 'ceer'; did you mean 'cer'?"),
        ({"name": "format"}, "grpo.rewards[0]", "`format` with a `pattern`"),
        ({"name": "cer", "pattern": "a"}, "grpo.rewards[0]", "`pattern` goes with `format`"),
        ({"name": "format", "pattern": "(a"}, "grpo.rewards[0].pattern", "not a regular expression: missing )"),
        ({"name": "cer", "most": 3}, "grpo.rewards[0]", "`least` and `most` go with `length`"),
        ({"name": "length", "least": 4, "most": 3}, "grpo.rewards[0]", "`least` (4) is more than `most` (3)"),
        ({"name": "cer", "weight": 0}, "grpo.rewards[0]", "a `weight` of 0 rewards nothing"),
        ({"name": "cer", "wait": 2}, "grpo.rewards[0].wait", "unknown key; did you mean 'weight'?"),
    ],
)
def test_a_reward_that_means_nothing_is_told(given: dict[str, Any], key: str, told: str) -> None:
    found = problems(recipe(grpo={"rewards": [given]}))
    assert told in found[key]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (recipe({"batch_size": 6}, {"group": 4}), "must be a multiple of grpo.group (4)"),
        (recipe(grpo={"beta": 0.1}, lora=False), "grpo.beta above 0 needs [lora]"),
        (recipe({"save_steps": 5}, {"iterations": 2}), "must be a multiple of grpo.iterations (2)"),
        (recipe({"method": "sft"}), '[grpo] needs train.method = "grpo" or "gspo"'),
        ({key: value for key, value in recipe().items() if key != "grpo"}, "needs a table [grpo] with its `rewards`"),
    ],
)
def test_settings_that_do_not_go_together_are_told(data: dict[str, Any], told: str) -> None:
    assert told in problems(data)[""]
