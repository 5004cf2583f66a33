"""What a `datasets/*.toml` says, read into frozen tables."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from vlmrecipes import tables
from vlmrecipes.data.source_tables import Source, called
from vlmrecipes.tables import FROM_LIST, Strings, Table

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Prepare(Table):
    """What happens to every image, in this order: size check, decode, upright, alpha on white, colour, crop, resize, encode."""

    for_model: str = ""
    """`builtin:reader`, a model folder (relative to this file) or a hub id in the local cache: `max_side`, `max_pixels` and
    `multiple_of` become what its image processor takes; those given here stay."""
    max_side: int | None = Field(default=1000, ge=1)
    """Longer side in pixels after resizing; larger images are shrunk, aspect kept."""
    min_side: int | None = Field(default=None, ge=1)
    """Shorter side in pixels; smaller images are enlarged, aspect kept, but never over `max_side`."""
    max_pixels: int | None = Field(default=None, ge=1)
    """Width times height after resizing."""
    multiple_of: int = Field(default=1, ge=1)
    """Both sides are rounded to a multiple of this many pixels."""
    mode: Literal["RGB", "L"] = "RGB"
    """Colour mode that is stored."""
    format: Literal["auto", "PNG", "JPEG"] = "auto"
    """How images are stored; `auto` keeps a JPEG a JPEG, all else becomes PNG."""
    quality: int = Field(default=95, ge=1, le=100)
    """JPEG quality, when a JPEG has to be encoded again."""
    max_source_pixels: int = Field(default=100_000_000, ge=1)
    """Images of more pixels than this are dropped before they are decoded."""
    min_source_side: int = Field(default=2, ge=1)
    """Images (after `crop`) with a shorter side are dropped."""


class Dedup(Table):
    """Which duplicates are dropped."""

    exact: bool = True
    """Drop rows whose decoded images, messages and references are all equal to another row's."""
    near: int | None = Field(default=None, ge=0, le=12)
    """Images whose 64-bit perceptual hashes differ in at most so many bits (and whose 256-bit hashes and colours agree) are
    near: a row with the same prompt and answers as a near one is dropped, others stay on its side. 4 finds resized and
    recompressed copies; crops and flips are not found. Default: not searched."""
    keep: Literal["largest", "first-by-id"] = "largest"
    """Which of near duplicates stays, after those declared for eval: the one with most pixels, or the first by content."""
    decontaminate: Strings = ()
    """Snapshots (`benchmark@1`) of the same store: training rows with an image near one of their eval side are dropped."""

    @model_validator(mode="after")
    def _exact_first(self) -> Dedup:
        if self.near is not None and not self.exact:
            raise ValueError("`near` drops exact duplicates too: take out `exact = false`, or `near`")
        return self


class SplitRule(Table):
    """How samples that bring no split of their own are divided."""

    eval: float = Field(default=0.1, ge=0, le=1)
    """Share of groups on the eval side."""
    salt: str = ""
    """Changing it deals the groups anew; default: the declaration's name."""
    stratify: str = ""
    """`{column}` of `metadata`; each of its values gets its share of eval, as nearly as whole groups allow. A grown set keeps
    whom its parent snapshot had in eval, so its split depends on what it grew from."""

    @property
    def column(self) -> str:
        """Return the column that `stratify` names, without braces."""
        return self.stratify.strip("{}")


class Declaration(Table):
    """A dataset: where its rows come from and what is done to them."""

    name: str
    """Lower-case letters, digits, `.`, `_`, `-`; snapshots are called `name@N`."""
    description: str = ""
    license: str = ""
    """SPDX identifier of the data's licence, kept in the manifest."""
    max_dropped: float = Field(default=0.05, ge=0, le=1)
    """A larger share of dropped rows (duplicates not counted) stops the ingest."""
    source: Annotated[tuple[Source, ...], FROM_LIST, Field(min_length=1)]
    prepare: Prepare = Prepare()
    dedup: Dedup = Dedup()
    split: SplitRule = SplitRule()

    @model_validator(mode="after")
    def _strata_are_kept(self) -> Declaration:
        column = self.split.column
        if column and any(column not in source.metadata for source in self.source):
            raise ValueError(f"split.stratify: add {column!r} to the `metadata` of every source")
        return self

    @field_validator("source")
    @classmethod
    def _folders_show_their_images(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        for place, source in enumerate(sources):
            if source.type == "folder" and not source.image:
                raise ValueError(f'[{place}] shows none of the images in its folder: add image = "{{path}}"')
        return sources

    @field_validator("source")
    @classmethod
    def _names_are_told_apart(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        names = [called(source, place) for place, source in enumerate(sources)]
        for (a, first), (b, second) in combinations(enumerate(sources), 2):
            parts = first.type == second.type and {first.split, second.split} == {"train", "eval"}
            if names[a] == names[b] and not parts:
                raise ValueError(
                    f"[{b}] has the name of [{a}], {names[a]!r}: give each its own `name`; only a source's train side and "
                    "its eval side may share one"
                )
        return sources

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"must be lower-case letters, digits, '.', '_', '-', at most 64; found {name!r}")
        return name


def read_declaration(path: Path) -> Declaration:
    """Return the declaration in `path`. Raises InputError with every problem of the file."""
    name = str(path)
    return tables.parse(Declaration, tables.read_toml(path, name), name)
