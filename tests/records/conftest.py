from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlmrecipes.records import predictions, record

ENVIRONMENT = {"python": "3.11.9", "packages": {"numpy": "2.4.0"}}


@pytest.fixture
def picture() -> tuple[str, bytes]:
    """Return a picture's key and bytes."""
    buffer = io.BytesIO()
    Image.new("RGB", (900, 60), (200, 220, 240)).save(buffer, "PNG")
    return hashlib.sha256(buffer.getvalue()).hexdigest(), buffer.getvalue()


def metric(value: float, **more: Any) -> dict[str, Any]:
    counts = {"n": 4, "numerator": value * 100, "denominator": 100, "macro": value, "by": {}}
    method = {"method": "bootstrap", "resamples": 1000, "seed": 1, "better": "lower"}
    return {"spec": "cer/ws@1", "value": value, "low": value * 0.9, "high": value * 1.1} | counts | method | more


def rows(key: str) -> list[dict[str, Any]]:
    said = {
        "base": {"a": "T0TAL 12", "b": "xx", "c": "good", "d": "CASH"},
        "tuned": {"a": "TOTAL 12", "b": None, "c": "goad", "d": "CASH"},
    }
    wrong = {"base": {"a": 1, "b": 4, "c": 0, "d": 0}, "tuned": {"a": 0, "b": 4, "c": 1, "d": 0}}
    references = {"a": ["TOTAL 12"], "b": ["MILK"], "c": ["good", "good", "fine"], "d": ["CASH"]}
    return [
        {
            "model": model,
            "id": sample,
            "prediction": text,
            "references": references[sample],
            "prompt": "Read the text.",
            "images": [key] if sample != "d" else ["0" * 64],
            "group": "page-1.png",
            "split": "eval",
            "source": "lines.jsonl",
            "metadata": json.dumps({"page": 1}),
            "tokens": 3,
            "truncated": sample == "c",
            "cer.numerator": wrong[model][sample],
            "cer.denominator": len(references[sample][0]),
        }
        for model, answers in said.items()
        for sample, text in answers.items()
    ]


@pytest.fixture
def finished(tmp_path: Path, picture: tuple[str, bytes]) -> Callable[..., Path]:
    """Return a function that makes the folder of a complete run; `fields` replace those of its record."""

    def make(run: str = "20261121-101530-3fa9c1", table: list[dict[str, Any]] | None = None, **fields: Any) -> Path:
        folder = tmp_path / "runs" / run
        recipe = fields.pop("recipe", {"name": "lines", "version": "1.0.0", "resolved": {"train": {"steps": 9}}})
        record.start(folder, run=run, kind="train", recipe=recipe, environment=ENVIRONMENT)
        predictions.write(folder / predictions.NAME, table or rows(picture[0]), ["cer"])
        points = [json.dumps({"step": step, "loss": 3 / step, "learning_rate": 0.1}) for step in range(1, 10)]
        (folder / "metrics.jsonl").write_text("\n".join(points) + '\n{"step": 1')
        (folder / "adapter").mkdir()
        (folder / "adapter" / "weights.bin").write_bytes(b"weights")
        (folder / "checkpoint-5").mkdir()
        (folder / "checkpoint-5" / "state.bin").write_bytes(b"state")
        data = {"role": "train", "snapshot": "lines@3", "fingerprint": "sha256:ab", "samples": 9, "license": "CC0-1.0"}
        metrics = {"base": {"cer": metric(0.5)}, "tuned": {"cer": metric(0.25)}}
        record.update(folder, **{"data": [data], "metrics": metrics} | fields)
        record.finish(folder, "complete")
        return folder

    return make
