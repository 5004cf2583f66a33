"""The files of a new project as text: a declaration, a recipe, and a Makefile of what to do next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlmrecipes.scaffolding.guess import Choice


@dataclass(frozen=True, slots=True)
class Found:
    """What a project is made from."""

    name: str
    choices: tuple[Choice, ...]
    """The keys of its `[[source]]`."""
    metrics: tuple[str, ...]
    columns: Mapping[str, str]
    """Every column with an example of its values."""
    license: str = ""
    eval: float = 0.1
    steps: int = 100


DECLARATION = """\
# Where the rows come from, and what is done to them. `vlmrecipes schema declaration` describes every key.
name = {name}
license = {license}

[[source]]
{source}
[prepare]
max_side = 1000                     # larger images are shrunk to this many pixels

[split]
eval = {eval}                          # share of groups that is scored and never trained on
"""
RECIPE = """\
# What is tuned on what. `vlmrecipes schema recipe` describes every key.
name = {name}
version = "1.0.0"

[data]
train = {name}

[model]
id = "builtin:reader"               # small: reads printed lines on a CPU. On a GPU: a hub id with its `revision`

[lora]
r = 16
projector = "lora"

[train]
batch_size = 8
steps = {steps}

[eval]
metrics = {metrics}
"""
MAKEFILE = """\
# What to do next, in this order. Each is one command of vlmrecipes; `make -n look` shows it.
STORE ?= .vlmrecipes
export VLMRECIPES_STORE = $(STORE)
RECIPE ?= recipes/{name}.toml

.PHONY: all check ingest look plan run report
all: ingest run report

check:                              # every problem of the files, at once
	vlmrecipes check datasets/*.toml recipes/*.toml

ingest: check                       # the data becomes a numbered snapshot
	vlmrecipes ingest datasets/{name}.toml

look:                               # a page of the newest snapshot: pictures, statistics, what was left out
	vlmrecipes snapshots show {name} --html {name}.html

plan:                               # will it work? token lengths, memory, leaks; no training
	vlmrecipes plan $(RECIPE)

run:                                # score, tune, score again
	vlmrecipes run $(RECIPE)

report:                             # the newest run as one page
	vlmrecipes report latest -o report.html
"""
IGNORED = ".vlmrecipes/\n*.html\n"
COMMENTED = 36
"""The column that comments start at."""


def project(found: Found) -> dict[str, str]:
    """Return the files of the project by name."""
    lines = "\n".join(_line(choice, found.columns) for choice in found.choices) + "\n"
    name = toml(found.name)
    declaration = DECLARATION.format(name=name, license=toml(found.license), source=lines, eval=found.eval)
    return {
        f"datasets/{found.name}.toml": declaration,
        f"recipes/{found.name}.toml": RECIPE.format(name=name, steps=found.steps, metrics=toml(found.metrics)),
        "Makefile": MAKEFILE.format(name=found.name),
        ".gitignore": IGNORED,
    }


def toml(value: Any) -> str:
    """Return a text, number, truth value or list of them as TOML; JSON writes these alike, DEL apart."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _line(choice: Choice, columns: Mapping[str, str]) -> str:
    text = f"{choice.key} = {toml(choice.value)}"
    example = columns.get(choice.value.strip("{}"), "") if str(choice.value).startswith("{") else ""
    told = ", ".join(part for part in (choice.why, f"such as {_plain(example)}" if example else "") if part)
    return f"{text.ljust(COMMENTED - 1)} # {told}" if told else text


def _plain(text: str) -> str:
    """Return `text` without what a TOML comment may not hold."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
