"""A .bin becomes safetensors with the same bits; code in a pickle is never run; failures leave nothing."""

import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from data_preprocess.command import InputError
from eval_hh import convert_weights
from eval_hh.inference.models import load_causal_lm

TENSORS = {
    "float": torch.tensor([[1.5, float("nan")], [-0.0, 1e-40]]),
    "half": torch.arange(6, dtype=torch.float16).view(2, 3).T,  # not contiguous
    "brain": torch.tensor([3.14159], dtype=torch.bfloat16),
    "ids": torch.arange(4),
    "flag": torch.tensor(True),
}


class Code:
    """Unpickled without care, it would write a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "code was run")


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def assert_same(ours: dict, expected: dict) -> None:
    assert set(ours) == set(expected)
    for name, tensor in expected.items():
        assert ours[name].dtype == tensor.dtype and ours[name].shape == tensor.shape, name
        assert bits(ours[name]) == bits(tensor), name


def test_the_plan_of_the_oracle_is_right():
    """`bits` tells apart what == does not (-0.0 and 0.0) and knows a NaN again."""
    assert bits(torch.tensor([-0.0])) != bits(torch.tensor([0.0]))
    assert bits(torch.tensor([float("nan")])) == bits(torch.tensor([float("nan")]))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_tensors_bit_for_bit(zipped, tmp_path, capsys):
    torch.save(TENSORS, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    convert_weights.main([str(tmp_path)])
    assert "5 tensors" in capsys.readouterr().out
    expected = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    assert_same(expected, TENSORS)
    assert_same(load_file(tmp_path / "model.safetensors"), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "pytorch_model.bin"]

    stamp = (tmp_path / "model.safetensors").stat().st_mtime_ns
    convert_weights.main([str(tmp_path)])
    assert "already" in capsys.readouterr().out
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == stamp


@pytest.fixture
def bin_dir(tiny_causal_lm_dir, tmp_path):
    """bin_dir(sharded) -> (folder of an OPT, whose embeddings are tied, in .bin files, its state dict)."""

    def build(sharded: bool = False):
        folder = shutil.copytree(tiny_causal_lm_dir("opt"), tmp_path / "model")
        state = AutoModelForCausalLM.from_pretrained(folder).state_dict()
        (folder / "model.safetensors").unlink()
        names = sorted(state)
        if not sharded:
            torch.save(state, folder / "pytorch_model.bin")
            return folder, state
        shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
        for file, members in shards.items():
            torch.save({name: state[name] for name in members}, folder / file)
        weight_map = {name: file for file, members in shards.items() for name in members}
        (folder / convert_weights.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        return folder, state

    return build


@pytest.mark.parametrize("sharded", [False, True], ids=["one file", "sharded"])
def test_transformers_loads_what_was_converted(sharded, bin_dir):
    folder, state = bin_dir(sharded)
    print(convert_weights.convert(folder))
    for path in folder.glob("pytorch_model*"):
        path.unlink()
    assert_same(load_causal_lm(folder).state_dict(), state)


def test_code_is_refused_and_not_run(bin_dir, tmp_path):
    folder, state = bin_dir()
    for data in (pickle.dumps(Code(tmp_path / "run")), pickle.dumps({**state, "x": Code(tmp_path / "run")})):
        (folder / "pytorch_model.bin").write_bytes(data)
        with pytest.raises(InputError, match="pytorch_model.bin: holds something other than tensors"):
            convert_weights.convert(folder)
    torch.save({**state, "x": Code(tmp_path / "run")}, folder / "pytorch_model.bin")
    before = sorted(folder.iterdir())
    with pytest.raises(InputError, match="pytorch_model.bin: holds something other than tensors"):
        convert_weights.convert(folder)
    assert sorted(folder.iterdir()) == before and not (tmp_path / "run").exists()
    # and where a model is loaded, the refusal names the command
    with pytest.raises(InputError, match=f"convert_weights.py {folder}`"):
        load_causal_lm(folder)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state": {"a": torch.ones(1)}}, "'state' is a dict .*tensors by name"),
        ([torch.ones(1)], "holds a list"),
        ({}, "holds a dict"),
        ({"step": 3}, "'step' is a int"),
    ],
)
def test_what_is_no_plain_dict_of_tensors_is_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=message):
        convert_weights.convert(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pytorch_model.bin"]


def test_a_torn_empty_or_absent_file_is_one_line(bin_dir, tmp_path):
    folder, _ = bin_dir()
    whole = (folder / "pytorch_model.bin").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"<html>not found</html>"):
        (folder / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(InputError, match="pytorch_model.bin: "):
            convert_weights.convert(folder)
        with pytest.raises(InputError, match="convert_weights.py"):
            load_causal_lm(folder)
    with pytest.raises(InputError, match="pytorch_model.bin: no such file"):
        convert_weights.convert(tmp_path / "nowhere")


def test_a_failure_in_the_second_shard_leaves_the_folder_as_it_was(bin_dir, monkeypatch):
    folder, _ = bin_dir(sharded=True)
    (folder / "pytorch_model-00002-of-00002.bin").write_bytes(b"torn")
    before = sorted(folder.iterdir())
    with pytest.raises(InputError, match="00002-of-00002"):
        convert_weights.convert(folder)
    assert sorted(folder.iterdir()) == before

    index = json.loads((folder / convert_weights.INDEX).read_text())
    index["weight_map"]["lm_head.weight"] = "../elsewhere.bin"
    (folder / convert_weights.INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match="names '../elsewhere.bin'"):
        convert_weights.convert(folder)


def test_help_says_what_to_type(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["convert_weights.py"])
    with pytest.raises(SystemExit):
        convert_weights.main(["--help"])
    assert "python convert_weights.py FOLDER" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("a", torch.eye(3).to_sparse(), "pytorch_model.bin: holds what safetensors cannot store"),
        ("a", torch.ones(3, device="meta"), "pytorch_model.bin: holds what safetensors cannot store"),
        ("a", torch.ones(3, dtype=torch.complex128), "pytorch_model.bin: holds what safetensors cannot store"),
        ("\ud800", torch.ones(3), "pytorch_model.bin: holds what safetensors cannot store"),
        ("__metadata__", torch.ones(3), "pytorch_model.bin: has a tensor named __metadata__"),
    ],
)
def test_what_safetensors_cannot_store_is_refused(tmp_path, name, tensor, message):
    torch.save({"b": torch.ones(2), name: tensor}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=message):
        convert_weights.convert(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pytorch_model.bin"]
