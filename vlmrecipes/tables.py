"""TOML files read into frozen pydantic models, with every problem told at once.

The one place that turns validation errors into `Problem`s: key path, value found, way out.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
import tomllib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from vlmrecipes.errors import InputError, Problem

MAX_BYTES = 1 << 20
"""A declaration or recipe larger than this is refused unread."""
SHOWN = 60
"""So many characters of a value found are shown."""


class Table(BaseModel):
    """A TOML table: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> Any:
        """Describe every key by the text under its field; pydantic could, but would read the sources at every start."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for name, text in _texts_under_fields(cls).items():
            properties[name]["description"] = text
        return schema


def _texts_under_fields(table: type[Table]) -> dict[str, str]:
    """Return the strings that follow the fields of a table and of those that it extends, by name."""
    texts: dict[str, str] = {}
    for one in reversed(table.__mro__):
        if not issubclass(one, Table):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0].body  # type: ignore[attr-defined] # a class
        for field, below in pairwise(body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = inspect.cleandoc(text)
    return texts


T = TypeVar("T", bound=Table)


def _list_to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


FROM_LIST = BeforeValidator(_list_to_tuple)
"""Lets a TOML list stand where a frozen model holds a tuple."""
Strings = Annotated[tuple[str, ...], FROM_LIST]

_TYPES = {
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def read_toml(path: Path, name: str) -> dict[str, Any]:
    """Return the parsed file; `name` is how messages call it. Raises InputError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError.one(f"larger than {MAX_BYTES} bytes: not a file written by a person", file=name)
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError.one("no such file", file=name) from None
    except OSError as error:
        raise InputError.one(f"cannot be read: {error.strerror}", file=name) from None
    except UnicodeDecodeError as error:
        raise InputError.one(f"not UTF-8 text (byte {error.start})", file=name) from None
    except tomllib.TOMLDecodeError as error:
        raise InputError.one(f"not valid TOML: {error}", file=name) from None
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, lists in lists a thousand deep.
        raise InputError.one(f"not a file written by a person: {error}", file=name) from None


def parse(model: type[T], data: dict[str, Any], name: str) -> T:
    """Return `data` as a `model`. Raises InputError with all its problems, keys as a reader of the file sees them."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(_problems(model, data, [dict(item) for item in error.errors()], name)) from None


def _problems(model: type[Table], data: dict[str, Any], items: list[dict[str, Any]], name: str) -> list[Problem]:
    """Return one problem a place. Where a value may be of several types, pydantic tells of each that it is not."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for item in items:
        found.setdefault(_place(data, item), []).append(item)
    inner = [place for place in found if not any(place == other[: len(place)] != other for other in found)]
    return [
        Problem(name, key_path(place), _told(found[place], _known(model, found[place][0]["loc"][:-1])))
        for place in inner
    ]


def _place(data: Any, item: dict[str, Any]) -> tuple[Any, ...]:
    """Return the item's path in the file: without what pydantic puts in for the members of a union."""
    if not item["loc"]:  # tables that do not go together
        return ()
    holder, path = data, []
    for part in item["loc"]:
        try:
            holder = holder[part]
        except (KeyError, IndexError, TypeError):
            continue
        path.append(part)
    last = item["loc"][-1]
    absent = isinstance(holder, dict) and last not in holder and not isinstance(item["input"], dict)
    return (*path, last) if absent or item["type"] == "missing" else tuple(path)


def _told(items: Sequence[dict[str, Any]], known: Sequence[str]) -> str:
    wanted = [_TYPES[item["type"]] for item in items if item["type"] in _TYPES]
    if wanted and len(items) > 1:
        wanted += [item["ctx"]["expected"] for item in items if item["type"] == "literal_error"]
    if len(wanted) == len(items):
        return f"expected {' or '.join(dict.fromkeys(wanted))}, found {_shown(items[0]['input'])}"
    return _sentence(items[0], known)


def key_path(parts: Sequence[Any]) -> str:
    """Return `source[0].path` for `("source", 0, "path")`."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _sentence(item: dict[str, Any], known: Sequence[str]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    told: dict[str, Callable[[], str]] = {
        "extra_forbidden": lambda: _unknown_key(str(item["loc"][-1]), known),
        "missing": lambda: "missing; it must be given",
        "value_error": lambda: str(context["error"]),
        "union_tag_not_found": lambda: "missing `type`; it says what kind of table this is",
        "union_tag_invalid": lambda: f"unknown type {context['tag']!r}; known: {context['expected_tags']}",
        "literal_error": lambda: f"must be {context['expected']}, found {_shown(item['input'])}",
    }
    if kind in told:
        return told[kind]()
    message = item["msg"].replace("Input should be", "must be")
    return f"{message[0].lower()}{message[1:]}, found {_shown(item['input'])}"


def _unknown_key(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    names = f" (known: {', '.join(sorted(known))})" if known else ""
    return f"unknown key{hint}{names}"


def _known(model: type[Table], loc: Sequence[Any]) -> list[str]:
    """Return the keys that the table at `loc` may have; empty when the path leads through a plain value."""
    here: Any = model
    for part in loc:
        if isinstance(part, int):
            continue
        options = _tables_in(here)
        here = next((o for o in options if part in _tags(o)), None) or next(
            (o.model_fields[part].annotation for o in options if part in o.model_fields), here
        )
    return sorted({key for option in _tables_in(here) for key in option.model_fields})


def _tables_in(annotation: Any) -> list[type[Table]]:
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return [annotation]
    return [table for arg in getattr(annotation, "__args__", ()) for table in _tables_in(arg)]


def _tags(table: type[Table]) -> tuple[Any, ...]:
    field = table.model_fields.get("type")
    return getattr(field.annotation, "__args__", ()) if field else ()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def override(data: dict[str, Any], assignments: Sequence[str]) -> None:
    """Set `lora.r=8` and the like in `data`, in place; values are read as TOML, bare words as text. Raises InputError."""
    problems = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            problems.append(Problem("--set", assignment, "expected KEY=VALUE, as in --set train.steps=30"))
            continue
        *parents, last = path.strip().split(".")
        table = data
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                problems.append(Problem("--set", path, f"{parent!r} is a value, not a table"))
                break
        else:
            table[last] = _toml_value(text)
    if problems:
        raise InputError(problems)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
