"""Weights and everything that is loaded with them, written into a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from vlmrecipes.exports import note
from vlmrecipes.exports.parity import free
from vlmrecipes.exports.plain import digests
from vlmrecipes.exports.source import CONFIG, Source
from vlmrecipes.models.load import device, load_model

LOADED = (".json", ".jinja", ".txt", ".model", ".py")
"""Endings of the files beside the weights that transformers, vLLM and llama.cpp read."""
OWN = ("config.json", "generation_config.json", CONFIG, note.NAME)
"""Files that belong to weights."""


def write_adapter(source: Source, folder: Path) -> None:
    """Copy the adapter with its processor.

    The adapter's configuration names the base's revision where the record has one.
    """
    assert source.adapter is not None  # noqa: S101 - the format is refused before
    shutil.copytree(source.adapter, folder, dirs_exist_ok=True)
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    config["revision"] = source.record["model"]["revision"] or None
    (folder / CONFIG).write_text(json.dumps(config, indent=2), "utf-8")


def write_merged(source: Source, folder: Path, max_shard_size: str) -> dict[str, str]:
    """Write the merged model in 16 bits with its processor; returns the digests of what was to be written.

    The adapter is added to the weights in the base model's files. Where it was trained on those weights brought to 4 bits, they
    are not what it is added to: the result is a little different from what was trained.
    """
    import torch

    model = source.merged()
    kind = torch.float16 if getattr(model.config, "dtype", None) == torch.float16 else torch.bfloat16
    model = model.to(kind)
    for config in (model.config, *(getattr(model.config, part, None) for part in model.config.sub_configs)):
        if config is not None:
            config.dtype = kind
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    found = digests(model)
    del model
    free()
    write_processor(source, folder)
    return found


def write_merged_4bit(source: Source, folder: Path, max_shard_size: str) -> None:
    """Write the merged model quantised to 4 bits (NF4) by bitsandbytes, which needs a GPU."""
    from vlmrecipes.models.catalog import resolve

    whole = folder.with_name(f"{folder.name}.16bit")
    try:
        write_merged(source, whole, max_shard_size)
        model = load_model(resolve(str(whole)), load_in="4bit", device=device())
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        del model
        free()
    finally:
        shutil.rmtree(whole, ignore_errors=True)
    write_processor(source, folder)


def write_processor(source: Source, folder: Path) -> None:
    """Copy the files that the processor was loaded from; where they are not at hand, write it anew."""
    place = Path(source.base.path)
    if not place.is_dir():
        source.processor().save_pretrained(folder)
        return
    for file in sorted(place.iterdir()):
        if file.suffix in LOADED and file.name not in OWN and not file.name.endswith(".index.json"):
            shutil.copy(file, folder / file.name)
