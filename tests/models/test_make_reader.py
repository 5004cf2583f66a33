import json
import random
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError
from PIL import Image

from vlmrecipes.models import make_reader
from vlmrecipes.models.catalog import BUILTINS

IMAGE = {"type": "image"}
VISION = "<|vision_start|><|image_pad|><|vision_end|>"


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def test_committed_files_are_those_it_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "vlmrecipes.models.make_reader", tmp_path / "new"], check=True)
    written = {file.name: file.read_bytes() for file in (tmp_path / "new").iterdir()}
    assert written.keys() == make_reader.files().keys()
    assert written == {name: (BUILTINS["reader"] / name).read_bytes() for name in written}


def test_size(model: Any) -> None:
    count = sum(parameter.numel() for parameter in model.parameters())
    vision = sum(parameter.numel() for parameter in model.model.visual.parameters())
    assert count == 11_900_544
    assert vision == 6_976_064
    assert 2 * count < 25_000_000
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight


def test_every_vision_block_sees_its_whole_image() -> None:
    vision = make_reader.vision_config()
    assert vision["fullatt_block_indexes"] == list(range(vision["depth"]))


def test_heads_and_rotary_sections_fit() -> None:
    vision, language = make_reader.vision_config(), make_reader.text_config()
    assert vision["hidden_size"] / vision["num_heads"] == 64
    assert language["hidden_size"] / language["num_attention_heads"] == 64
    assert sum(language["rope_parameters"]["mrope_section"]) == 32
    assert vision["out_hidden_size"] == language["hidden_size"]


def test_alphabet_is_gpt2s() -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    assert sorted(make_reader.byte_alphabet()) == sorted(ByteLevel.alphabet())
    assert list(make_reader.byte_alphabet().values()) == list(range(256))


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("é e\u0301 \ufb01 ﷽ \U0001f469\u200d\U0001f469 \u0000\r\n\t  don't , . ")
def test_every_string_comes_back(words: str) -> None:
    ids = tokenizer().encode(words, split_special_tokens=True)
    assert ids == list(words.encode())
    assert tokenizer().decode(ids) == words


@cache
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BUILTINS["reader"])


def test_special_tokens(processor: Any) -> None:
    tokens = processor.tokenizer
    assert (
        len(tokens) == 264 == json.loads((BUILTINS["reader"] / "config.json").read_text())["text_config"]["vocab_size"]
    )
    assert (tokens.eos_token, tokens.pad_token, tokens.bos_token) == ("<|im_end|>", "<|endoftext|>", None)
    assert tokens.convert_tokens_to_ids(list(make_reader.SPECIAL_TOKENS)) == list(range(256, 264))
    assert tokens.decode([*b"ab", 258], skip_special_tokens=True) == "ab"


def test_processor_is_qwens(processor: Any) -> None:
    assert type(processor).__name__ == "Qwen2_5_VLProcessor"
    assert type(processor.image_processor).__name__ == "Qwen2VLImageProcessor"
    assert processor.image_token_id == make_reader.token_id("<|image_pad|>")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([user(IMAGE, text("Read."))], f"<|im_start|>user\n{VISION}Read.<|im_end|>\n"),
        ([user(IMAGE, IMAGE, text("Same?"))], f"<|im_start|>user\n{VISION}{VISION}Same?<|im_end|>\n"),
        (
            [user(text("a"), {"type": "video"})],
            "<|im_start|>user\na<|vision_start|><|video_pad|><|vision_end|><|im_end|>\n",
        ),
        ([{"role": "user", "content": " Hi \n"}], "<|im_start|>user\n Hi \n<|im_end|>\n"),
        (
            [
                {"role": "system", "content": "Short."},
                user(IMAGE, text("1?")),
                {"role": "assistant", "content": [text("one")]},
                user(text("2?"), IMAGE),
                {"role": "assistant", "content": "two"},
            ],
            (
                f"<|im_start|>system\nShort.<|im_end|>\n<|im_start|>user\n{VISION}1?<|im_end|>\n"
                "<|im_start|>assistant\none<|im_end|>\n"
                f"<|im_start|>user\n2?{VISION}<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>\n"
            ),
        ),
    ],
)
def test_template(processor: Any, messages: list[Any], expected: str) -> None:
    assert processor.apply_chat_template(messages) == expected
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == expected + "<|im_start|>assistant\n"


def test_template_refuses_other_parts(processor: Any) -> None:
    with pytest.raises(TemplateError, match="not audio"):
        processor.apply_chat_template([user({"type": "audio"})])


def test_counted_image_tokens_are_those_it_makes(processor: Any) -> None:
    draw = random.Random(3)
    sizes = [(32, 320), (18, 60), (64, 900), (1, 150), (84, 1836), (28, 5600)]
    sizes += [(draw.randint(2, 700), draw.randint(2, 390)) for _ in range(40)]
    counted = processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"]  # noqa: SLF001
    for (height, width), count in zip(sizes, counted, strict=True):
        made = processor(text=[VISION], images=[Image.new("RGB", (width, height))], return_tensors="pt")
        assert (made["input_ids"] == processor.image_token_id).sum() == count
        assert made["pixel_values"].shape == (4 * count, 1176)


@pytest.mark.parametrize(
    ("size", "becomes"),
    [((32, 320), (4, 26)), ((32, 720), (2, 52)), ((41, 600), (2, 42)), ((64, 900), (4, 64)), ((84, 1836), (4, 104))],
)
def test_lines_become_one_or_two_rows_of_tokens(
    processor: Any, size: tuple[int, int], becomes: tuple[int, int]
) -> None:
    made = processor.image_processor([Image.new("RGB", size[::-1])], return_tensors="pt")
    assert tuple(made["image_grid_thw"][0].tolist()) == (1, *becomes)


def test_no_path_of_a_machine_is_written() -> None:
    assert not any(str(Path.home()) in content for content in make_reader.files().values())
