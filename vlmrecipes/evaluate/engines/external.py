"""Engines that ask another program: opened from a recipe's settings, checked before a run is made."""

from __future__ import annotations

from vlmrecipes.evaluate.engines import Engine
from vlmrecipes.evaluate.engines.openai import OpenAIEngine, reachable
from vlmrecipes.evaluate.engines.tesseract import TesseractEngine, language_files, version
from vlmrecipes.models.catalog import ModelRef
from vlmrecipes.recipe import Eval


def external(settings: Eval, max_new_tokens: int) -> Engine:
    """Return the engine `settings.engine`. Raises MissingExtraError when its program is not installed."""
    if settings.engine == "tesseract":
        return TesseractEngine(settings.tesseract)
    return OpenAIEngine(settings.openai, max_new_tokens)


def model_of(settings: Eval) -> ModelRef:
    """Return what identifies the program that answers. Raises MissingExtraError or InputError as its engine does."""
    if settings.engine == "tesseract":
        return ModelRef("tesseract", "", version(), language_files(settings.tesseract.language))
    return ModelRef(settings.openai.model, settings.openai.base_url, "", {})


def problems(settings: Eval) -> list[tuple[str, str]]:
    """Return what is missing or wrong, as (key of the recipe, sentence) pairs."""
    if settings.engine != "openai":
        return []
    found = []
    if not settings.openai.model:
        found.append(("eval.openai.model", "what the server calls the model: say --model NAME"))
    if not settings.openai.base_url:
        found.append(("eval.openai.base_url", "where the server is: say --base-url http://localhost:8000/v1"))
    elif reason := reachable(settings.openai):
        found.append(("eval.openai.base_url", reason))
    return found
