"""What a backend must do right with a family, checked on its tiny model; run by tests on a CPU, by a benchmark on a GPU.

python tests/train/conformance.py FAMILY BACKEND     prints {check: "ok" or what went wrong} as JSON
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import families
import numpy as np
import pytest
from tiny import MemoryReader, assistant, png, sample, user

from vlmrecipes.errors import InputError
from vlmrecipes.models import tokens
from vlmrecipes.models.catalog import resolve
from vlmrecipes.models.load import device, load_adapter, load_model, load_processor
from vlmrecipes.models.parts import part_of
from vlmrecipes.models.turns import Row, rows_of
from vlmrecipes.recipe import Lora, Recipe
from vlmrecipes.train import lora as adapters
from vlmrecipes.train.backend import OWN_PROCESS, backend
from vlmrecipes.train.view import rows_seen

SIZES = ((60, 40), (90, 56))
NO_LINEAR = {"gemma3"}
"""Families whose projector holds no linear layer: it is trained in full, an adapter on it is refused."""
FLAGS: dict[str, dict[str, Any]] = {
    "vision attention": {"language": False, "mlp": False},
    "vision mlp": {"language": False, "attention": False},
    "language attention": {"vision": False, "mlp": False},
    "language mlp": {"vision": False, "attention": False},
    "projector lora": {"vision": False, "mlp": False, "projector": "lora"},
    "projector full": {"vision": False, "mlp": False, "projector": "full"},
    "everything": {"projector": "lora"},
}
"""Flags that the modules under adapters are checked for; what is not named is on."""


@dataclass
class Case:
    """A family under a backend; every check returns nothing, or fails with what went wrong."""

    family: str
    backend: str
    folder: Path
    reader: MemoryReader = field(default_factory=MemoryReader)

    def recipe(self, lora: Lora | None, settings: Mapping[str, Any]) -> Recipe:
        return Recipe.model_validate(
            {
                "name": self.family,
                "version": "1.0.0",
                "data": {"train": "x"},
                "model": {"id": str(self.path), "load_in": "16bit"},
                "lora": lora.model_dump() if lora else None,
                "train": {
                    "backend": self.backend,
                    "steps": 2,
                    "warmup_steps": 0,
                    "learning_rate": 5e-3,
                    "logging_steps": 1,
                    "scheduler": "constant",
                    **(settings or {"batch_size": 5}),
                },
                "eval": {"metrics": ["cer"]},
            }
        )

    @cached_property
    def path(self) -> Path:
        folder = self.folder / "model"
        return folder if folder.exists() else families.make(self.family, folder)

    @cached_property
    def processor(self) -> Any:
        return load_processor(resolve(str(self.path)))

    @cached_property
    def rows(self) -> list[Row]:
        """Five rows: one picture, two pictures, a second turn after a first, its first turn, and no picture."""
        keys = [self.reader.add(png(*size, seed)) for seed, size in enumerate(SIZES)]
        samples = [
            sample(1, [user("What is this?")], "one thing", keys[:1]),
            sample(2, [user("And these?", 2)], "two pictures", keys),
            sample(3, [user("A?"), assistant("first"), user("B?", 0)], "second", keys[1:]),
            sample(4, [user("What is one and one?", 0)], "two", []),
        ]
        return [row for one in samples for row in rows_of(one)]

    def lengths(self) -> Any:
        rows = self.rows
        sizes = dict(zip(self.reader.images, SIZES, strict=True))
        return tokens.count(self.processor, rows, sizes).total.astype(np.int32)

    def batch(self, *, blind: bool = False) -> dict[str, Any]:
        from vlmrecipes.train.collate import Collator

        rows, images = self.rows, self.reader.images
        if blind:
            images = {key: white(*size) for key, size in zip(images, SIZES, strict=True)}
        return Collator(self.processor)(
            [
                {
                    "prompt": row.messages(),
                    "completion": [assistant(row.answer)],
                    "images": [images[k] for k in row.images],
                }
                for row in rows
            ]
        )

    def everything(self) -> Lora:
        return Lora(r=4, projector="full" if self.family in NO_LINEAR else "lora")

    def train(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Train two steps with everything adapted, into `folder`."""
        rows, lora = self.rows, self.everything()
        recipe = self.recipe(lora, settings)
        way = backend(self.backend)
        way.begin(folder)
        way.train(
            model=way.load(resolve(str(self.path)), recipe),
            processor=self.processor,
            rows=rows,
            lengths=self.lengths(),
            readers=[self.reader],
            settings=recipe.train,
            lora=lora,
            steps=2,
            run=folder,
            base=str(self.path),
        )

    def trained(self, name: str, **settings: Any) -> Path:
        """Return a folder in which a training was, as a run makes it."""
        folder = self.folder / name
        if self.backend in OWN_PROCESS:
            _ = self.path
            work = [self.family, self.backend, str(self.folder), name, json.dumps(settings)]
            command = [sys.executable, __file__, *work]
            done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ)
            assert done.returncode == 0, done.stderr[-6000:]
        else:
            self.train(folder, settings)
        return folder

    @cached_property
    def whole(self) -> Path:
        """Return the folder of a training whose steps see all rows at once."""
        return self.trained("whole")

    @property
    def adapter(self) -> Path:
        return self.whole / "adapter"

    def plain(self) -> Any:
        """Return the model as plain transformers loads it, in 32 bits."""
        return load_model(resolve(str(self.path)), load_in="full", device=device())

    # the checks

    def labels(self) -> None:
        """Only answers are learned: their tokens and the end of turn, no picture, no padding."""
        batch = self.batch()
        texts = [self.processor.tokenizer.decode(row[row != -100]) for row in batch["labels"]]
        assert all(text.startswith(row.answer) for text, row in zip(texts, self.rows, strict=True)), texts
        assert all(len(text) <= len(row.answer) + 20 for text, row in zip(texts, self.rows, strict=True)), texts
        learned = batch["labels"] != -100
        assert bool((batch["input_ids"] == batch["labels"])[learned].all())
        assert bool(batch["attention_mask"][learned].all()), "padding is learned"

    def shows(self) -> None:
        """What a plan shows of rows is what is learned: the answer and the end of turn, and the tokens that were counted."""
        rows, lengths = self.rows, self.lengths()
        texts = [row.answer for row in rows]
        shown = rows_seen(self.processor, rows, lengths, [self.reader], responses_only=True)
        for one in shown:
            assert one["tokens"] in lengths.tolist(), one
            assert any(one["answer"].startswith(text) for text in texts), one
            assert all(min(picture["seen"].values()) >= 1 for picture in one["pictures"]), one
        assert any(one["pictures"] for one in shown), shown

    def counts(self) -> None:
        """The plan's token counts are those of the batch, for pictures, many pictures, chats and bare text in one."""
        assert self.lengths().tolist() == self.batch()["attention_mask"].sum(1).tolist()

    def looks(self) -> None:
        """A blanked picture changes the loss of the rows that have one."""
        model = self.plain()
        seen, blind = (_losses(model, batch) for batch in (self.batch(), self.batch(blind=True)))
        pictured = np.array([bool(row.images) for row in self.rows])
        assert (np.abs(seen - blind)[pictured] > 1e-6).all(), (seen, blind)
        assert np.allclose(seen[~pictured], blind[~pictured], atol=1e-4), (seen, blind)

    def modules(self) -> None:
        """Adapters sit on what the flags say, and gradients reach each one that the model uses."""
        model = self.plain()
        used = _used(model, self.batch())
        for name, flags in FLAGS.items():
            lora = Lora(r=2, **flags)
            if lora.projector == "lora" and self.family in NO_LINEAR:
                self._refused(model, lora)
                continue
            chosen = adapters.targets(model, lora)
            parts = {part_of(one) for one in (*chosen.adapted, *chosen.whole)}
            wanted = {part for part in ("vision", "language") if getattr(lora, part)}
            assert parts <= wanted | ({"projector"} if lora.projector != "off" else set()), f"{name}: {parts}"
            assert wanted <= parts, f"{name}: {parts}"
            assert lora.projector == "off" or "projector" in parts, f"{name}: no projector"
        still = self._still() & used
        assert not still, f"untouched: {sorted(still)[:3]}"

    def _refused(self, model: Any, lora: Lora) -> None:
        with pytest.raises(InputError, match="no linear layer"):
            adapters.targets(model, lora)

    def _still(self) -> set[str]:
        """Return the adapted modules that training left as they were."""
        from safetensors.torch import load_file

        weights = load_file(self.adapter / "adapter_model.safetensors")
        prefix, suffix = "base_model.model.", ".lora_B.weight"
        still = {name for name, value in weights.items() if name.endswith(suffix) and not value.any()}
        return {name.removeprefix(prefix).removesuffix(suffix) for name in still}

    def learns(self) -> None:
        """Two steps lower the loss."""
        before = _losses(self.plain(), self.batch()).mean()
        after = _losses(load_adapter(self.plain(), self.adapter), self.batch()).mean()
        assert after < before, f"{before} -> {after}"

    def reloads(self) -> None:
        """The adapter, loaded from disk and merged, gives the same answers as live."""
        live = load_adapter(self.plain(), self.adapter)
        expected = _logits(live, self.batch())
        assert not np.allclose(expected, _logits(self.plain(), self.batch()), atol=1e-4), "the adapter does nothing"
        merged = _logits(live.merge_and_unload(), self.batch())
        assert np.allclose(expected, merged, atol=2e-3), np.abs(expected - merged).max()

    def tolerance(self) -> float:
        """Return how far figures may lie apart: 16 bits; words before Llama's picture, which see the padding beside it."""
        return 2e-2 if self.backend in OWN_PROCESS else 1e-2 if self.family == "mllama" else 1e-3

    def cuts(self) -> None:
        """Rows computed one after the other, or cut by a budget of tokens, give the loss and gradient of all at once."""
        expected = _first_step(self.whole)
        budget = int(self.lengths().max())
        ways = {"one by one": {"batch_size": 1, "gradient_accumulation": 5}}
        ways |= {"auto": {"batch_size": "auto", "effective_batch": 5, "batch_tokens": budget}}
        for name, settings in ways.items():
            found = _first_step(self.trained(name, **settings))
            assert np.allclose(found, expected, rtol=self.tolerance()), (
                name,
                found,
                expected,
            )


CHECKS = ("labels", "counts", "looks", "modules", "learns", "reloads", "cuts", "shows")


def _first_step(folder: Path) -> list[float]:
    """Return loss and length of the gradient at the first step."""
    entry = json.loads((folder / "metrics.jsonl").read_text("utf-8").splitlines()[0])
    return [entry["loss"], entry["grad_norm"]]


def white(width: int, height: int) -> bytes:
    import io

    from vlmrecipes.models.chat import blank

    out = io.BytesIO()
    blank(width, height).save(out, "PNG")
    return out.getvalue()


def _on(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Return the batch on the model's device."""
    return {key: value.to(model.device) for key, value in batch.items()}


def _logits(model: Any, batch: dict[str, Any]) -> Any:
    import torch

    with torch.no_grad():
        found = model(**_on(model, batch), use_cache=False).logits.float().cpu().numpy()
    return found[batch["attention_mask"].numpy().astype(bool)]


def _losses(model: Any, batch: dict[str, Any]) -> Any:
    """Return the mean loss of every row [B]."""
    import torch

    inputs = _on(model, batch)
    labels = inputs.pop("labels")
    with torch.no_grad():
        logits = model(**inputs, use_cache=False).logits.float()
    each = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none", ignore_index=-100
    )
    return (each.sum(1) / (labels[:, 1:] != -100).sum(1)).cpu().numpy()


def _used(model: Any, batch: dict[str, Any]) -> set[str]:
    """Return the linear layers that a gradient reaches when all weights are trained."""
    model.zero_grad()
    model.requires_grad_(True)
    model(**_on(model, batch), use_cache=False).loss.backward()
    found = {name.removesuffix(".weight") for name, weight in model.named_parameters() if _reached(weight)}
    model.zero_grad()
    return found


def _reached(weight: Any) -> bool:
    return weight.grad is not None and bool(weight.grad.abs().max() > 1e-9)


def outcome(check: Callable[[], None]) -> str:
    """Return `ok`, or in a line what went wrong."""
    try:
        check()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the result
        traceback.print_exc()
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error) else ''}"[:300]
    return "ok"


def main(family: str, name: str, folder: str = "", part: str = "", settings: str = "{}") -> None:
    if folder:
        Case(family, name, Path(folder)).train(Path(folder) / part, json.loads(settings))
        return
    with tempfile.TemporaryDirectory() as made:
        case = Case(family, name, Path(made))
        print(json.dumps({check: outcome(getattr(case, check)) for check in CHECKS}))  # noqa: T201 - its answer


if __name__ == "__main__":
    main(*sys.argv[1:])
