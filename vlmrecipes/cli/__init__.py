"""The command line: one function a verb, a thin layer over the Python API."""

from __future__ import annotations

import os


def main() -> None:
    """Run the command line; the entry point of `vlmrecipes`."""
    os.environ.setdefault(
        "PYDANTIC_DISABLE_PLUGINS", "__all__"
    )  # looking for them takes a tenth of a light verb's time
    from vlmrecipes.cli.app import app

    app()
