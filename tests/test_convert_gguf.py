"""A .gguf file becomes the model it was made of: weights, logits, tokens and chat template."""

import json
import sys

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

from data_preprocess.command import InputError
from eval_hh.convert_weights import main
from eval_hh.inference import gguf_model
from eval_hh.inference.models import load_causal_lm

HEADS, KV_HEADS, WIDTH, LAYERS = 4, 2, 32, 2
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ b", "Ġ Ġ", "1 2", "Ġ 12"]
TOKENS = SPECIAL + list(bytes_to_unicode().values()) + [merge.replace(" ", "") for merge in MERGES]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "model.layers": "blk",
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS), hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, tie_word_embeddings=True, rms_norm_eps=1e-5,
        max_position_embeddings=64,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def rotated(weight, heads):
    """A query or key weight with its rows in llama.cpp's order: halves of a head interleaved, for its kind of RoPE."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def tensors_of(model):
    """(name in the file, values in llama.cpp's order, name in transformers) of each weight; tied ones once."""
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        written = name
        for ours, theirs in NAMES.items():
            written = written.replace(ours, theirs)
        values = value.numpy()
        if "q_proj" in name or "k_proj" in name:
            values = rotated(values, HEADS if "q_proj" in name else KV_HEADS)
        yield written, values, name


def write(path, model, kind=None, tokens=TOKENS, rule="smollm", architecture="llama", value=None):
    """Writes a .gguf file; `kind` quantises its matrices, and `value` is put into its first weight."""
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(64)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, values, _ in tensors_of(model):
        if value is not None:
            values, value = np.full_like(values, value), None
        if kind is not None and values.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_weights_of_a_float_file_come_back_bit_for_bit(tmp_path, model, capsys):
    file = write(tmp_path / "m.gguf", model)
    main([str(file), "--output", str(tmp_path / "out")])
    kinds = f"{len(list(tensors_of(model)))} F32"
    assert f"in float32, dequantised from m.gguf ({kinds})" in capsys.readouterr().out
    converted = load_causal_lm(tmp_path / "out")
    expected = model.state_dict()
    found = converted.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    ids = torch.randint(len(TOKENS), (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(converted.eval()(ids).logits, model(ids).logits)
    assert converted.generation_config.eos_token_id == 2 and "quantization_config" not in converted.config.to_dict()
    origin = json.loads((tmp_path / "out" / gguf_model.ORIGIN_FILE).read_text())
    assert origin["file"] == "m.gguf" and len(origin["sha256"]) == 64


@pytest.mark.parametrize("kind", [gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_1])
def test_quantised_weights_are_what_the_packages_own_reader_makes_of_them(tmp_path, model, kind, capsys):
    main([str(write(tmp_path / "m.gguf", model, kind)), "--output", str(tmp_path / "out")])
    assert kind.name in capsys.readouterr().out
    found = load_causal_lm(tmp_path / "out").state_dict()
    for _, values, name in tensors_of(model):
        if values.ndim == 2 and "q_proj" not in name and "k_proj" not in name:
            values = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
            assert np.array_equal(found[name].numpy(), values), name
            assert not torch.equal(found[name], model.state_dict()[name]), name


def ids_of(*tokens):
    return [TOKENS.index(token) for token in tokens]


@pytest.mark.parametrize(
    "rule, tokens",
    [
        ("smollm", ["a", "Ġb", "ĠĠ", "1", "2"]),  # digits stand alone, and white space before them stays together
        ("gpt-2", ["a", "Ġb", "Ġ", "Ġ12"]),
    ],
)
def test_the_tokenizer_splits_as_the_file_says(tmp_path, model, rule, tokens):
    main([str(write(tmp_path / "m.gguf", model, rule=rule)), "--output", str(tmp_path / "out")])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("a b  12").input_ids == ids_of(*tokens)
    text = "Hello, wörld!  12345\n\tfoo 日本語 <|im_end|> x"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == ("<|im_end|>", "<|im_end|>", SPECIAL[1])
    messages = [{"role": "user", "content": "b"}]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert rendered == "<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert ids[:6] == ids_of("<|im_start|>", *"user", "Ċ") and ids.count(2) == 1


def test_another_tokenizer_is_saved_on_demand(tmp_path, model):
    main([str(write(tmp_path / "a.gguf", model)), "--output", str(tmp_path / "a")])
    unknown = write(tmp_path / "b.gguf", model, rule="chameleon")
    with pytest.raises(InputError, match="b.gguf: its tokenizer splits words by the rule 'chameleon', unknown .*--tok"):
        main([str(unknown), "--output", str(tmp_path / "b")])
    main([str(unknown), "--output", str(tmp_path / "b"), "--tokenizer", str(tmp_path / "a")])
    assert AutoTokenizer.from_pretrained(tmp_path / "b")("a b  12").input_ids == ids_of("a", "Ġb", "ĠĠ", "1", "2")


def cut(path, model):
    whole = write(path, model).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path, model: None, "m.gguf: no such file"),
        (lambda path, model: path.write_bytes(b"PK\3\4"), "m.gguf: does not start with GGUF"),
        (lambda path, model: path.write_bytes(b"GGUF\3\0\0\0"), "m.gguf: not a complete .gguf file"),
        (cut, "m.gguf: not a"),
        (lambda path, model: write(path, model, architecture="clip"), "m.gguf: "),
        (lambda path, model: write(path, model, value=float("nan")), "m.gguf: the weight .* not finite"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_and_leaves_nothing(tmp_path, model, make, message):
    make(tmp_path / "m.gguf", model)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=message) as error:
        main([str(tmp_path / "m.gguf"), "--output", str(tmp_path / "out")])
    assert "\n" not in str(error.value) and sorted(tmp_path.iterdir()) == before


def test_the_output_is_a_free_name(tmp_path, model):
    file = write(tmp_path / "m.gguf", model)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("mine", "m.gguf", "link"):
        with pytest.raises(InputError, match=f"--output .*{name}: exists"):
            main([str(file), "--output", str(tmp_path / name)])
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    for flags in ([str(file)], [str(file), str(file), "--output", "x"], [str(tmp_path), "--output", "x"]):
        with pytest.raises(InputError, match="--output and --tokenizer: for one .gguf file"):
            main(flags)


def test_the_package_is_asked_for_where_it_is_absent(tmp_path, model, monkeypatch):
    file = write(tmp_path / "m.gguf", model)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match="m.gguf: .* package gguf.*pip install -r eval_hh/requirements-gguf.txt"):
        main([str(file), "--output", str(tmp_path / "out")])


def test_a_file_that_is_converted_already_is_left_as_it_is(tmp_path, model, capsys):
    """As after a kill at the very end; another file does not take its place."""
    file, out = write(tmp_path / "m.gguf", model), tmp_path / "out"
    main([str(file), "--output", str(out)])
    stamps = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    main([str(file), "--output", str(out)])
    assert "converted already from m.gguf" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == stamps
    other = write(tmp_path / "m2.gguf", model)
    with pytest.raises(InputError, match="exists"):
        main([str(other), "--output", str(out)])
