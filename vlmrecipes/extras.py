"""The one door to heavy packages: imported on first use, missing ones named with their install command."""

from __future__ import annotations

import importlib
from typing import Any

from vlmrecipes.errors import MissingExtraError

INSTALL = {
    "gguf": "vlmrecipes[gguf]",
    "sentencepiece": "vlmrecipes[gguf]",
    "lance": "pylance",
    "mlflow": "vlmrecipes[mlflow]",
    "optuna": "vlmrecipes[search]",
    "tensorboard": "vlmrecipes[tensorboard]",
    "unsloth": "vlmrecipes[unsloth]",
    "bitsandbytes": "bitsandbytes",
    "sacrebleu": "vlmrecipes[captions]",
    "pillow_heif": "vlmrecipes[heic]",
}


def need(module: str, purpose: str) -> Any:
    """Import and return `module`; `purpose` ends the sentence "X is needed to …".

    Raises MissingExtraError with the pip command when it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name != package:
            raise
        target = INSTALL.get(package, package)
        raise MissingExtraError(f"{package} is needed to {purpose}: pip install '{target}'") from None
