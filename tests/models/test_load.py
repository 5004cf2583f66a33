from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import model as tiny_model

from vlmrecipes.errors import InputError
from vlmrecipes.models import attention
from vlmrecipes.models.catalog import ModelRef, resolve
from vlmrecipes.models.load import WHOLE, LoadIn, device, dtype, load_adapter, load_model, load_processor, unapplied
from vlmrecipes.models.parts import part_of


@pytest.fixture(scope="module")
def prompt(processor: Any) -> Any:
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Read."}]}]
    words = processor.apply_chat_template(messages, add_generation_prompt=True)
    images = [Image.new("RGB", (320, 32)), Image.new("RGB", (90, 40))]
    return processor(text=[words] * 2, images=images, padding=True, padding_side="left", return_tensors="pt")


def same(left: Any, right: Any) -> bool:
    pairs = zip(left.state_dict().items(), right.state_dict().items(), strict=True)
    return all(a == b and torch.equal(one, two) for (a, one), (b, two) in pairs)


def test_a_seed_means_the_same_weights(reader: ModelRef, model: Any) -> None:
    assert same(model, load_model(reader, init="config", seed=1))
    assert not same(model, load_model(reader, init="config", seed=2))


def test_it_is_ready_to_evaluate(model: Any) -> None:
    assert not model.training
    assert model.dtype == torch.float32
    assert model.generation_config.eos_token_id == [258, 256]
    assert not model.generation_config.do_sample


def test_saved_and_loaded_again(model: Any, processor: Any, prompt: Any, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    assert attention.NAME not in (folder / "config.json").read_text()
    ref = resolve(str(folder))
    again = load_model(ref)
    assert same(model, again)
    assert type(load_processor(ref)).__name__ == "Qwen2_5_VLProcessor"
    with torch.inference_mode():
        assert torch.equal(model(**prompt).logits, again(**prompt).logits)


def test_half_the_bytes_on_disk(model: Any, tmp_path: Path) -> None:
    copied = type(model)(type(model.config).from_dict(model.config.to_dict()))
    copied.to(torch.bfloat16).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 24_000_000


def test_generates(model: Any, prompt: Any) -> None:
    made = model.generate(**prompt, max_new_tokens=4)
    assert prompt["input_ids"].shape[1] < made.shape[1] <= prompt["input_ids"].shape[1] + 4


def test_attention_of_the_users_choice(reader: ModelRef) -> None:
    plain = load_model(reader, init="config", attention="eager")
    assert plain.config.vision_config._attn_implementation == "eager"  # noqa: SLF001


@pytest.mark.parametrize("load_in", ["4bit", "8bit"])
def test_quantised_weights_need_a_gpu(reader: ModelRef, load_in: LoadIn) -> None:
    with pytest.raises(InputError, match=f"{load_in} weights need a CUDA GPU; use `16bit` on a CPU"):
        load_model(reader, load_in=load_in, device="cpu")


def test_a_vision_tower_is_not_quantised_and_the_language_model_is(model: Any) -> None:
    from transformers.quantizers.quantizers_utils import should_convert_module

    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    quantised = {part_of(name) for name in linear if should_convert_module(name, list(WHOLE))}
    assert quantised == {"language"}
    assert {part_of(name) for name in linear} == {"language", "vision", "projector", None}


def test_random_weights_are_not_quantised(reader: ModelRef) -> None:
    with pytest.raises(InputError, match="cannot start in 4bit"):
        load_model(reader, init="config", load_in="4bit", device="cuda")


def test_dtypes() -> None:
    assert dtype("16bit", "cpu") == dtype("full", "cpu") == dtype("full", "cuda") == torch.float32


def test_device() -> None:
    assert device() == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
def test_weights_of_an_adapter_that_have_no_effect_are_named(tmp_path: Path) -> None:
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    get_peft_model(tiny_model(), lora).save_pretrained(tmp_path)
    assert unapplied(load_adapter(tiny_model(), tmp_path), tmp_path) == {"unused": [], "absent": []}
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    name = min(weights)
    other = name.replace("layers.0", "layers.7")
    weights[other] = weights.pop(name)
    save_file(weights, file)
    assert unapplied(load_adapter(tiny_model(), tmp_path), tmp_path) == {"unused": [other], "absent": [name]}
