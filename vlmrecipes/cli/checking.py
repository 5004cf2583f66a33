"""`check` and `schema`: light, no torch, no store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmrecipes import tables
from vlmrecipes.cli.output import problems_json
from vlmrecipes.errors import InputError


def check_file(path: Path) -> list[dict[str, str]]:
    """Return the problems of a declaration or recipe; which of the two it is, its keys tell."""
    try:
        data = tables.read_toml(path, str(path))
        _check_declaration(data, path) if "source" in data else _check_recipe(data, path)
    except InputError as error:
        return problems_json(error)
    return []


def _check_declaration(data: dict[str, Any], path: Path) -> None:
    from vlmrecipes.data.declaration import Declaration

    declaration = tables.parse(Declaration, data, str(path))
    if declaration.prepare.for_model:
        from vlmrecipes.models.bounds import with_bounds

        with_bounds(declaration, path)


def _check_recipe(data: dict[str, Any], path: Path) -> None:
    from vlmrecipes.evaluate import metrics
    from vlmrecipes.recipe import Recipe

    problems = metrics.problems(_metric_names(data), str(path))
    try:
        tables.parse(Recipe, data, str(path))
    except InputError as error:
        problems = [*error.problems, *problems]
    if problems:
        raise InputError(problems)


def _metric_names(data: dict[str, Any]) -> list[str]:
    """Return the names of metrics in a recipe that may be wrong elsewhere."""
    table = data.get("eval")
    names = table.get("metrics") if isinstance(table, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def json_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of `declaration` or `recipe`. Raises InputError for another word."""
    from vlmrecipes.data.declaration import Declaration
    from vlmrecipes.recipe import Recipe

    models: dict[str, type[tables.Table]] = {"declaration": Declaration, "recipe": Recipe}
    if kind not in models:
        raise InputError.one(f"no schema {kind!r}; there are: declaration, recipe")
    return models[kind].model_json_schema()
