import os
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from vlmrecipes.models.catalog import ModelRef, resolve
from vlmrecipes.models.load import load_model, load_processor


@pytest.fixture(scope="session")
def reader() -> ModelRef:
    return resolve("builtin:reader", weights=False)


@pytest.fixture(scope="session")
def processor(reader: ModelRef) -> Any:
    return load_processor(reader)


@pytest.fixture(scope="session")
def model(reader: ModelRef) -> Any:
    return load_model(reader, init="config", seed=1)
