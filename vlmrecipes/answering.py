"""The models of a run as they answer: which weights, on which engine, and what they have said before."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.evaluate.cache import Cache, answerer
from vlmrecipes.evaluate.engines import Engine
from vlmrecipes.evaluate.engines.external import external, model_of
from vlmrecipes.plan import Plan
from vlmrecipes.plan.checks import EXTERNAL
from vlmrecipes.records import ledger

if TYPE_CHECKING:
    from vlmrecipes.evaluate.engines.hf import HfEngine
    from vlmrecipes.models.catalog import ModelRef

ANSWERS = "answers"
"""Folder beside the runs: what models have said before; it may be deleted at any time."""


class Models:
    """The base model of a plan and what was trained from it, the base loaded once."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        """Take the plan and the folder of its run; nothing is loaded yet."""
        self.plan, self.recipe, self.folder = plan, plan.recipe, folder
        self._base: tuple[Any, Any] | None = None

    def base(self) -> tuple[Any, Any]:
        """Return the base model and its processor; loaded once, and again when it was let go."""
        from vlmrecipes.models.load import device, load_model, load_processor

        if self._base is None:
            model, trust = self.recipe.model, self.recipe.model.trust_remote_code
            processor = load_processor(self.plan.model, trust_remote_code=trust)
            loaded = load_model(
                self.plan.model,
                init=model.init,
                load_in=model.load_in,
                device=device(),
                seed=self.recipe.train.seed,
                trust_remote_code=trust,
            )
            self._base = loaded, processor
        return self._base

    def forget(self) -> None:
        """Let go of the base model and the memory that it takes on the device."""
        self._base = None
        gc.collect()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()

    def answers(self, tuned: Path | None) -> tuple[Engine, Cache | None]:
        """Return the engine of the weights in `tuned`, or of the base model, and what it has said before."""
        if self.recipe.eval.engine in EXTERNAL:
            return external(self.recipe.eval, self.plan.max_new_tokens), self._external_cache()
        return self._engine(tuned), self._cache(tuned)

    def _engine(self, tuned: Path | None) -> HfEngine:
        if self.recipe.eval.engine == "unsloth":
            return self._answering(*self._unsloth(tuned), tuned, compact=False)
        return self._answering(*(self._tuned(tuned) if tuned else self.base()), tuned)

    def _tuned(self, folder: Path) -> tuple[Any, Any]:
        """Return the model with its adapter, or the whole model that was trained, as anyone would load it from disk."""
        from vlmrecipes.models.load import device, load_adapter, load_model, load_processor

        ref, adapter = self._weights(folder)
        if adapter is not None:
            model, processor = self.base()
            return load_adapter(model, adapter), processor
        trust = self.recipe.model.trust_remote_code
        model = load_model(ref, load_in=self.recipe.model.load_in, device=device(), trust_remote_code=trust)
        return model, load_processor(ref, trust_remote_code=trust)

    def _weights(self, folder: Path | None) -> tuple[ModelRef, Path | None]:
        """Return the model to load, and the adapter to put on it, for what was trained into `folder`."""
        from vlmrecipes.models import catalog

        if folder is None:
            return self.plan.model, None
        if (folder / "adapter_config.json").exists():
            return self.plan.model, folder
        return catalog.resolve(str(folder)), None

    def _unsloth(self, tuned: Path | None) -> tuple[Any, Any]:
        """Return the model that answers by Unsloth's own kernels, and its processor."""
        from vlmrecipes.models import unsloth

        unsloth.begin(self.folder / "compiled")
        from vlmrecipes.models.load import load_adapter, load_processor

        self.forget()
        ref, adapter = self._weights(tuned)
        model = unsloth.load(ref, self.recipe, trains=False)
        model = load_adapter(model, adapter) if adapter else model
        return unsloth.answering(model), load_processor(ref, trust_remote_code=self.recipe.model.trust_remote_code)

    def _answering(self, model: Any, processor: Any, tuned: Path | None, *, compact: bool = True) -> HfEngine:
        from vlmrecipes.evaluate.engines.hf import HfEngine
        from vlmrecipes.models.load import unapplied

        settings = self.recipe.eval
        adapter, told = "none", {}
        if tuned is not None and hasattr(model, "merge_and_unload"):
            adapter, told = settings.adapter, {"adapter_weights": unapplied(model, tuned)}
        return HfEngine(
            model.merge_and_unload() if adapter == "merged" else model,
            processor,
            self.plan.max_new_tokens,
            rows=settings.batch_size,
            tokens=settings.batch_tokens,
            compact=compact,
            settings={"engine": settings.engine, "adapter": adapter, **told},
        )

    def _cache(self, tuned: Path | None) -> Cache | None:
        """Return what the base model, or the weights in `tuned`, has said before."""
        from vlmrecipes.models import catalog
        from vlmrecipes.models.load import device

        ref, adapter = self._weights(tuned)
        model, scoring = self.recipe.model, self.recipe.eval
        settings = {
            "engine": scoring.engine,
            "adapter": scoring.adapter if adapter else "none",
            "load_in": model.load_in,
            "random": self.recipe.train.seed if model.init == "config" else None,
            "device": device(),
        }
        fresh = catalog.resolve(
            ref.id, ref.revision, weights=model.init == "weights"
        )  # it may have changed since the plan
        return self._opened(answerer(fresh, adapter, settings))

    def _external_cache(self) -> Cache | None:
        scoring = self.recipe.eval
        settings = {"engine": scoring.engine, "psm": scoring.tesseract.psm, "language": scoring.tesseract.language}
        return self._opened(answerer(model_of(scoring), None, settings))

    def _opened(self, who: str) -> Cache | None:
        if not who or not self.recipe.eval.cache:
            return None
        return Cache(ledger.home(self.plan.store).parent / ANSWERS / f"{who}.jsonl", self.plan.max_new_tokens)
