"""The pictures that runs were scored on, from the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.errors import StoreError, VlmRecipesError
from vlmrecipes.progress import say
from vlmrecipes.records import record

Images = Callable[[Sequence[str]], Mapping[str, bytes]]
"""Returns the prepared bytes of the image keys it is given, without those it does not have."""


def images(store: str, folders: Sequence[Path]) -> Images:
    """Return a function from image keys to bytes, over all snapshots that the runs name; what is gone is left out."""
    readers = []
    for folder in folders:
        for part in record.read(folder).get("data") or ():
            try:
                readers.append(open_snapshot(store, part["snapshot"]).reader())
            except VlmRecipesError as error:
                say(f"pictures of {part['snapshot']} cannot be shown: {error}")

    def found_in_store(keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for reader in readers:
            for key in keys:
                if key not in found:
                    try:
                        found[key] = reader.read([key])[0]
                    except StoreError:
                        continue
        return found

    return found_in_store
