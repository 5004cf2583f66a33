"""What a `recipes/*.toml` says, read into frozen tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from vlmrecipes import tables
from vlmrecipes.errors import InputError
from vlmrecipes.rewarding import Grpo
from vlmrecipes.tables import FROM_LIST, Strings, Table


class Part(Table):
    """One snapshot in a mixture."""

    snapshot: str
    """`name` (the newest) or `name@N`."""
    weight: float = Field(default=1.0, gt=0)
    """Share of the training rows relative to the other parts' weights times their size: 2.0 shows each row twice."""


Parts = Annotated[tuple[Part, ...], FROM_LIST, Field(min_length=1)]


class Data(Table):
    """Which snapshots."""

    train: str | Parts
    """The snapshot whose train side is learned; a list of `{snapshot, weight}` mixes several."""
    eval: str = ""
    """The snapshot whose eval side is scored; default: the eval side of `train`."""

    def parts(self) -> tuple[Part, ...]:
        """Return the training snapshots, one or several."""
        return (Part(snapshot=self.train),) if isinstance(self.train, str) else self.train

    def eval_snapshots(self) -> tuple[str, ...]:
        """Return the snapshots that are scored."""
        return (self.eval,) if self.eval else tuple(part.snapshot for part in self.parts())


class Model(Table):
    """Which model, and how it is loaded."""

    id: str
    """A hub id, a local folder, or `builtin:reader`."""
    revision: str = ""
    """Commit of the hub repository."""
    init: Literal["weights", "config"] = "weights"
    """`config` starts from random weights (with `[lora]` left out: training from scratch)."""
    load_in: Literal["4bit", "8bit", "16bit", "full"] = "16bit"
    """Precision of the base weights; `full` is 32-bit. On a CPU `16bit` computes in float32."""
    max_length: int = Field(default=2048, ge=16)
    """Longest row in tokens, image tokens included; nothing is cut."""
    overlong: Literal["error", "drop"] = "error"
    """Whether longer rows of the training side fail the plan, or are left out and counted."""
    trust_remote_code: bool = False
    """Run code from the model's repository; the command line must allow it too."""


class Lora(Table):
    """Low-rank adapters, and the parts of the model that get them."""

    r: int = Field(default=16, ge=1)
    alpha: int = Field(default=16, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    rslora: bool = False
    vision: bool = True
    """Adapt the vision tower."""
    language: bool = True
    """Adapt the language model."""
    attention: bool = True
    mlp: bool = True
    projector: Literal["off", "lora", "full"] = "off"
    """The layers between the vision tower and the language model."""

    @model_validator(mode="after")
    def _something(self) -> Lora:
        if not ((self.vision or self.language) and (self.attention or self.mlp)) and self.projector == "off":
            raise ValueError("nothing would be trained: switch on vision or language, and attention or mlp")
        return self


SHARDED_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "sgd")


class Train(Table):
    """How it is trained."""

    backend: Literal["trl", "unsloth"] = "trl"
    method: Literal["sft", "grpo", "gspo"] = "sft"
    """`sft` shows the answers; `grpo` and `gspo` reward the model's own ones, see `[grpo]`."""
    responses_only: bool = True
    """Only the answers are learned; false also learns the user's words."""
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = 8
    """Rows computed at once on a device; `auto` computes as many as its memory holds, of the `effective_batch` rows.

    With `grpo` and `gspo` these are answers: each row is answered `grpo.group` times."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Batches an optimizer step, on each device."""
    effective_batch: int | None = Field(default=None, ge=1)
    """Rows an optimizer step with `batch_size = "auto"`; otherwise batch_size times gradient_accumulation times devices."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Most tokens, padding included, computed at once with `batch_size = "auto"`; default: what the device holds."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; or give `epochs`."""
    epochs: float | None = Field(default=None, gt=0)
    learning_rate: float = Field(default=2e-4, gt=0)
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup", "cosine_with_min_lr"] = "linear"
    warmup_steps: int = Field(default=5, ge=0)
    """Steps over which the learning rate rises from 0; `constant` has none, whatever stands here."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    optimizer: Literal["adamw_torch", "adamw_torch_fused", "adamw_8bit", "sgd", "adafactor"] = "adamw_torch"
    gradient_checkpointing: bool = False
    group_by_length: bool = True
    """Batches of rows of like length, in an order that the seed decides."""
    devices: int = Field(default=1, ge=1)
    """GPUs, or on a CPU processes, that train together: `batch_size` rows each, or their share of `effective_batch`."""
    sharded: bool = False
    """Each of `devices` holds a part of weights, gradients and optimizer, for models that need it; slower than whole ones."""
    seed: int = Field(default=3407, ge=0)
    workers: int = Field(default=0, ge=0)
    """Processes that prepare batches ahead of the model, for each of `devices`; 0 prepares them in the training process."""
    save_steps: int = Field(default=100, ge=1)
    """A checkpoint every so many steps, for `--resume`."""
    logging_steps: int = Field(default=10, ge=1)
    log_to: Annotated[tuple[Literal["tensorboard"], ...], FROM_LIST] = ()
    """Also log to `tensorboard`, into the run's folder `tensorboard/`; `metrics.jsonl` is always written."""

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> Train:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either `steps` or `epochs`")
        return self

    @model_validator(mode="after")
    def _rows_a_step_are_said_once(self) -> Train:
        if self.batch_size != "auto" and (self.effective_batch or self.batch_tokens):
            raise ValueError('`effective_batch` and `batch_tokens` go with `batch_size = "auto"`')
        if self.batch_size == "auto" and (self.effective_batch is None or self.gradient_accumulation > 1):
            raise ValueError('`batch_size = "auto"` takes `effective_batch` instead of `gradient_accumulation`')
        if (self.effective_batch or 0) % self.devices:
            raise ValueError(f"`effective_batch` must be a multiple of `devices` = {self.devices}")
        return self

    @model_validator(mode="after")
    def _sharded_devices_compute_alike(self) -> Train:
        if not self.sharded:
            return self
        if self.devices == 1:
            raise ValueError("`sharded` needs `devices` of 2 or more: one device has nothing to share")
        if self.batch_size == "auto":
            raise ValueError(
                '`sharded` takes a number for `batch_size`: "auto" gives devices different numbers of batches'
            )
        if self.optimizer not in SHARDED_OPTIMIZERS:
            names = ", ".join(repr(name) for name in SHARDED_OPTIMIZERS)
            raise ValueError(f"`sharded` cannot split the state of optimizer {self.optimizer!r}: use one of {names}")
        return self

    @property
    def rows_a_step(self) -> int:
        """Rows that an optimizer step learns from."""
        return self.effective_batch or int(self.batch_size) * self.gradient_accumulation * self.devices


class OpenAI(Table):
    """A server that speaks OpenAI's chat completions."""

    base_url: str = ""
    """Address up to and with `/v1`, as in `http://localhost:8000/v1`."""
    model: str = ""
    """What the server calls the model."""
    key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; the key itself is written nowhere."""
    concurrency: int = Field(default=8, ge=1, le=1024)
    """Requests at a time."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds for one answer."""
    retries: int = Field(default=5, ge=0, le=20)
    """Times that a request is tried again when the server is busy, fails or does not answer."""

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError(f"must be an address such as http://localhost:8000/v1, found {url!r}")
        if parts.username or parts.password or parts.query:
            raise ValueError("must hold no user, password or query, which would be recorded: put the key in `key_env`")
        return url


class Tesseract(Table):
    """Plain OCR."""

    psm: int = Field(default=7, ge=3, le=13)
    """Tesseract's page segmentation: 7 takes a picture as one line, 6 as a block of text, 3 as a page."""
    language: str = Field(default="eng", pattern=r"^[A-Za-z0-9_]+(\+[A-Za-z0-9_]+)*$")
    """Language data, several joined by `+`."""
    processes: int | None = Field(default=None, ge=1)
    """Pictures read at a time; default: one a core."""


class Eval(Table):
    """What is scored, on the eval side."""

    metrics: Annotated[Strings, Field(min_length=1)]
    """Short names (`wer`, `cer`, `exact`, `vqa`, `anls`) or full specs (`cer/ws@1`); the spec is recorded."""
    baseline: bool = True
    """Also score the untuned model."""
    by: Strings = ()
    """Metadata columns to break every metric down by."""
    limit: int | None = Field(default=None, ge=1)
    """Score only so many samples of the eval side, chosen by their ids."""
    engine: Literal["hf", "unsloth", "openai", "tesseract"] = "hf"
    """What generates predictions; `openai` and `tesseract` are for `evaluate`, a run scores what it trains."""
    adapter: Literal["live", "merged"] = "live"
    """Whether an adapter stays beside the weights or is added to them before generating."""
    batch_size: int | None = Field(default=None, ge=1)
    """Most rows generated at once; default: as many as `batch_tokens` hold."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Most tokens generated at once, prompts and answers; default: what the device holds well."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Longest prediction; default: the longest reference in tokens and a margin."""
    cache: bool = True
    """Take answers that the same model has already given to the same pictures and prompt, in whichever run; see the record's
    `generate.….cached`."""
    every: int | None = Field(default=None, ge=1)
    """While training, score a fixed part of the eval side every so many steps."""
    every_limit: int = Field(default=64, ge=1)
    """Samples of that part, chosen by their ids."""
    select: str = ""
    """The metric by which the best of those steps is kept; default: the last step is kept."""
    openai: OpenAI = OpenAI()
    tesseract: Tesseract = Tesseract()

    @model_validator(mode="after")
    def _select_from_what_is_scored(self) -> Eval:
        if self.select and self.every is None:
            raise ValueError("`select` needs `every`: how many steps lie between two scores")
        if self.select and self.select not in self.metrics:
            raise ValueError(f"`select` must be one of `metrics` ({', '.join(self.metrics)}), found {self.select!r}")
        return self


class Export(Table):
    """What is written besides the record."""

    formats: Annotated[tuple[Literal["adapter", "merged_16bit", "merged_4bit", "gguf"], ...], FROM_LIST] = ("adapter",)
    """`adapter` is what a run leaves itself (all weights, without `[lora]`); the others go to `exports/` in its folder."""


class Recipe(Table):
    """A tuning recipe: data, model, adapters, training, evaluation."""

    name: str
    version: str
    """Version of the recipe itself, as `1.0.0`."""
    description: str = ""
    data: Data
    model: Model
    lora: Lora | None = None
    """Without this table all weights are trained."""
    train: Train
    grpo: Grpo | None = None
    """With `method = "grpo"` or `"gspo"`."""
    eval: Eval
    export: Export = Export()

    @property
    def prompts_per_step(self) -> int:
        """Prompts of an optimizer step; with [grpo], each is answered `grpo.group` times."""
        return self.train.rows_a_step // (self.grpo.group if self.grpo else 1)

    @model_validator(mode="after")
    def _rewards_or_answers(self) -> Recipe:
        train, grpo = self.train, self.grpo
        if train.method == "sft" and grpo:
            raise ValueError('[grpo] needs train.method = "grpo" or "gspo", found "sft"')
        if train.method == "sft":
            return self
        if grpo is None:
            raise ValueError(f'train.method = "{train.method}" needs a table [grpo] with its `rewards`')
        if not train.responses_only:
            raise ValueError(f'train.responses_only = false goes with "sft": {train.method} learns from answers alone')
        if told := _unfit(train, grpo, self.lora):
            raise ValueError(told)
        return self

    @model_validator(mode="after")
    def _sharded_weights(self) -> Recipe:
        if self.train.sharded and self.model.load_in in ("4bit", "8bit"):
            raise ValueError(f'train.sharded cannot split {self.model.load_in} weights: use model.load_in = "16bit"')
        if self.train.sharded and self.eval.every:
            raise ValueError("eval.every does not go with train.sharded: no device holds the model that would answer")
        return self

    @field_validator("version")
    @classmethod
    def _three_numbers(cls, version: str) -> str:
        if not re.fullmatch(r"\d+\.\d+\.\d+", version):
            raise ValueError(f"must be three numbers as in 1.0.0, found {version!r}")
        return version


def check_trust(recipe: Recipe, file: str, *, allowed: bool) -> None:
    """Raise InputError for a recipe that asks to run a model's own code, unless the command line has `allowed` it."""
    if recipe.model.trust_remote_code and not allowed:
        problem = "the recipe asks to run code from the model's repository; say --trust-remote-code to allow it"
        raise InputError.one(problem, file=file, key="model.trust_remote_code")


def _unfit(train: Train, grpo: Grpo, lora: Lora | None) -> str:
    """Return what does not go together in training by rewards; empty when all does."""
    if train.batch_size == "auto":
        return f'train.batch_size = "auto" goes with method = "sft": give {train.method} a number of answers'
    if train.devices > 1:
        return f'train.devices > 1 goes with method = "sft": {train.method} trains on one'
    if train.rows_a_step % grpo.group:
        product = f"train.batch_size × train.gradient_accumulation ({train.rows_a_step})"
        return f"{product} must be a multiple of grpo.group ({grpo.group}): a step learns from whole groups"
    if grpo.beta and lora is None:
        return "grpo.beta above 0 needs [lora]: the model without its adapters is what it is held to"
    if train.save_steps % grpo.iterations:
        every = f"train.save_steps ({train.save_steps}) must be a multiple of grpo.iterations ({grpo.iterations})"
        return f"{every}: a training goes on from where answers are made anew"
    return ""


def read_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Return the recipe in `path` with `KEY=VALUE` overrides applied. Raises InputError with every problem."""
    name = str(path)
    data = tables.read_toml(path, name)
    tables.override(data, overrides)
    return tables.parse(Recipe, data, name)
