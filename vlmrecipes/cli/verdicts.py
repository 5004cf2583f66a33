"""What `runs rescore`, `verify` and `prune` print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlmrecipes.page.formats import size

SHOWN = 8


def rescore_lines(view: Mapping[str, Any]) -> list[str]:
    """Return the scores found again, and each that differs with both values."""
    lines = [
        f"{view['run']}  {model} {name}: {summary['value']}"
        for model, summaries in view["metrics"].items()
        for name, summary in summaries.items()
    ]
    for each in view["differences"][:SHOWN]:
        where = f"{each['model']} {each['metric']} {each['key']}"
        lines.append(f"DIFFERS  {where}: recorded {each['recorded']}, computed again {each['found']}")
    lines += _more(view["differences"])
    return [*lines, "equal to the last bit" if view["equal"] else f"{len(view['differences'])} values differ"]


def verify_lines(view: Mapping[str, Any]) -> list[str]:
    """Return one line a level, and what is wrong at it."""
    lines = [view["run"]]
    for level, found in view["levels"].items():
        problems = found["problems"]
        state = "FAIL" if not found["ok"] else "note" if problems else "ok  "
        counted = f"  {found['equal']} of {found['n']} rows equal" if "n" in found else ""
        lines.append(f"{state}  {level}{counted}{f'  {len(problems)} differences' if problems else ''}")
        lines += [f"        {problem}" for problem in problems[:SHOWN]]
        lines += _more(problems)
    return lines


def prune_lines(view: Mapping[str, Any]) -> list[str]:
    """Return what was removed, or would be."""
    if not view["paths"]:
        return ["nothing to remove"]
    lines = [f"{size(each['bytes']):>9}  {each['path']}  ({each['why']})" for each in view["paths"]]
    total = size(view["bytes"])
    return [*lines, f"removed {total}" if view["removed"] else f"{total} would be removed; say --yes"]


def _more(found: Any) -> list[str]:
    return [f"        and {len(found) - SHOWN} more, see --json"] if len(found) > SHOWN else []
