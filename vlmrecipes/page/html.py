"""Templates rendered to one file of HTML that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from vlmrecipes.page import formats
from vlmrecipes.page.difference import visible
from vlmrecipes.page.pictures import Picture

HOME = "vlmrecipes.page"


def render(package: str, template: str, *, title: str, pictures: Mapping[str, Picture], **values: Any) -> bytes:
    """Return the page that `template`, a resource of `package` extending `shell.html.jinja`, makes of `values`.

    Whatever the values hold is text: it is escaped, and control characters become visible. The stylesheet is the only one
    that the page's own policy lets a browser apply; scripts and the network are shut out.
    """
    css = _text(HOME, "page.css")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode("ascii")
    page = _engine(package).get_template(template)
    text = page.render(title=title, pictures=pictures, css=css, css_sha256=digest, **values)
    return str(text).encode("utf-8", "replace")


def _engine(package: str) -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    engine = Environment(
        loader=FunctionLoader(lambda name: _text(package if _is_there(package, name) else HOME, name)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    engine.filters |= {"moment": formats.moment, "number": formats.number, "duration": formats.duration}
    return engine


def _is_there(package: str, name: str) -> bool:
    return resources.files(package).joinpath(name).is_file()


def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
