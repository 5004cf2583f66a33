"""What would go wrong with a plan, as (key of the recipe, sentence) pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from vlmrecipes.extras import INSTALL
from vlmrecipes.models import memory, tokens
from vlmrecipes.models.chat import ALL_OR_NONE
from vlmrecipes.models.turns import Row
from vlmrecipes.recipe import Recipe

if TYPE_CHECKING:
    from vlmrecipes.data.sample import Sample, Split
    from vlmrecipes.data.snapshot import Snapshot

SHOWN = 3
"""Samples named in a problem."""
EXTERNAL = ("openai", "tesseract")
"""Engines that load no model here."""
WITHOUT_MIXED = ("smolvlm",)
"""Families that cannot compute in 16 bits with 32-bit weights."""
Found = list[tuple[str, str]]


def too_large(need: int) -> Found:
    """Return a problem when the plan needs more memory than there is."""
    there = memory.available()
    if need <= there:
        return []
    ways = "lower train.batch_size, set train.gradient_checkpointing = true, load_in fewer bits, or share with train.sharded"
    return [("model.id", f"needs about {need / 2**30:.1f} GiB, this machine has {there / 2**30:.1f} GiB: {ways}")]


def settings(recipe: Recipe) -> Found:
    """Return what this version, or this machine, cannot do to load a model and score it."""
    from vlmrecipes.models.load import device

    problems: Found = []
    if recipe.eval.engine == "unsloth" and find_spec("unsloth") is None:
        problems.append(("eval.engine", "unsloth is not installed: pip install 'vlmrecipes[unsloth]', or use 'hf'"))
    if recipe.eval.adapter == "merged" and recipe.model.load_in in ("4bit", "8bit"):
        problems.append(("eval.adapter", "merging into quantised weights changes them: use 'live'"))
    if recipe.model.load_in in ("4bit", "8bit") and device() == "cpu":
        problems.append(("model.load_in", f"{recipe.model.load_in!r} needs a GPU: use '16bit' on this machine"))
    return problems


def training(recipe: Recipe) -> Found:
    """Return what this version, or this machine, cannot do to train."""
    from vlmrecipes.models.load import device

    problems: Found = []
    if recipe.train.backend == "unsloth":
        problems += _unsloth(recipe, device())
    problems += _devices(recipe, device())
    if recipe.eval.engine in EXTERNAL:
        ways = f"use it with `vlmrecipes evaluate --engine {recipe.eval.engine}`"
        problems.append(("eval.engine", f"{recipe.eval.engine!r} cannot load what is trained here: {ways}"))
    if recipe.lora and recipe.model.init == "config":
        problems.append(("lora", "adapters on random weights learn nothing: leave [lora] out with init = 'config'"))
    if recipe.lora is None and recipe.model.load_in in ("4bit", "8bit"):
        why = f"{recipe.model.load_in} weights cannot be trained themselves"
        problems.append(("lora", f"{why}: add [lora], or use model.load_in = '16bit'"))
    if recipe.train.optimizer == "adamw_8bit" and device() == "cpu":
        problems.append(("train.optimizer", "'adamw_8bit' needs a GPU: use 'adamw_torch' on this machine"))
    return problems


def family(recipe: Recipe, name: str) -> Found:
    """Return what the model's family cannot do."""
    from vlmrecipes.models.load import device

    mixed = recipe.model.load_in == "full" and recipe.train.backend == "trl" and device() != "cpu"
    if name in WITHOUT_MIXED and mixed:
        why = "transformers puts 16-bit pictures between 32-bit words, which torch refuses"
        return [("model.load_in", f"'full' cannot be trained on a GPU with {name}: {why}; use '16bit'")]
    return []


def _devices(recipe: Recipe, device: str) -> Found:
    import torch

    wanted = recipe.train.devices
    if wanted > 1 and recipe.train.backend == "unsloth":
        return [("train.devices", "'unsloth' trains on one GPU: use devices = 1, or backend = 'trl'")]
    if device != "cpu" and wanted > torch.cuda.device_count():
        return [("train.devices", f"{wanted} are wanted, this machine has {torch.cuda.device_count()}")]
    if device != "cpu" and recipe.train.sharded and not torch.cuda.is_bf16_supported(including_emulation=False):
        return [("train.sharded", "needs GPUs that compute in bfloat16 (Ampere or newer): use whole weights on each")]
    return []


def _unsloth(recipe: Recipe, device: str) -> Found:
    problems: Found = []
    if device == "cpu":
        problems.append(("train.backend", "'unsloth' needs a CUDA GPU: use 'trl' on this machine"))
    elif find_spec("unsloth") is None:
        problems.append(
            ("train.backend", f"unsloth is not installed: pip install '{INSTALL['unsloth']}', or use 'trl'")
        )
    if recipe.model.init == "config":
        problems.append(("model.init", "'unsloth' starts from weights: use backend = 'trl' with init = 'config'"))
    return problems


def sides(rows: Sequence[Row], eval_rows: Sequence[Row], overlong: int, *, trains: bool) -> Found:
    """Return a problem for each side that holds nothing; `overlong` rows were dropped."""
    problems: Found = []
    if trains and overlong and not rows:
        problems.append(("model.max_length", f"all {overlong} rows are longer and dropped: raise it"))
    elif trains and not rows:
        problems.append(("data.train", "its train side is empty"))
    if not eval_rows:
        problems.append(
            ("data.eval", "its eval side is empty: give [split] eval a larger share, or name another snapshot")
        )
    return problems


def rows(recipe: Recipe, rows: Sequence[Row], lengths: tokens.Lengths | None, *, trains: bool) -> Found:
    """Return a problem for rows that would be cut, and for rows with nothing to learn."""
    if lengths is None:
        return []
    problems: Found = []
    most = recipe.model.max_length
    over = (lengths.total > most).nonzero()[0].tolist()
    if over:
        found = f"{len(over)} rows are longer than {most} tokens (longest {lengths.total.max()}; {_some(rows, over)})"
        problems.append(
            (
                "model.max_length",
                f"{found}: nothing is cut; raise it, set model.overlong = 'drop', or lower prepare.max_side of the data",
            )
        )
    blind = [place for place, row in enumerate(rows) if not row.images] if trains and recipe.train.sharded else []
    if blind:
        why = f"{len(blind)} rows have no picture ({_some(rows, blind)}), and devices must compute the same layers together"
        problems.append(("train.sharded", f"{why}: leave these rows out, or use whole weights on each device"))
    if silent := (lengths.completion == 0).nonzero()[0].tolist():
        problems.append(("data.train", f"{len(silent)} rows have no token to learn ({_some(rows, silent)})"))
    return problems


def groups(recipe: Recipe, rows: int, inputs: Sequence[str]) -> Found:
    """Return problems of training by rewards: a model that cannot be, by its `inputs`; fewer rows than a step has prompts."""
    if recipe.grpo is None:
        return []
    if ALL_OR_NONE in inputs:
        why = f"TRL's GRPOTrainer does not give this model its {ALL_OR_NONE}: use 'sft', or another model"
        return [("train.method", f"{recipe.train.method!r} cannot train Llama 3.2 Vision: {why}")]
    if rows >= recipe.prompts_per_step:
        return []
    step = f"a step answers {recipe.prompts_per_step} prompts (batch_size × gradient_accumulation / grpo.group)"
    return [("train.batch_size", f"{step}, the train side has {rows}: lower it, or raise grpo.group")]


def _some(rows: Sequence[Row], places: Sequence[int]) -> str:
    return "samples " + ", ".join(rows[place].sample for place in places[:SHOWN])


def leaks(trained: Sequence[Snapshot], scored: Sequence[tuple[Snapshot, Sequence[Sample]]]) -> Found:
    """Tell of eval samples whose pictures, or whose words when they have none, are on the training side."""
    learned = {mark for snapshot in trained for mark in _shown(snapshot)}
    leaks = [sample for snapshot, samples in scored for sample in _leaked(snapshot, samples, learned)]
    if not leaks:
        return []
    shown = ", ".join(leaks[:SHOWN])
    problem = (
        f"{len(leaks)} eval samples are on the training side too (samples {shown}): their scores would mean nothing"
    )
    return [("data.eval", f"{problem}; group them in the declaration, or name another snapshot")]


def _shown(snapshot: Snapshot) -> Iterator[str]:
    """Yield the pixels of the pictures on the train side, and the messages of its samples without one."""
    yield from snapshot.pictures("train", ("pixels",))["pixels"].to_pylist()
    yield from _words(snapshot, "train").values()


def _leaked(snapshot: Snapshot, samples: Sequence[Sample], learned: set[str]) -> Iterator[str]:
    images, words = snapshot.pictures("eval", ("key", "pixels")), _words(snapshot, "eval")
    pixels = dict(zip(images["key"].to_pylist(), images["pixels"].to_pylist(), strict=True))
    for sample in samples:
        marks = [pixels[key] for key in sample.images] or [words[sample.id]]
        if not learned.isdisjoint(marks):
            yield sample.id


def _words(snapshot: Snapshot, split: Split) -> dict[str, str]:
    """Return the messages, as JSON text, of the samples of a side that have no picture, by id."""
    import pyarrow.compute as pc

    table = snapshot.to_arrow(split)
    bare = table.filter(pc.equal(pc.list_value_length(table["images"]), 0))
    return dict(zip(bare["id"].to_pylist(), bare["messages"].to_pylist(), strict=True))
