from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vlmrecipes.exports import convert, tensors


@pytest.fixture
def merged(tmp_path: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a folder `merged`."""
    torch.manual_seed(0)
    weights = {
        "qkv": torch.randn(12, 4),
        "proj": torch.randn(6, 4),
        "norm": torch.ones(4),
        "patches": torch.randn(3, 2, 2, 2, 2),
    }
    weights = {name: weight.to(torch.bfloat16) for name, weight in weights.items()}
    (tmp_path / "merged").mkdir()
    save_file(weights, tmp_path / "merged" / "model.safetensors")
    return weights


def write(path: Path, arrays: dict[str, np.ndarray], **numbers: int) -> Path:
    writer = gguf.GGUFWriter(str(path), "test")
    for key, number in numbers.items():
        writer.add_uint32(key.replace("__", "."), number)
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def parts(merged: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Return what a converter makes of the weights: parts of them, rows in another order."""
    plain = {name: weight.float().numpy() for name, weight in merged.items()}
    return {
        "q": plain["qkv"][:4][::-1].copy(),
        "k": plain["qkv"][4:8].copy(),
        "v": plain["qkv"][8:].copy(),
        "proj": plain["proj"],
        "norm": plain["norm"] + 1,
        "patch0": plain["patches"][:, :, 0].copy(),
        "patch1": plain["patches"][:, :, 1].copy(),
    }


def test_every_tensor_is_found_among_the_weights(merged: dict[str, torch.Tensor], tmp_path: Path) -> None:
    found = tensors.compare(tmp_path / "merged", [write(tmp_path / "m.gguf", parts(merged))])
    assert found == {
        "files": ["m.gguf"],
        "tensors": {"n": 7, "exact": 6, "near": 0, "other": 1},
        "problems": [],
    }, "a norm may be written another way"


def test_fewer_bits_are_near(merged: dict[str, torch.Tensor], tmp_path: Path) -> None:
    arrays = {name: array.astype(np.float16) for name, array in parts(merged).items() if name != "norm"}
    found = tensors.compare(tmp_path / "merged", [write(tmp_path / "m.gguf", arrays)])
    assert found["tensors"]["exact"] + found["tensors"]["near"] == 6
    assert not found["problems"]


def test_a_changed_matrix_is_a_problem(merged: dict[str, torch.Tensor], tmp_path: Path) -> None:
    arrays = parts(merged)
    arrays["proj"] = arrays["proj"] + np.eye(6, 4, dtype=np.float32)
    found = tensors.compare(tmp_path / "merged", [write(tmp_path / "m.gguf", arrays)])
    assert found["problems"] == ["m.gguf: proj is none of the merged weights"]


def test_cut_off_and_broken_files_are_problems(merged: dict[str, torch.Tensor], tmp_path: Path) -> None:
    file = write(tmp_path / "m.gguf", parts(merged))
    assert tensors.whole(file) == []
    for length in (0, 10, file.stat().st_size - 100):
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(file.read_bytes()[:length])
        assert tensors.whole(cut), length
    nan = write(tmp_path / "nan.gguf", {"a": np.full((2, 2), np.nan, np.float32)})
    assert tensors.whole(nan) == ["a holds values that are no numbers"]


def test_a_tower_without_windows_is_called_so(tmp_path: Path) -> None:
    for given, told in ((1, 0), (8, 8)):
        file = write(tmp_path / f"{given}.gguf", {"a": np.ones((2, 2), np.float32)}, clip__vision__n_wa_pattern=given)
        convert.without_windows(file)
        assert gguf.GGUFReader(str(file)).get_field(convert.WINDOWS).contents() == told
    convert.without_windows(write(tmp_path / "none.gguf", {"a": np.ones((2, 2), np.float32)}))


def test_only_a_tokenizer_without_merges_is_given_some(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text('{"model": {"type": "BPE", "merges": []}}')
    with convert.prepared(tmp_path):
        assert (tmp_path / convert.MERGES).read_text().startswith("#version")
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    file.write_text('{"model": {"type": "BPE", "merges": ["a b"]}}')
    with convert.prepared(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [file.name]
