"""What is exported: the weights that a finished run made, on the very base that they were trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmrecipes.errors import InputError, Problem
from vlmrecipes.fingerprint import file_sha256
from vlmrecipes.models.catalog import ModelRef, resolve
from vlmrecipes.models.load import LoadIn, device, load_adapter, load_model, load_processor
from vlmrecipes.plan import Plan, read_plan
from vlmrecipes.recipe import check_trust
from vlmrecipes.records import ledger, record

CONFIG = "adapter_config.json"
QUANTISED: tuple[LoadIn, ...] = ("4bit", "8bit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A finished run's weights."""

    run: Path
    record: Mapping[str, Any]
    plan: Plan
    base: ModelRef
    """The model that was tuned; for a run that trained all weights, those weights."""
    adapter: Path | None
    """None when all weights were trained."""

    @property
    def base_name(self) -> str:
        """Return what the base model is called where others read it: its id, of a folder only the name."""
        found = str(self.record["model"]["id"])
        return Path(found).name if Path(found).expanduser().is_dir() else found

    @property
    def load_in(self) -> LoadIn:
        """Return the precision that was trained in."""
        return self.plan.recipe.model.load_in

    @property
    def prequantised(self) -> bool:
        """Tell whether the base model's own files hold weights of fewer than 16 bits."""
        config = Path(self.base.path) / "config.json"
        return config.is_file() and "quantization_config" in json.loads(config.read_text("utf-8"))

    @property
    def few_bits(self) -> bool:
        """Tell whether the model, as it was trained, has weights of fewer than 16 bits: those need a GPU."""
        return self.prequantised or (self.adapter is not None and self.load_in in QUANTISED)

    @property
    def quantised(self) -> bool:
        """Tell whether the adapter was trained on fewer bits than the base model's files have, to which it is merged."""
        return self.few_bits and not self.prequantised

    def processor(self) -> Any:
        """Return the processor that the run used."""
        return load_processor(self.base, trust_remote_code=self.plan.recipe.model.trust_remote_code)

    def model(self, load_in: LoadIn, device: str) -> Any:
        """Return the run's model on `device`: the base in the precision `load_in`, with the adapter live on it."""
        return self._adapted(self._base(load_in, device))

    def merged(self) -> Any:
        """Return the run's model as one whole on the CPU, in the precision of the base model's files.

        The adapter's share is computed in 32 bits and each weight rounded once (peft). A base whose files are themselves
        quantised has no other weights here: they are computed back from those, on the GPU.
        """
        if not self.prequantised:
            base = self._base("16bit", "cpu", stored=True)
        else:
            base = self._base(self.load_in if self.load_in in QUANTISED else "4bit", device()).dequantize().cpu()
        return self._adapted(base).merge_and_unload() if self.adapter else base

    def _base(self, load_in: LoadIn, place: str, *, stored: bool = False) -> Any:
        settings = self.plan.recipe.model
        return load_model(
            self.base,
            init=settings.init if self.adapter else "weights",
            load_in=load_in,
            device=place,
            seed=self.plan.recipe.train.seed,
            stored=stored,
            trust_remote_code=settings.trust_remote_code,
        )

    def _adapted(self, model: Any) -> Any:
        return load_adapter(model, self.adapter) if self.adapter else model


def open_source(name: str, *, store: str, base: str = "", trust_remote_code: bool = False) -> Source:
    """Return what the run `name` made; `base` says where its base model lies now, when it has moved.

    `trust_remote_code` allows code from the model's repository, if the recipe asks for it too.

    Raises InputError, with all of it, when the run has made nothing, is not complete, its weights are not the sealed ones,
    or the base model is not the one in the record.
    """
    folder = ledger.find(ledger.home(store), name)
    found = record.read(folder)
    if found["status"] != "complete":
        raise InputError.one(f"run {folder.name} is {found['status']}: only a complete run is exported", key="RUN")
    weights = ledger.weights(folder)
    if weights is None:
        raise InputError.one(f"run {folder.name} trained nothing: export the run whose result it scored", key="RUN")
    plan = read_plan(folder / "plan.json")
    check_trust(plan.recipe, str(folder / "recipe.toml"), allowed=trust_remote_code)
    adapter = weights if (weights / CONFIG).is_file() else None
    ref = _base(plan, base) if adapter else resolve(str(weights))
    if problems := [
        *_unsealed(found, weights),
        *(_another(found, ref, base) if adapter else ()),
        *_named(found, adapter),
    ]:
        raise InputError([Problem("", folder.name, problem) for problem in problems])
    return Source(run=folder, record=found, plan=plan, base=ref, adapter=adapter)


def _base(plan: Plan, base: str) -> ModelRef:
    """Return the base model; a folder has no revision, so that hashes alone tell whether it is the one."""
    model = plan.recipe.model
    revision = plan.model.revision if not base or not Path(base).is_dir() else ""
    return resolve(base or model.id, revision, weights=model.init == "weights", key="--base" if base else "model.id")


def _unsealed(found: Mapping[str, Any], weights: Path) -> Iterator[str]:
    listed = {part["path"]: part["sha256"] for part in found["outputs"]}
    for file in sorted(path for path in weights.rglob("*") if path.is_file()):
        name = file.relative_to(weights.parent).as_posix()
        if listed.get(name) != file_sha256(file):
            yield f"{name} is not the file that was sealed: what would be exported is not what the run scored"


def _another(found: Mapping[str, Any], ref: ModelRef, base: str) -> Iterator[str]:
    """Yield how the base model that was found differs from the recorded one."""
    model = found["model"]
    if model["files"] and ref.files:
        for name, digest in model["files"].items():
            if ref.files.get(name) != digest:
                state = "is another file than in the record" if name in ref.files else "is missing"
                yield f"the adapter was trained on another base: {name} of {ref.id} {state}"
    elif model["revision"] and ref.revision:
        if ref.revision != model["revision"]:
            yield f"the adapter was trained on {model['id']} at {model['revision']}; {ref.id} is at {ref.revision} here"
    elif base:
        yield f"the adapter was trained on {model['id']}, and nothing tells that {ref.id} is the same"


def _named(found: Mapping[str, Any], adapter: Path | None) -> Iterator[str]:
    if adapter is None:
        return
    named = json.loads((adapter / CONFIG).read_text("utf-8")).get("base_model_name_or_path")
    if named != found["model"]["id"]:
        yield f"the adapter names {named} as its base, the record {found['model']['id']}"
