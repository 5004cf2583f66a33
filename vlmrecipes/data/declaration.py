"""What a `datasets/*.toml` says, read into frozen tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from vlmrecipes import tables
from vlmrecipes.data.sample import Split
from vlmrecipes.tables import FROM_LIST, Strings, Table

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Rows(Table):
    """What every source says about turning its rows into samples. Texts in braces are templates over a row's columns."""

    name: str = ""
    """Name of the source in records; default: its type and place in the file (`jsonl-0`)."""
    explode: str = ""
    """Column that holds a list: one row per element, whose keys join the row's other columns."""
    image: str | Strings = ""
    """A path, base64 or bytes, as a template (`{image}`); a list of templates makes a multi-image sample; empty: text only."""
    crop: str = ""
    """Template that gives `[x0, y0, x1, y1]` in pixels of the upright image; cuts the first image."""
    prompt: str = ""
    """The user's turn. Images come before it."""
    messages: str = ""
    """Column with a whole chat, `[{"role", "content"}, …]`, instead of `prompt` and `answer`; ends with the answer."""
    answer: str | Strings = ""
    """The answer as a template; a template that is one list column (`{answers}`) gives several references."""
    group: str = ""
    """Template; rows with the same text stay on one side of the split. Default: the row's images."""
    split: Split | str = ""
    """`train`, `eval`, or a template that gives one of them; default: decided by `[split]`."""
    metadata: Strings = ()
    """Columns kept with each sample, for breakdowns of a metric."""
    limit: int | None = Field(default=None, ge=1)
    """Take only the first so many rows (after `explode`)."""

    @model_validator(mode="after")
    def _chat_or_prompt(self) -> Rows:
        if self.messages and (self.prompt or self.answer):
            raise ValueError("give either `messages` or `prompt` and `answer`, not both")
        if not self.messages and not (self.prompt and self.answer):
            raise ValueError("give `prompt` and `answer`, or `messages`")
        return self


class FileRows(Rows):
    """A source that is a file of rows."""

    path: str
    """The file, relative to the declaration."""
    root: str = ""
    """Folder that image paths are relative to and may not leave; default: the folder of `path`."""


class JsonlSource(FileRows):
    """One JSON object a line."""

    type: Literal["jsonl"]


class CsvSource(FileRows):
    """Comma-separated values with a header line."""

    type: Literal["csv"]


class ParquetSource(FileRows):
    """A Parquet file; image columns may hold bytes or `{bytes, path}`."""

    type: Literal["parquet"]


class FolderSource(Rows):
    """A folder of images. Columns: `path`, `name`, `stem`, `parent`, `text` (a `.txt` beside the image, when there is one)."""

    type: Literal["folder"]
    path: str
    """The folder, relative to the declaration."""
    pattern: str = "**/*"
    """Glob of the images inside it."""


class SyntheticSource(Rows):
    """Rows made by a generator of this package; see `vlmrecipes.data.sources.synthetic` for what each one gives."""

    type: Literal["synthetic"]
    generator: Literal["lines", "shapes", "digit-strings", "easy-vqa"]
    count: int = Field(default=1000, ge=1)
    """How many rows to make. `easy-vqa`: how many images."""
    seed: int = Field(default=0, ge=0)
    part: Split = "train"
    """Which side of the generator's own material to use (`digit-strings`: which glyphs; `easy-vqa`: which images)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the generator, checked by it."""


Source = Annotated[
    JsonlSource | CsvSource | ParquetSource | FolderSource | SyntheticSource, Field(discriminator="type")
]


class Prepare(Table):
    """What happens to every image, in this order: size check, decode, upright, alpha on white, colour, crop, resize, encode."""

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
    """Drop rows whose decoded images, messages and references are all equal to an earlier row's."""


class SplitRule(Table):
    """How samples that bring no split of their own are divided."""

    eval: float = Field(default=0.1, ge=0, le=1)
    """Share of groups on the eval side."""
    salt: str = ""
    """Changing it deals the groups anew; default: the declaration's name."""


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
