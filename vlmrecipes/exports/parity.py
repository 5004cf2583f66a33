"""Whether an export says what the run's model says: the same samples through both, in the same precision.

Both sides answer greedily, one row at a time. Then both follow the answers of the run's model token by token and name the
likeliest next one (teacher forcing), so that one token that differs does not hide all that come after it. The answers of the
run's model are also held against those that the run recorded: another base model, or other software, shows there.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmrecipes.data.sample import Sample
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.errors import InputError, RunError
from vlmrecipes.exports import plain
from vlmrecipes.exports.judge import as_recorded, judge
from vlmrecipes.exports.source import Source
from vlmrecipes.fingerprint import sha256
from vlmrecipes.models.load import WHOLE, LoadIn, device, dtype
from vlmrecipes.records import predictions
from vlmrecipes.records.scoring import Evaluated, evaluated

ENGINE = "hf"
"""The engine whose answers are held against these; Unsloth quantises and computes in its own way."""

Rows = list[dict[str, Any]]


@dataclass(slots=True)
class Probe:
    """The samples that are asked, and what the run's model says to them; asked once for several exports."""

    source: Source
    count: int
    folder: Path
    """Where their pictures lie."""
    samples: Evaluated = field(init=False)
    rows: Rows = field(init=False)
    """`{messages, images}` each, as `plain.answer` takes them."""
    _live: dict[str, Rows] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.samples = chosen(self.source, self.count)
        if not self.samples:
            raise InputError.one("the run scored nothing that an export could be held against", key="RUN")
        self.rows = [self._row(name, sample) for name, sample in self.samples]

    def _row(self, snapshot: str, sample: Sample) -> dict[str, Any]:
        pictures = open_snapshot(self.source.plan.store, snapshot).reader().read(sample.images)
        paths = [self.folder / key for key in sample.images]
        for path, data in zip(paths, pictures, strict=True):
            path.write_bytes(data)
        return {"messages": list(sample.messages), "images": [str(path) for path in paths]}

    def live(self, load_in: LoadIn) -> Rows:
        """Return what the run's model says, its base loaded in this precision, and how it follows its own answers."""
        if load_in not in self._live:
            self._live[load_in] = self._asked(load_in)
            free()
        return self._live[load_in]

    def _asked(self, load_in: LoadIn) -> Rows:
        import torch

        most = self.source.plan.max_new_tokens
        try:
            model, processor = self.source.model(load_in, device()), self.source.processor()
            return [plain.answer(model, processor, row | {"said": None}, most) for row in self.rows]
        except torch.OutOfMemoryError:
            way = "export where there is more, or on the CPU with CUDA_VISIBLE_DEVICES= (slow)"
            raise RunError(f"the run's model in {load_in} does not fit the GPU's memory: {way}") from None

    def recorded(self) -> dict[str, str]:
        """Return the answers in the run's record by sample id."""
        table = predictions.read(self.source.run / predictions.NAME).select(["model", "id", "prediction"])
        return {row["id"]: row["prediction"] or "" for row in table.to_pylist() if row["model"] == "tuned"}


def chosen(source: Source, count: int) -> Evaluated:
    """Return `count` of the samples that the run scored, the same for the same seed whatever their order."""
    seed = source.plan.recipe.train.seed
    dealt = sorted(evaluated(source.plan), key=lambda pair: sha256(f"{seed}:{pair[1].id}".encode()))
    return dealt[:count]


def check(  # noqa: PLR0913
    probe: Probe,
    folder: Path,
    *,
    name: str,
    base: str = "",
    weights: Mapping[str, str] | None = None,
    quantised: bool = False,
) -> dict[str, Any]:
    """Return the parity of the export in `folder` as JSON; see `judge`. `ok` tells whether it holds.

    `weights` are the digests of what was to be written, compared to the bit. `base` is what an adapter goes on. `quantised`:
    the export has fewer bits than what it is held against. An adapter that was trained on quantised weights and merged into
    the 16-bit ones is held against the adapter on those; `trained` tells how far that is from the model that was trained.
    """
    source = probe.source
    merged = source.quantised and not base
    loose = quantised or (source.prequantised and not base)
    sides: list[LoadIn] = ["16bit", source.load_in] if merged else [source.load_in]
    live = [probe.live(side) for side in sides]
    job = _job(source, folder, base=base, weights=weights)
    rows = [row | {"said": [said[place]["tokens"] for said in live]} for place, row in enumerate(probe.rows)]
    found = _apart(job | {"rows": rows})
    held = [
        judge(probe.samples, said, found["rows"], place, source.plan.recipe.eval.metrics, loose=loose or place > 0)
        for place, said in enumerate(live)
    ]
    recorded = as_recorded(probe.samples, live[-1], probe.recorded())
    other = recorded["problems"] if source.plan.recipe.eval.engine == ENGINE else []
    different = found["different"]
    problems = [f"{len(different)} weights are not what was merged: {', '.join(different[:3])}"] if different else []
    told = {
        "format": name,
        "reference": _reference(source, sides[0]),
        "dtype": job["dtype"],
        "device": job["device"],
        **held[0],
        "weights": {"compared": len(weights or {}), "different": len(different)},
        "recorded": recorded,
        "problems": [*problems, *held[0]["problems"], *other],
    }
    if merged:
        told["trained"] = {"reference": _reference(source, sides[1]), **held[1]}
        told["problems"] += [f"against what was trained: {problem}" for problem in held[1]["problems"]]
    return {"ok": not told["problems"], **told}


def free() -> None:
    """Give back what models that are gone have taken on the device."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _reference(source: Source, load_in: LoadIn) -> str:
    what = f"the adapter on {source.base_name}" if source.adapter else "the model that was trained"
    return f"{what}, weights in {load_in}"


def _job(source: Source, folder: Path, *, base: str, weights: Mapping[str, str] | None) -> dict[str, Any]:
    there = device()
    return {
        "folder": str(folder.absolute()),
        "base": base,
        "bits": {"4bit": 4, "8bit": 8}.get(source.load_in, 0) if base else 0,
        "whole": WHOLE,
        "trust_remote_code": source.plan.recipe.model.trust_remote_code,
        "dtype": str(dtype(source.load_in, there)).removeprefix("torch."),
        "device": there,
        "max_new_tokens": source.plan.max_new_tokens,
        "weights": weights,
    }


def _apart(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job of `plain` in a process of its own. Raises RunError with what it said when it fails."""
    with tempfile.TemporaryDirectory(prefix="vlmrecipes-") as name:
        temporary = Path(name)
        (temporary / "job.json").write_text(json.dumps(job | {"output": str(temporary / "said.json")}), "utf-8")
        command = [sys.executable, "-P", plain.__file__, str(temporary / "job.json")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=temporary)  # noqa: S603
        if done.returncode:
            raise RunError(f"the export cannot be loaded and asked: {_last(done.stderr)}")
        found: dict[str, Any] = json.loads((temporary / "said.json").read_text("utf-8"))
        return found


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["no word of why"])[-1]
