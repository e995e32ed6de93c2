"""What reward models start from: a causal checkpoint's backbone bit for bit, its padding, its chat template."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from reward_rankings import arguments, losses, write_rankings
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from data_preprocess.command import InputError
from data_preprocess.records import load_records
from eval_hh.reward_model import encode_dialogue, load_reward_model
from tests.test_chat_reward import build
from training import train_reward
from training.reward.config import RewardConfig
from training.reward.start import start


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    return write_rankings(tmp_path_factory.mktemp("files"))


def settings(files, source, **more) -> RewardConfig:
    return RewardConfig(str(files["train"]), [str(files["one"])], "out", model_name_or_path=str(source), **more)


@pytest.mark.parametrize("family", ["opt", "gpt_neox", "llama", "gpt2", "qwen2"])
def test_a_causal_checkpoint_keeps_its_backbone_and_gets_a_head(family, files, tiny_causal_lm_dir):
    """Weights bit for bit, and the score is the head on the state of the last EOS, as the causal model has it."""
    torch.manual_seed(7)
    scorer = start(settings(files, tiny_causal_lm_dir(family)))
    causal = AutoModelForCausalLM.from_pretrained(tiny_causal_lm_dir(family), dtype=torch.float32).eval()
    ours, theirs = scorer.model.base_model.state_dict(), causal.base_model.state_dict()
    ours = {name.removeprefix("decoder."): value for name, value in ours.items()}
    theirs = {name.removeprefix("decoder."): value for name, value in theirs.items()}
    assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
    head = scorer.model.score
    assert head.weight.shape == (1, scorer.model.config.hidden_size) and head.bias is None
    record = load_records(files["train"])[0]
    ids = encode_dialogue(scorer.tokenizer, record.prefix, record.suffix[0])
    with torch.no_grad():
        state = causal(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1]
    by_hand = sum(a * b for a, b in zip(state.tolist(), head.weight[0].tolist(), strict=True))
    assert scorer.score([record.prefix], [record.suffix[0]])[0] == pytest.approx(by_hand, abs=1e-4)


def test_a_backbone_without_a_weight_is_refused(files, tiny_causal_lm_dir, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_causal_lm_dir("gpt_neox"), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="missing.*dense_h_to_4h"):
        start(settings(files, folder))


@pytest.mark.parametrize("padding", ["<|padding|>", None])
def test_a_checkpoint_that_names_no_padding_is_trained_and_read_alike(padding, files, tiny_causal_lm_dir, tmp_path):
    """As Pythia: padding has a token that nothing names, or none at all, and then EOS serves."""
    from transformers import AutoTokenizer

    folder = shutil.copytree(tiny_causal_lm_dir("gpt_neox"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"pad_token_id": None}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer_file = folder / "tokenizer.json"
    if padding:
        tokenizer_file.write_text(tokenizer_file.read_text().replace("<pad>", padding))
    saved = json.loads((folder / "tokenizer_config.json").read_text())
    saved.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(saved))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token is None
    train_reward.main(arguments(files, folder, tmp_path / "reward", "--max_steps", "1"))
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward").eval()
    assert model.config.pad_token_id == (2 if padding else tokenizer.eos_token_id)
    records = load_records(files["train"])
    pairs = [(r.prefix, text) for r in records for text in r.suffix]
    plain = [model(torch.tensor([encode_dialogue(tokenizer, *pair)])).logits.item() for pair in pairs]
    ours = load_reward_model(tmp_path / "reward").score([turns for turns, _ in pairs], [text for _, text in pairs])
    assert ours == pytest.approx(plain, abs=1e-4)


def test_a_chat_template_is_trained_with_as_it_is_scored_with(files, tiny_causal_lm_dir, tmp_path):
    """The first loss is that of the scores which plain transformers gives to the template's text."""
    folder = shutil.copytree(tiny_causal_lm_dir("qwen2"), tmp_path / "model")
    template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    more = ("--batch_size", "24", "--max_steps", "1", "--learning_rate", "0")
    train_reward.main(arguments(files, folder, tmp_path / "reward", *more))
    scorer, terms = load_reward_model(tmp_path / "reward"), []
    for record in load_records(files["train"]):
        question = record.prefix[0].removeprefix("<|prompter|>")
        texts = [f"[user] {question}\n[assistant] {text}\n" for text in record.suffix]
        ids = [scorer.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        with torch.no_grad():
            scores = [scorer.model(torch.tensor([row])).logits.item() for row in ids]
        terms += [
            torch.nn.functional.softplus(torch.tensor(scores[j] - scores[i])).item()
            for i in range(len(scores)) for j in range(len(scores)) if record.reward[i] > record.reward[j]
        ]  # fmt: skip
    assert losses(tmp_path / "reward") == pytest.approx([sum(terms) / len(terms)], rel=1e-4)


def test_models_that_cannot_be_trained_further_are_refused(files, tiny_reward_dir, tmp_path):
    for change, message in (
        ({"model_type": "gpt_neox_reward_model"}, "can be used for scoring"),
        ({"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}, "classifier with 2 labels"),
    ):
        folder = shutil.copytree(tiny_reward_dir, tmp_path / "model", dirs_exist_ok=True)
        config = json.loads((tiny_reward_dir / "config.json").read_text()) | change
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(InputError, match=message):
            start(settings(files, folder))


UNFIT = {
    "xlnet": ({"d_inner": 64, "d_head": 8}, "another score in another batch"),
    "bart": ({"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
              "decoder_attention_heads": 2}, "cannot score dialogues here"),
    "t5": ({"d_kv": 8, "d_ff": 64}, "cannot score dialogues here"),
    "xmod": ({"max_position_embeddings": 1024}, "Input language unknown"),
    "canine": ({}, "no table of token embeddings"),
}  # fmt: skip


@pytest.mark.parametrize("family", UNFIT)
def test_what_cannot_be_loaded_as_a_reward_model_is_not_trained(family, files, byte_tokenizer, tmp_path, monkeypatch):
    sizes, message = UNFIT[family]
    folder = build(tmp_path / "model", byte_tokenizer, family, **sizes)
    for refused in (
        lambda: load_reward_model(folder),
        lambda: train_reward.main(arguments(files, folder, tmp_path / "reward", "--max_steps", "1")),
    ):
        with pytest.raises(InputError, match=message) as caught:
            refused()
        assert str(caught.value).startswith(f"{folder}: ")
    assert not (tmp_path / "reward").exists()


def test_what_fails_only_in_training_mode_is_refused_before_the_first_step(files, byte_tokenizer, tmp_path):
    """A Reformer pads by itself in evaluation mode only."""
    sizes = {"attn_layers": ["local"] * 2, "axial_pos_shape": [32, 32], "axial_pos_embds_dim": [16, 16],
             "feed_forward_size": 64, "attention_head_size": 8, "max_position_embeddings": 1024}  # fmt: skip
    folder = build(tmp_path / "model", byte_tokenizer, "reformer", is_decoder=False, **sizes)
    load_reward_model(folder)
    with pytest.raises(InputError, match=f"^{folder}: a Reformer.* cannot be computed in training mode"):
        train_reward.main(arguments(files, folder, tmp_path / "reward", "--max_steps", "1"))
    assert not (tmp_path / "reward").exists()


@pytest.mark.parametrize("family", ["roberta", "ibert", "esm"])
def test_positions_that_begin_behind_the_padding_s_are_counted(family, files, byte_tokenizer, tmp_path):
    """Their table has a row for the padding and those before it: the longest text has as many tokens fewer."""
    folder = build(tmp_path / "model", byte_tokenizer, family, max_position_embeddings=64)
    train_reward.main(arguments(files, folder, tmp_path / "reward", "--max_steps", "1"))
    model = load_reward_model(tmp_path / "reward")
    assert model.max_length == 64 - byte_tokenizer.pad_token_id - 1
    (score,) = model.score([["<|prompter|>" + "What is amber? " * 80, "<|assistant|>"]], ["Resin."])
    assert abs(score) < 1e3
