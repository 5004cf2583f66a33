"""Answers with a model folder as anyone would load it: plain transformers, and peft for an adapter.

    python -P plain.py JOB.json

Nothing of vlmrecipes or Unsloth is imported here. The check of an export runs this file in a process of its own and imports
it for the run's own model, so that both sides are asked alike and only the loading differs.

The job: `folder`, `base` (folder or id that an adapter goes on; empty for a whole model), `bits` (4 or 8: that base is
quantised by bitsandbytes; 0: it is not), `whole` (modules of it that are not), `trust_remote_code`, `dtype`, `device`,
`max_new_tokens`, `output`, `weights` (see `digests`; null compares none) and `rows`, each `{messages, images, said}` with
`said` lists of tokens to be followed; null follows the model's own answer.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LENGTHENED = ("attention_mask", "token_type_ids", "mm_token_type_ids", "cross_attention_mask")
"""Inputs with one entry a token."""
FOREIGN = ("vlmrecipes", "unsloth")


def main(job: Mapping[str, Any]) -> None:
    """Do the job and write its answer as JSON: `{"different": [names of weights], "rows": [see `answer`]}`."""
    model, processor, different = _load(job)
    rows = [answer(model, processor, row, job["max_new_tokens"]) for row in job["rows"]]
    if found := [name for name in FOREIGN if name in sys.modules]:
        raise SystemExit(f"{', '.join(found)} was imported, so that this shows nothing")
    Path(job["output"]).write_text(json.dumps({"different": different, "rows": rows}), "utf-8")


def answer(model: Any, processor: Any, row: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return `tokens` (greedy, its end included), `text`, and `followed`: for each of `said`, see `follow`."""
    import torch
    from PIL import Image
    from transformers import GenerationConfig

    prompt = processor.apply_chat_template(row["messages"], tokenize=False, add_generation_prompt=True)
    pictures = [Image.open(path).convert("RGB") for path in row["images"]]
    inputs = processor(
        text=[prompt], images=[pictures] if pictures else None, add_special_tokens=False, return_tensors="pt"
    ).to(model.device)
    for name, value in inputs.items():
        if value.is_floating_point():
            inputs[name] = value.to(model.dtype)
    ends = _ends(model, processor)
    model.generation_config = GenerationConfig(
        max_new_tokens=most, do_sample=False, eos_token_id=ends, pad_token_id=processor.tokenizer.pad_token_id
    )
    with torch.inference_mode():
        tokens = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :].tolist()
        followed = [follow(model, inputs, said) for said in ([tokens] if row["said"] is None else row["said"])]
    stop = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    text = processor.tokenizer.decode(tokens[:stop], skip_special_tokens=True)
    return {"tokens": tokens, "text": text, "followed": followed}


def follow(model: Any, inputs: Mapping[str, Any], said: Sequence[int]) -> dict[str, list[Any]]:
    """Return what the model would say at each place of an answer, given what comes before it there.

    Four lists as long as `said`: `first` and `second`, the likeliest tokens; `margin`, how much likelier the first is than
    the second, in nats; `log`, the log-probability of the token in `said`.
    """
    import torch

    if not said:
        return {"first": [], "second": [], "margin": [], "log": []}
    tokens = torch.tensor([list(said)], device=inputs["input_ids"].device)
    longer = dict(inputs) | {"input_ids": torch.cat([inputs["input_ids"], tokens], dim=1)}
    for name in LENGTHENED:
        if name in inputs:
            last = inputs[name][:, -1:]
            longer[name] = torch.cat([inputs[name], *([last] * len(said))], dim=1)
    logits = model(**longer, use_cache=False).logits[0, -len(said) - 1 : -1].float()
    logs = logits.log_softmax(dim=-1)
    top = logs.topk(2, dim=-1)
    return {
        "first": top.indices[:, 0].tolist(),
        "second": top.indices[:, 1].tolist(),
        "margin": (top.values[:, 0] - top.values[:, 1]).tolist(),
        "log": logs.gather(1, tokens.T)[:, 0].tolist(),
    }


def digests(model: Any) -> dict[str, str]:
    """Return the SHA-256 of every weight by name; numbers of any float type as 32-bit floats."""
    found = {}
    for name, weight in model.state_dict().items():
        plain = weight.detach().cpu()
        plain = (plain.float() if plain.is_floating_point() else plain).contiguous()
        found[name] = hashlib.sha256(plain.numpy().tobytes()).hexdigest()
    return found


def _ends(model: Any, processor: Any) -> list[int]:
    given = getattr(model.generation_config, "eos_token_id", None)
    several = given if isinstance(given, list) else [given]
    return sorted({number for number in (processor.tokenizer.eos_token_id, *several) if number is not None})


def _load(job: Mapping[str, Any]) -> tuple[Any, Any, list[str]]:
    """Return the model, its processor, and the names of the weights that are not the expected ones."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()
    trust = {"trust_remote_code": job["trust_remote_code"]}
    processor = AutoProcessor.from_pretrained(job["folder"], **trust)
    options = dict(trust)
    if job["bits"]:
        options |= {"quantization_config": _bits(job), "device_map": {"": job["device"]}}
    model = AutoModelForImageTextToText.from_pretrained(
        job["base"] or job["folder"], dtype="auto", use_safetensors=True, **options
    )
    different = [] if job["weights"] is None else _different(job["weights"], digests(model))
    if getattr(model, "hf_quantizer", None) is None:
        model = model.to(device=job["device"], dtype=getattr(torch, job["dtype"]))
    if job["base"]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, job["folder"])
    return model.eval(), processor, different


def _bits(job: Mapping[str, Any]) -> Any:
    """Return QLoRA's settings for the weights that an adapter goes on, as the adapter was trained on them."""
    import torch
    from transformers import BitsAndBytesConfig

    if job["bits"] == 8:  # noqa: PLR2004 - bits
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=job["whole"])
    return BitsAndBytesConfig(
        llm_int8_skip_modules=job["whole"],
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, job["dtype"]),
    )


def _different(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text("utf-8")))
