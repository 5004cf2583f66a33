"""The `[[source]]` tables of a declaration, one class a `type`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from vlmrecipes.data.sample import Split
from vlmrecipes.data.template import Template
from vlmrecipes.tables import Strings, Table

COMMIT = re.compile(r"[0-9a-f]{40}")
TEMPLATES = ("key", "image", "crop", "prompt", "messages", "answer", "group", "split")
"""Keys whose texts are templates over a row's columns."""
BRACES = "write {{ and }} for braces of the text itself"


class Rows(Table):
    """What every source says about turning its rows into samples. Texts in braces are templates over a row's columns."""

    name: str = ""
    """Name of the source in records, its own but for a train and an eval side of one; default: its type and place in the file
    (`jsonl-0`)."""
    key: str = ""
    """Template of the row's own key (`{id}`) in records and drops; default: its place in its file, or its name there."""
    explode: str = ""
    """Column that holds a list: one row per element, whose keys join the row's other columns."""
    image: str | Strings = ""
    """A path, URL, base64 or bytes, as a template (`{image}`); a list makes a multi-image sample; empty: text only."""
    allow_hosts: Strings = ()
    """Hosts that image URLs may lead to although their address is private, loopback or link-local."""
    crop: str = ""
    """Template that gives `[x0, y0, x1, y1]` or a polygon `[[x, y], …]` in pixels of the upright image; cuts the first one."""
    prompt: str = ""
    """The user's turn. Images come before it."""
    messages: str = ""
    """Column with a whole chat, `[{"role", "content"}, …]`, instead of `prompt` and `answer`; ends with the answer."""
    answer: Annotated[str | Strings, Field(validate_default=True)] = ""
    """The answer as a template; a template that is one list column (`{answers}`) gives several references."""
    group: str = ""
    """Template; rows with the same text stay on one side of the split. Default: the row's images."""
    split: Split | str = ""
    """`train`, `eval`, or a template that gives one of them; default: decided by `[split]`."""
    metadata: Strings = ()
    """Columns kept with each sample, for breakdowns of a metric."""
    limit: int | None = Field(default=None, ge=1)
    """Take only the first so many rows (after `explode`)."""

    @property
    def chat(self) -> str:
        """`messages` as a template: a name without braces is a column's."""
        return self.messages if "{" in self.messages or not self.messages else "{" + self.messages + "}"

    @property
    def templates(self) -> list[tuple[str, Template]]:
        """Every template that is given, with its key."""
        given = [(key, self.chat if key == "messages" else getattr(self, key)) for key in TEMPLATES]
        return [
            (key, Template(text)) for key, value in given for text in ((value,) if isinstance(value, str) else value)
        ]

    @field_validator(*TEMPLATES)
    @classmethod
    def _braces_hold_columns(cls, value: str | Strings) -> str | Strings:
        for text in (value,) if isinstance(value, str) else value:
            if stray := Template(text).stray:
                raise ValueError(f"a brace that holds no column at {stray[:20]!r}: {BRACES}")
        return value

    @field_validator("answer")
    @classmethod
    def _chat_or_prompt(cls, answer: str | Strings, info: ValidationInfo) -> str | Strings:
        if not {"prompt", "messages"} <= info.data.keys():
            return answer  # what is wrong with those is told already
        prompt, messages = info.data["prompt"], info.data["messages"]
        if messages and (prompt or answer):
            raise ValueError("give either `messages` or `prompt` and `answer`, not both")
        if not messages and not (prompt and answer):
            raise ValueError("give `prompt` and `answer`, or `messages`")
        return answer


class FileRows(Rows):
    """A source that is a file of rows, or several."""

    path: str
    """The file, relative to the declaration; `*`, `**` and `{a,b}`, `{000..012}` name several."""
    root: str = ""
    """Folder that image paths are relative to and may not leave; default: the folder of `path`."""


class JsonlSource(FileRows):
    """One JSON object a line."""

    type: Literal["jsonl"]


class CsvSource(FileRows):
    """Comma-separated values with a header line."""

    type: Literal["csv"]


class ParquetSource(FileRows):
    """Parquet; image columns may hold bytes or `{bytes, path}`."""

    type: Literal["parquet"]


class FolderSource(Rows):
    """A folder of images, with or without `metadata.jsonl` or `metadata.csv`; see `vlmrecipes.data.sources.folder`."""

    type: Literal["folder"]
    path: str
    """The folder, relative to the declaration."""
    pattern: str = "**/*"
    """Glob of the images inside it, for a folder without metadata files."""


class HubSource(Rows):
    """A `datasets` set: of the Hugging Face hub (`repo` and `revision`), or a local folder in the same format (`path`)."""

    type: Literal["hub"]
    path: str = ""
    """The local folder, relative to the declaration."""
    repo: str = Field(default="", pattern=r"^$|^[\w.-]+/[\w.-]+$|^[\w.-]+$")
    """The set's name on the hub, `owner/name`."""
    revision: str = Field(default="", validate_default=True)
    """Commit of the set, 40 hex digits: branches and tags move, and with them what a snapshot was made from."""
    config: str = ""
    """The set's configuration (subset); default: its only one."""
    part: str = "train"
    """The set's own split to read."""

    @field_validator("revision")
    @classmethod
    def _pinned(cls, revision: str, info: ValidationInfo) -> str:
        if not {"repo", "path"} <= info.data.keys():
            return revision  # what is wrong with those is told already
        repo, path = info.data["repo"], info.data["path"]
        if bool(repo) == bool(path):
            raise ValueError("give either `path` (a local folder) or `repo` (a set on the hub) with its `revision`")
        if repo and not COMMIT.fullmatch(revision):
            found = f", found {revision!r}" if revision else ""
            raise ValueError(f"must be a commit of {repo}, 40 hex digits: a branch or tag may move{found}")
        if path and revision:
            raise ValueError("a local folder has no revision; leave it out")
        return revision


class WebdatasetSource(Rows):
    """Tar shards; a run of members with one base name is a row. See `vlmrecipes.data.sources.webdataset`."""

    type: Literal["webdataset"]
    path: str
    """The shards, relative to the declaration: `train-{000..012}.tar`, `shards/*.tar`."""


class PagesSource(FileRows):
    """Pages with their layout in XML: one row a line or region, in reading order. See `vlmrecipes.data.sources.pages`."""

    level: Literal["line", "region"] = "line"
    """What a row is."""


class AltoSource(PagesSource):
    """ALTO XML, versions 1 to 4."""

    type: Literal["alto"]


class PageSource(PagesSource):
    """PAGE XML, 2010 to 2019."""

    type: Literal["page"]


class SyntheticSource(Rows):
    """Rows made by a generator of this package; see `vlmrecipes.data.sources.synthetic` for what each one gives."""

    type: Literal["synthetic"]
    generator: Literal["lines", "shapes", "digit-strings", "easy-vqa"]
    """What makes the rows."""
    count: int = Field(default=1000, ge=1)
    """How many rows to make. `easy-vqa`: how many images."""
    seed: int = Field(default=0, ge=0)
    """Another seed gives other rows."""
    part: Split = "train"
    """Which side of the generator's own material to use (`digit-strings`: which glyphs; `easy-vqa`: which images)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the generator, checked by it."""


Source = Annotated[
    JsonlSource
    | CsvSource
    | ParquetSource
    | FolderSource
    | HubSource
    | WebdatasetSource
    | AltoSource
    | PageSource
    | SyntheticSource,
    Field(discriminator="type"),
]


def called(source: Source, place: int) -> str:
    """Return the name of the source that stands at `place` in its declaration."""
    return source.name or f"{source.type}-{place}"
