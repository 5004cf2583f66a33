"""`doctor`: what this machine has, and what is missing."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from vlmrecipes.errors import VlmRecipesError


def checks(store: str) -> list[dict[str, str]]:
    """Return `{check, state, detail}` each; state is `ok`, `warning` or `error`."""
    found = [*_packages(), _python(), _device(), _model(), _store(store)]
    return [{"check": check, "state": state, "detail": detail} for check, state, detail in found]


Finding = tuple[str, str, str]


def _python() -> Finding:
    return "python", "ok", f"{platform.python_version()} on {platform.platform()}"


def _packages() -> Iterator[Finding]:
    """Compare what is installed with what the package asks for."""
    from packaging.requirements import Requirement

    try:
        needs = requires("vlmrecipes") or []
    except PackageNotFoundError:
        yield "vlmrecipes", "warning", "run from its source, not installed: what it needs is not compared"
        return
    for text in needs:
        need = Requirement(text)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            there = version(need.name)
        except PackageNotFoundError:
            yield need.name, "error", f"not installed: pip install '{need.name}{need.specifier}'"
            continue
        fits = need.specifier.contains(there, prereleases=True)
        detail = there if fits else f"{there} does not fit {need.specifier}: pip install '{need.name}{need.specifier}'"
        yield need.name, "ok" if fits else "error", detail


def _device() -> Finding:
    from vlmrecipes.extras import need

    torch = need("torch", "train and generate")
    if torch.cuda.is_available():
        return "device", "ok", f"{torch.cuda.get_device_name()} (torch {torch.__version__})"
    return "device", "ok", f"no GPU; the built-in model trains on {torch.get_num_threads()} CPU threads"


def _model() -> Finding:
    from vlmrecipes.models.catalog import resolve

    try:
        return "builtin:reader", "ok", resolve("builtin:reader").path
    except VlmRecipesError as error:
        return "builtin:reader", "error", str(error)


def _store(store: str) -> Finding:
    from vlmrecipes.data.place import is_remote
    from vlmrecipes.data.snapshot import list_snapshots

    try:
        if not is_remote(store) and not Path(store).exists():
            return "store", "ok", f"{store}: not made yet"
        return "store", "ok", f"{store}: {len(list_snapshots(store))} snapshots"
    except VlmRecipesError as error:
        return "store", "error", str(error)
