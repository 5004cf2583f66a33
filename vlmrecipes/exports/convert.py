"""llama.cpp's converter started with a tokenizer that it may not know.

    python convert.py SCRIPT ARGUMENTS…

The converter refuses byte-pair tokenizers whose way of cutting text before the merges it has not seen. A tokenizer without
merges (bytes alone) gives the same tokens however the text is cut, so it is let through as GPT-2's. Run as a script, this
imports nothing of vlmrecipes.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MERGES = "merges.txt"
WINDOWS = "clip.vision.n_wa_pattern"
UNUSED = "#version: 0.2\n\u0100 \u0100\n"
"""llama.cpp wants a list of merges: this one's result is in no vocabulary, so that it stays two bytes."""


@contextmanager
def prepared(folder: Path) -> Iterator[None]:
    """Give a tokenizer without merges the list that llama.cpp wants, for as long as the block lasts."""
    file = folder / MERGES
    made = _without_merges(folder) and not file.exists()
    if made:
        file.write_text(UNUSED, "utf-8")
    try:
        yield
    finally:
        if made:
            file.unlink()


def without_windows(mmproj: Path) -> None:
    """Say of a vision tower whose every block sees the whole picture that it has no windows.

    The converter writes that every first block does, upon which llama.cpp prepares windows that no block uses, and aborts.
    """
    import gguf

    field = gguf.GGUFReader(str(mmproj), "r+").get_field(WINDOWS)
    if field is not None and field.contents() == 1:
        field.parts[-1][0] = 0


def main(script: Path, arguments: list[str]) -> None:
    """Run the converter as if it had been called itself."""
    sys.path.insert(0, str(script.parent))
    sys.argv = [str(script), *arguments]
    if _without_merges(Path(arguments[0])):
        _let_through(script.parent)
    runpy.run_path(str(script), run_name="__main__")


def _without_merges(folder: Path) -> bool:
    try:
        model = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]
    except (OSError, ValueError, KeyError):
        return False
    return model.get("type") == "BPE" and not model.get("merges")


def _let_through(folder: Path) -> None:
    """Answer for the converter's table of known tokenizers; of the versions since it became a package."""
    sys.path.insert(1, str(folder / "gguf-py"))
    try:
        from conversion import base  # type: ignore[import-not-found]
    except ImportError:
        return

    def known(_model: Any, _tokenizer: Any) -> str:
        return "gpt-2"

    base.TextModel.get_vocab_base_pre = known


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
