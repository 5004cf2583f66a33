"""The command line: one function a verb, a thin layer over the Python API."""

from __future__ import annotations


def main() -> None:
    """Run the command line; the entry point of `vlmrecipes`."""
    from vlmrecipes.cli.app import app

    app()
