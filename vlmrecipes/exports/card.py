"""The model card: `README.md` with the front matter that the Hugging Face hub reads, and the chain back to the data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlmrecipes import extras
from vlmrecipes.data.export.card import hub_license
from vlmrecipes.exports.formats import ADAPTER, GGUF, MERGED_4BIT, REPO
from vlmrecipes.exports.source import Source
from vlmrecipes.models.catalog import BUILTIN

NAME = "README.md"
LICENCE = re.compile(r"^license:\s*[\"']?([\w.-]+)", re.MULTILINE)
BUILTIN_LICENCE = "Apache-2.0"
RELATION = {ADAPTER: "adapter", MERGED_4BIT: "quantized", GGUF: "quantized"}
"""How the hub calls what was made of the base; a merged model is `finetune`."""


def write(source: Source, folder: Path, wanted: str, parity: Mapping[str, Any], *, name: str) -> None:
    """Write the card of an export that is to be loaded as `name`."""
    hub = extras.need("huggingface_hub", "write a model card")
    front = hub.ModelCardData(**_front(hub, source, wanted)).to_yaml()
    body = "\n".join(_body(source, folder, wanted, parity, name))
    (folder / NAME).write_text(f"---\n{front}\n---\n\n{body}\n", "utf-8")


def licence(source: Source) -> str:
    """Return the licence that the base model's own card names; empty when it names none."""
    found = source.record["model"]["id"]
    if found.startswith(BUILTIN):
        return BUILTIN_LICENCE
    card = Path(source.plan.model.path) / NAME
    text = card.read_text("utf-8", "replace") if card.is_file() else ""
    match = LICENCE.search(text.split("\n---", 1)[0]) if text.startswith("---") else None
    return match[1] if match else ""


def _front(hub: Any, source: Source, wanted: str) -> dict[str, Any]:
    front: dict[str, Any] = {
        **hub_license(licence(source)),
        "library_name": {ADAPTER: "peft", GGUF: "gguf"}.get(wanted, "transformers"),
        "pipeline_tag": "image-text-to-text",
        "tags": ["vlmrecipes", "image-text-to-text"],
        "model_name": source.record["recipe"]["name"],
        "eval_results": _results(hub, source),
    }
    if (base := _base(source)) == source.base_name:
        front |= {"base_model": base, "base_model_relation": RELATION.get(wanted, "finetune")}
    return front


def _results(hub: Any, source: Source) -> list[Any]:
    """Return the run's scores as the hub's `model-index`, the interval among a metric's arguments."""
    found = source.record
    scored = [part for part in found["data"] if part["role"] == "eval"]
    return [
        hub.EvalResult(
            task_type="image-text-to-text",
            dataset_type=", ".join(part["snapshot"] for part in scored),
            dataset_name=", ".join(part["snapshot"] for part in scored),
            dataset_split="eval",
            dataset_revision=", ".join(part["fingerprint"] for part in scored),
            metric_type=summary["spec"].partition("/")[0],
            metric_name=summary["spec"],
            metric_value=summary["value"],
            metric_args={key: summary[key] for key in ("low", "high", "n")},
        )
        for summary in found["metrics"].get("tuned", {}).values()
    ]


def _body(source: Source, folder: Path, wanted: str, parity: Mapping[str, Any], name: str) -> Iterator[str]:
    found = source.record
    recipe, model = found["recipe"], found["model"]
    yield f"# {recipe['name']} {recipe['version']}"
    yield ""
    at = f" at `{model['revision']}`" if model["revision"] else ""
    yield f"`{source.base_name}`{at}, tuned; here as `{wanted}`."
    yield from (
        "",
        "## Scores",
        "",
        "| metric | model | value | 95 % interval | n |",
        "| --- | --- | --- | --- | --- |",
    )
    for side, summaries in found["metrics"].items():
        for summary in summaries.values():
            yield f"| `{summary['spec']}` | {side} | {_number(summary['value'])} | {_interval(summary)} | {summary['n']} |"
    yield from _parity(source, parity)
    yield from ("", "## Where it comes from", "")
    for part in found["data"]:
        yield (
            f"- {part['role']} data: snapshot `{part['snapshot']}` of {part['samples']} samples, "
            f"fingerprint `{part['fingerprint']}`, licence {part['license'] or 'not stated'}"
        )
    pinned = f"revision {model['revision'] or 'none'}, licence {licence(source) or 'not stated'}"
    yield f"- Base model: `{source.base_name}`, {pinned}"
    yield from (f"- Base model's `{name}`: `{digest}`" for name, digest in model["files"].items())
    yield f"- Recipe: `{recipe['name']}` {recipe['version']}, fingerprint `{recipe['fingerprint']}`"
    yield f"- Run: `{found['run']}`, record sealed as `{found['seal']}`"
    yield from ("", "## Use", "", "```python", *_use(source, folder, wanted, name), "```")


def _parity(source: Source, parity: Mapping[str, Any]) -> Iterator[str]:
    tokens, answers = parity["tokens"], parity["answers"]
    yield from ("", "## Held against the run", "")
    yield (
        f"{parity['samples']} samples answered by this export and by {parity['reference']}, both computed in "
        f"{parity['dtype']}: {tokens['agree']} of {tokens['n']} tokens agree ({tokens['ties']} more are ties), "
        f"{answers['same']} answers are the same."
    )
    for name, each in parity["metrics"].items():
        yield f"- `{name}` on them: {_number(each['live'])} there, {_number(each['export'])} here"
    if trained := parity.get("trained"):
        yield ""
        yield (
            f"The adapter was trained on weights in {source.load_in} and is merged into the 16-bit weights of its base, which "
            f"are not those it was trained on. Against {trained['reference']}: {trained['tokens']['agree']} of "
            f"{trained['tokens']['n']} tokens agree, {trained['answers']['same']} answers are the same."
        )


def _use(source: Source, folder: Path, wanted: str, name: str) -> Iterator[str]:
    if wanted == GGUF:
        model = next(path.name for path in sorted(folder.glob("*.gguf")) if not path.name.startswith("mmproj"))
        yield f"# llama-mtmd-cli -m {model} --mmproj mmproj-{model} --image page.png -p 'Read the text.'"
        return
    adapter = wanted == ADAPTER
    yield from ("from peft import PeftModel",) if adapter else ()
    yield from ("from transformers import AutoModelForImageTextToText, AutoProcessor", "")
    yield f'processor = AutoProcessor.from_pretrained("{name}")'
    yield f'model = AutoModelForImageTextToText.from_pretrained("{_base(source) if adapter else name}", dtype="auto")'
    yield from (f'model = PeftModel.from_pretrained(model, "{name}")',) if adapter else ()


def _base(source: Source) -> str:
    """Return the base model's id on the hub, or a word for the folder that it lies in."""
    return source.base_name if REPO.fullmatch(source.base_name) else "BASE_MODEL_FOLDER"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _interval(summary: Mapping[str, Any]) -> str:
    return "none" if summary["low"] is None else f"[{summary['low']:.4f}, {summary['high']:.4f}]"
