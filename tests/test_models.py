import json
import shutil

import pytest
import torch

from data_preprocess.command import InputError
from data_preprocess.hub import load_data_set, load_tokenizer, source_options
from eval_hh.inference import models
from eval_hh.inference.models import load_causal_lm, prompt_ids, weights_dtype


def test_prompt_ids_keeps_bos_and_the_last_tokens(byte_tokenizer):
    text = "\n\nHuman: " + "abc def " * 300 + "\n\nAssistant:"
    plain = byte_tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(plain) > 500
    bos = byte_tokenizer.bos_token_id
    assert prompt_ids(byte_tokenizer, text, 384) == [bos] + plain[-383:]
    assert prompt_ids(byte_tokenizer, text, len(plain) + 1) == [bos] + plain
    assert prompt_ids(byte_tokenizer, text, 1) == [bos]
    assert prompt_ids(byte_tokenizer, "", 384) == [bos]


def test_prompt_ids_without_a_bos_token(tiny_causal_lm_dir):
    tokenizer = load_tokenizer(tiny_causal_lm_dir("opt"))
    tokenizer.bos_token = None
    plain = tokenizer("one two three", add_special_tokens=False)["input_ids"]
    assert prompt_ids(tokenizer, "one two three", 384) == plain
    assert prompt_ids(tokenizer, "one two three", 2) == plain[-2:]


def test_prompt_ids_does_not_repeat_the_bos_that_a_tokenizer_adds(shared):
    tokenizer = load_tokenizer(shared / "data" / "llama_tokenizer")
    ids = prompt_ids(tokenizer, "\n\nHuman: Hi\n\nAssistant:")
    assert ids == tokenizer("\n\nHuman: Hi\n\nAssistant:")["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1


def test_causal_lm_is_float32_under_sdpa_attention(tiny_causal_lm_dir):
    for family in ("opt", "llama", "gpt_neox", "gpt2", "qwen2"):
        model = load_causal_lm(tiny_causal_lm_dir(family))
        assert model.config._attn_implementation == "sdpa"
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    half = load_causal_lm(tiny_causal_lm_dir("opt"), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def test_weights_are_float32_on_the_cpu(monkeypatch):
    monkeypatch.setattr(models, "device", lambda: torch.device("cpu"))
    assert {weights_dtype(name) for name in ("bf16", "fp16", "no")} == {torch.float32}
    monkeypatch.setattr(models, "device", lambda: torch.device("cuda"))
    assert [weights_dtype(name) for name in ("bf16", "fp16", "no")] == [
        torch.bfloat16,
        torch.float16,
        torch.float32,
    ]


def test_a_bin_file_is_read_like_safetensors(tiny_causal_lm_dir, tmp_path):
    source = tiny_causal_lm_dir("opt")
    expected = load_causal_lm(source).state_dict()
    folder = shutil.copytree(source, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save(expected, folder / "pytorch_model.bin")
    found = load_causal_lm(folder).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


class Payload:
    def __reduce__(self):
        return (print, ("ran",))


def test_a_bin_file_with_code_is_not_run(tiny_causal_lm_dir, tmp_path, capsys):
    folder = shutil.copytree(tiny_causal_lm_dir("opt"), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save({"x": Payload()}, folder / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"."):
        load_causal_lm(folder)
    assert "ran" not in capsys.readouterr().out


def test_weights_that_lack_a_parameter_are_refused(tiny_causal_lm_dir, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_causal_lm_dir("llama"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=f"{folder}: 1 weights are missing.*{name}"):
        load_causal_lm(folder)


@pytest.mark.parametrize("load", [load_causal_lm, load_tokenizer])
def test_folders_that_are_none(load, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="absent: no such folder"):
        load(tmp_path / "absent")
    with pytest.raises(InputError, match="no such folder"):
        load("runs/toy/base")
    with pytest.raises(InputError, match="file: is a file"):
        load(tmp_path / "file")
    with pytest.raises(InputError, match=r"empty: holds no \w+.json"):
        load(tmp_path / "empty")


def test_code_that_comes_with_a_model_is_not_run(tiny_causal_lm_dir, tmp_path):
    folder = shutil.copytree(tiny_causal_lm_dir("opt"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_causal_lm(folder)
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def no_hub(monkeypatch):
    """A machine without internet: the first request fails, and is counted."""
    import httpx2
    from huggingface_hub import HfApi, constants

    requests = []

    def fail(self, name, **options):
        requests.append(name)
        raise httpx2.ConnectError("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "model_info", fail)
    return requests


@pytest.mark.parametrize("load", [load_causal_lm, load_tokenizer])
def test_a_hub_name_out_of_reach_is_one_line_after_one_request(load, no_hub):
    with pytest.raises(InputError) as error:
        load("facebook/opt-1.3b")
    assert no_hub == ["facebook/opt-1.3b"]
    assert "facebook/opt-1.3b" in str(error.value) and "pass the path of a local copy" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_data_set_out_of_reach_is_one_line_after_one_request(monkeypatch, no_hub):
    from huggingface_hub import HfApi

    monkeypatch.setattr(HfApi, "dataset_info", HfApi.model_info)
    with pytest.raises(InputError, match="someone/prompts: cannot .* .the hub cannot be reached.; pass a local JSONL"):
        load_data_set("someone/prompts", "train")
    assert no_hub == ["someone/prompts"]


@pytest.mark.parametrize("load", [load_tokenizer, lambda name: load_data_set(name, "train")])
def test_a_name_that_the_hub_cannot_have(load):
    with pytest.raises(InputError, match="some prompts: neither a folder nor a valid hub name"):
        load("some prompts")


def test_a_hub_name_in_the_cache_is_read_from_there(no_hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: "/cache/config.json")
    assert source_options("facebook/opt-1.3b")["local_files_only"] is True


def test_a_local_folder_asks_no_hub(no_hub, tiny_causal_lm_dir):
    load_causal_lm(tiny_causal_lm_dir("opt"))
    load_tokenizer(tiny_causal_lm_dir("opt"))
    assert no_hub == []


def test_no_model_attends_by_plans_for_each_shape(tiny_causal_lm_dir):
    """On a GPU: a step of new lengths took a minute in place of a second."""
    torch.backends.cuda.enable_cudnn_sdp(True)
    load_causal_lm(tiny_causal_lm_dir("opt"))
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.mem_efficient_sdp_enabled()


def with_weight(source, folder, name):
    """A copy of a model with one more weight in its file."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    weights = {**load_file(folder / "model.safetensors"), name: torch.ones(2)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("family, name", [
    ("opt", "v_head.summary.weight"), ("opt", "score.weight"), ("opt", "model.decoder.version"),
    ("opt", "vision_tower.layers.0.fc1.weight"), ("opt", "model.mtp_layers.0.fc1.weight"),
    ("opt", "model.pooler.dense.weight"), ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"),
    ("gpt_neox", "gpt_neox.layers.0.attention.bias"), ("gpt_neox", "gpt_neox.layers.0.attention.masked_bias"),
    ("gpt2", "transformer.h.0.attn.bias"), ("gpt2", "transformer.h.0.attn.masked_bias"),
])  # fmt: skip
def test_weights_of_foreign_parts_may_be_unused(family, name, tiny_causal_lm_dir, tmp_path):
    source = tiny_causal_lm_dir(family)
    found = load_causal_lm(with_weight(source, tmp_path / "model", name)).state_dict()
    expected = load_causal_lm(source).state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("family, name", [
    ("llama", "lm_head.bias"), ("llama", "model.norm.bias"), ("llama", "model.layers.0.self_attn.q_proj.bias"),
    ("llama", "model.layers.1.self_attn.q_norm.weight"), ("llama", "model.layers.1.mlp.up_proj.weight_scale"),
    ("opt", "model.decoder.layers.0.fc1.lora_A.weight"), ("opt", "model.decoder.project_out.weight"),
])  # fmt: skip
def test_weights_of_the_models_own_parts_must_be_used(family, name, tiny_causal_lm_dir, tmp_path):
    folder = with_weight(tiny_causal_lm_dir(family), tmp_path / "model", name)
    with pytest.raises(InputError, match=rf"1 weights are not used by the model, first {name}$"):
        load_causal_lm(folder)
