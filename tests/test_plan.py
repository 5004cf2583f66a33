from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tiny import MemoryReader, assistant, lines, sample, user

from vlmrecipes import plan as planning
from vlmrecipes.data.sample import Sample
from vlmrecipes.errors import InputError
from vlmrecipes.models.catalog import resolve
from vlmrecipes.plan import Plan, checks, chosen, fitting, make_plan, read_plan, training_rows
from vlmrecipes.recipe import Recipe

RECIPE = {
    "name": "test",
    "version": "1.0.0",
    "data": {"train": "lines"},
    "model": {"id": "builtin:reader", "init": "config", "load_in": "full"},
    "train": {"epochs": 3, "batch_size": 4, "gradient_accumulation": 2},
    "eval": {"metrics": ["cer"]},
}


@dataclass
class MemorySnapshot:
    """Stands in for a snapshot of the store."""

    name: str
    fingerprint: str
    held: Sequence[Sample]
    same_pixels: dict[str, str] = field(default_factory=dict)

    def samples(self, split: str | None = None) -> list[Sample]:
        return [one for one in self.held if split in (None, one.split)]

    def need_today(self) -> None:
        pass

    def to_arrow(self, split: str | None = None) -> pa.Table:
        names = ("id", "images", "references")
        rows = [
            {name: getattr(one, name) for name in names}
            | {"messages": json.dumps([dict(turn) for turn in one.messages])}
            for one in self.samples(split)
        ]
        types = {"id": pa.string(), "images": pa.list_(pa.string()), "references": pa.list_(pa.string())}
        return pa.Table.from_pylist(rows, pa.schema(types | {"messages": pa.string()}))

    def pictures(self, split: str | None, names: Sequence[str]) -> pa.Table:
        keys = {key: None for one in self.samples(split) for key in one.images}
        rows = [{"key": key, "width": 80, "height": 32, "pixels": self.same_pixels.get(key, key)} for key in keys]
        types = {"key": pa.string(), "width": pa.int32(), "height": pa.int32(), "pixels": pa.string()}
        return pa.Table.from_pylist(rows, pa.schema(types)).select(list(names))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Snapshots by name: 20 lines learned, 5 scored; and 4 lines more."""
    reader = MemoryReader()
    held = [*lines(reader, 20), *lines(reader, 5, seed=100, split="eval")]
    snapshots: dict[str, Any] = {
        "lines": MemorySnapshot("lines@2", "sha256:a", held),
        "more": MemorySnapshot("more@1", "sha256:b", lines(reader, 4, seed=200)),
    }

    def opened(uri: str, name: str) -> MemorySnapshot:
        if name not in snapshots:
            raise InputError.one(f"no snapshot {name!r} in the store {uri}")
        return snapshots[name]

    monkeypatch.setattr(planning, "open_snapshot", opened)
    return snapshots


def planned(changes: dict[str, Any] | None = None, **options: Any) -> Plan:
    given = {key: dict(value) if isinstance(value, dict) else value for key, value in RECIPE.items()}
    for path, value in (changes or {}).items():
        table, _, key = path.partition(".")
        if key:
            given[table][key] = value
        else:
            given[table] = value
    return make_plan(Recipe.model_validate_json(json.dumps(given)), store="s", file="r.toml", **options)


def keys(plan: Plan) -> list[str]:
    return [problem.key for problem in plan.problems]


@pytest.mark.usefixtures("store")
def test_a_plan_has_nothing_left_to_decide() -> None:
    plan = planned()
    assert plan.problems == ()
    assert plan.steps == 9
    assert plan.roles() == [("train", "lines@2"), ("eval", "lines@2")]
    assert plan.lengths is not None
    assert len(plan.lengths) == 20
    assert 0 < plan.tokens["supervised_p50"] < plan.tokens["p50"] <= plan.tokens["p95"] <= plan.tokens["max"]
    assert plan.tokens["max"] == plan.lengths.max()
    assert plan.max_new_tokens > len("line 4 line 4 line 4 ")
    assert plan.memory_bytes > 12_000_000 * 16
    assert set(plan.summary()) >= {"plan", "fingerprint", "snapshot", "samples", "tokens", "steps", "problems"}
    assert plan.summary()["snapshot"] == "lines@2"


@pytest.mark.usefixtures("store")
def test_reads_back_what_it_wrote(tmp_path: Path) -> None:
    plan = planned()
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan.to_json()))
    again = read_plan(path)
    assert again.fingerprint == plan.fingerprint
    assert replace(again, store=plan.store) == replace(plan, lengths=None, rows=())


def test_the_fingerprint_is_of_the_intent(store: dict[str, Any]) -> None:
    plan = planned()
    assert plan.fingerprint == planned().fingerprint
    assert plan.fingerprint == replace(plan, store="elsewhere").fingerprint
    others = [planned({"train.seed": 1}), planned({"eval.limit": 3}), planned(snapshots={"train": "more"})]
    store["lines"] = replace(store["lines"], fingerprint="sha256:c")
    assert len({plan.fingerprint, *(other.fingerprint for other in [*others, planned()])}) == 5


@pytest.mark.usefixtures("store")
def test_a_mixture_shows_rows_by_weight() -> None:
    parts = [{"snapshot": "lines", "weight": 0.5}, {"snapshot": "more", "weight": 2.0}]
    plan = planned({"data": {"train": parts, "eval": "lines"}})
    assert plan.lengths is not None
    assert len(plan.lengths) == 10 + 8
    assert plan.train_names() == ["lines@2", "more@1"]


def test_rows_stand_in_the_order_of_lengths(store: dict[str, Any]) -> None:
    plan = planned({"data": {"train": [{"snapshot": "lines", "weight": 1.5}]}})
    rows = training_rows(plan.recipe, [store["lines"]])
    assert plan.lengths is not None
    assert len(rows) == len(plan.lengths) == 30
    for row, length in zip(rows, plan.lengths, strict=True):
        same = [one for other, one in zip(rows, plan.lengths, strict=True) if len(other.answer) == len(row.answer)]
        assert set(same) == {length}


@pytest.mark.usefixtures("store")
def test_everything_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        planned({"data": {"train": "nowhere", "eval": "nothing"}, "model.id": "builtin:writer"})
    assert sorted(problem.key for problem in caught.value.problems) == ["data.eval", "data.train", "model.id"]
    assert all(problem.file == "r.toml" for problem in caught.value.problems)


def test_rows_that_are_too_long(store: dict[str, Any]) -> None:
    long = sample(900, [user("Read the text.")], "x" * 500, store["lines"].held[0].images)
    store["lines"].held.append(long)
    plan = planned({"model.max_length": 256})
    (problem,) = plan.problems
    assert problem.key == "model.max_length"
    assert long.id in problem.problem
    assert "1 rows" in problem.problem


def test_rows_that_are_too_long_may_be_left_out(store: dict[str, Any]) -> None:
    long = sample(500, [user("Read. " * 400)], "x", list(store["lines"].held[0].images))
    store["lines"] = replace(store["lines"], held=[long, *store["lines"].held])
    plan = planned({"model.overlong": "drop"})
    assert (plan.problems, plan.overlong, len(plan.rows), plan.steps) == ((), 1, 20, 9)
    assert plan.lengths is not None
    assert (len(plan.lengths), plan.tokens["max"] <= 2048) == (21, True)
    assert len(fitting(plan.recipe, plan.lengths)) == 20
    nothing = planned({"model.overlong": "drop", "model.max_length": 20})
    assert [p.problem for p in nothing.problems] == ["all 21 rows are longer and dropped: raise it"]


def test_a_picture_on_both_sides_is_a_leak(store: dict[str, Any]) -> None:
    learned, scored = store["more"].held[0], store["lines"].samples("eval")[0]
    assert keys(planned({"data": {"train": "more", "eval": "lines"}})) == []
    store["more"].same_pixels[learned.images[0]] = scored.images[0]
    plan = planned({"data": {"train": "more", "eval": "lines"}})
    assert keys(plan) == ["data.eval"]
    assert scored.id in plan.problems[0].problem


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"lora": {"r": 4}}, "lora"),
        ({"train.backend": "unsloth"}, "train.backend"),
        ({"model.load_in": "4bit"}, "model.load_in"),
        ({"data": {"train": "lines", "eval": "more"}}, "data.eval"),
        ({"model.load_in": "4bit", "model.init": "weights"}, "lora"),
    ],
)
@pytest.mark.usefixtures("store")
def test_settings_that_cannot_work(changes: dict[str, Any], key: str) -> None:
    assert key in keys(planned(changes))


def test_an_empty_training_side(store: dict[str, Any]) -> None:
    store["lines"].held = store["lines"].samples("eval")
    assert "data.train" in keys(planned())


@pytest.mark.usefixtures("store")
def test_scoring_alone_counts_the_eval_side() -> None:
    plan = planned({"eval.limit": 3}, trains=False)
    assert (plan.steps, plan.train, plan.eval[0].samples) == (0, (), 3)
    assert plan.tokens["max"] > 0


@pytest.mark.usefixtures("store")
def test_scoring_alone_minds_nothing_that_only_a_training_uses() -> None:
    train = {"train.backend": "unsloth", "train.optimizer": "adamw_8bit", "train.devices": 1}
    assert keys(planned(train)) != []
    assert keys(planned(train, trains=False)) == []


def without(file: str, folder: Path) -> Path:
    """Return a copy of the built-in model's folder without a file."""
    reader = Path(resolve("builtin:reader").path)
    return shutil.copytree(reader, folder / "model", ignore=shutil.ignore_patterns(file, "training"))


@pytest.mark.usefixtures("store")
def test_a_model_without_a_chat_template(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no chat template"):
        planned({"model.id": str(without("chat_template.jinja", tmp_path))})


@pytest.mark.usefixtures("store")
def test_a_model_that_reads_no_pictures(tmp_path: Path) -> None:
    model = without("preprocessor_config.json", tmp_path)
    (model / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    (model / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(InputError, match="reads no pictures"):
        planned({"model.id": str(model)})


@pytest.mark.usefixtures("store")
def test_a_home_that_is_not_there_is_no_model() -> None:
    with pytest.raises(InputError, match="found no model '~nobody-here/x'"):
        planned({"model.id": "~nobody-here/x"})


def test_turns_inside_the_messages_are_rows(store: dict[str, Any]) -> None:
    key = store["lines"].held[0].images
    turns = [user("What?"), assistant("A line."), user("Of what?", 0)]
    store["lines"].held.append(sample(901, turns, "words", key))
    plan = planned()
    assert plan.lengths is not None
    assert len(plan.lengths) == 22


def test_chosen_by_id_and_not_by_order() -> None:
    samples = lines(MemoryReader(), 9)
    assert chosen(samples[::-1], 4) == chosen(samples, 4) == samples[:4]
    assert chosen(samples, None) == samples


@pytest.mark.usefixtures("store")
def test_training_by_rewards_counts_in_prompts() -> None:
    grpo: dict[str, Any] = {"rewards": [{"name": "cer"}], "group": 4, "max_completion_length": 30}
    changes: dict[str, Any] = {"train.method": "grpo", "train.batch_size": 8, "train.gradient_accumulation": 1}
    plan = planned(changes | {"grpo": grpo})
    assert plan.problems == ()
    assert plan.steps == 3 * 10, "three epochs of 20 prompts, two a step"
    assert planned(changes | {"grpo": grpo | {"iterations": 2}}).steps == 3 * 20
    long = planned(changes | {"grpo": grpo | {"max_completion_length": 2048}})
    assert keys(long) == ["model.max_length"]
    assert long.memory_bytes > plan.memory_bytes
    many = planned(changes | {"grpo": grpo, "train.gradient_accumulation": 11})
    assert keys(many) == ["train.batch_size"]
    assert "a step answers 22 prompts" in many.problems[0].problem
    assert "the train side has 20" in many.problems[0].problem


def test_what_a_family_cannot_do_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.model_validate(RECIPE)
    assert checks.family(recipe, "smolvlm") == []
    monkeypatch.setattr("vlmrecipes.models.load.device", lambda: "cuda")
    assert checks.family(recipe, "qwen2_5_vl") == []
    assert "use '16bit'" in checks.family(recipe, "smolvlm")[0][1]
