"""Dialogues of one prompt computed together score, and train, as each of them alone."""

import random

import pytest
import test_chat_reward
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_chat_reward import build
from test_families import one_by_one
from test_reward_model import build_oasst, with_padding
from transformers import AutoModelForSequenceClassification

from data_preprocess.command import InputError
from eval_hh import reward_model
from eval_hh.inference import varlen_attention
from eval_hh.inference.shared_prompt import attention
from eval_hh.inference.shared_texts import shared_row
from eval_hh.reward_model import SLACK, as_reward_model, load_reward_model, measure_half_precision
from tests.test_trainer import needs_bf16
from training.lora import LoraSettings, add_lora
from training.reward.trainer import RankingLoss

PROMPTS = [
    ["<|prompter|>How do I fix a leaking tap in an old kitchen?", "<|assistant|>"],
    ["<|prompter|>Hi", "<|assistant|>Hello!", "<|prompter|>Tell me about whales.", "<|assistant|>"],
    ["<|prompter|>" + "What is amber made of? " * 90, "<|assistant|>"],  # cut from the left
]
REPLIES = ["Turn the water off, then change the washer.", "", "They sing.", "They sing. They sing, and breathe air."]
STILL = {"dropout": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # no dropout while gradients compare
FAMILIES = {**test_chat_reward.FAMILIES, "opt": {"word_embed_proj_dim": 32, "ffn_dim": 64}, "gpt2": {}}


@pytest.fixture
def folder(request, tmp_path, byte_tokenizer):
    """Of a family, or of OpenAssistant's kind with one of its poolings."""
    if request.param.startswith("oasst"):
        return build_oasst(tmp_path / "model", byte_tokenizer, request.param.partition(" ")[2])
    return build(tmp_path / "model", byte_tokenizer, request.param, **STILL, **FAMILIES[request.param])


EVERY = pytest.mark.parametrize("folder", [*FAMILIES, "oasst last", "oasst mean"], indirect=True)


def dialogues():
    return [(turns, reply) for turns in PROMPTS for reply in REPLIES]


def alone(model):
    """Each dialogue's logit in a plain forward pass of its own, without padding."""
    model.packs = False
    logits = [model.score_batch([model.encode(*dialogue)])[0] for dialogue in dialogues()]
    model.packs = True
    assert max(logits) - min(logits) > 0.05
    return logits


@EVERY
def test_scores_are_those_of_each_dialogue_alone(folder):
    """Whatever the batch, the order and who shares the row."""
    model = load_reward_model(folder)
    assert model.packs
    expected = alone(model)
    order = random.Random(0).sample(range(len(expected)), len(expected))
    for numbers in (range(len(expected)), order, order[:5]):
        chosen = [dialogues()[i] for i in numbers]
        for batch_size in (1, 3, 100):
            found = model.score([turns for turns, _ in chosen], [reply for _, reply in chosen], batch_size)
            assert found == pytest.approx([expected[i] for i in numbers], abs=1e-4)


@EVERY
def test_shared_tokens_are_computed_once(folder):
    model = load_reward_model(folder)
    encoded = [model.encode(*dialogue) for dialogue in dialogues()]
    row = shared_row(encoded, [tuple(turns) for turns, _ in dialogues()])
    assert len(row.lengths[0]) == len(REPLIES) + 1 and row.lengths[0][0] > 20
    assert len(row.input_ids) < 0.75 * sum(map(len, encoded))


@EVERY
def test_equal_dialogues_have_equal_scores(folder):
    """To the last bit, so that a comparison of them is a tie."""
    model = load_reward_model(folder)
    turns, replies = [PROMPTS[0]] * 9, [*REPLIES[:2], *[REPLIES[2]] * 3, REPLIES[3], *[REPLIES[0]] * 3]
    scores = model.score(turns, replies)
    assert len(set(scores)) == 4 and len({*scores[2:5]}) == len({scores[0], *scores[6:]}) == 1


@pytest.mark.parametrize("folder", ["qwen2", "oasst mean"], indirect=True)
def test_attention_in_one_call_gives_the_same_scores(folder, monkeypatch):
    """The GPU's path with its kernel written out, also for dialogues that share nothing."""
    calls = []
    monkeypatch.setattr("eval_hh.inference.shared_prompt.usable", lambda query, value, dropout: True)
    monkeypatch.setattr(varlen_attention, "_kernel", lambda *given: calls.append(1) or one_by_one(*given))
    model = load_reward_model(folder)
    assert model.packs and calls
    assert model.score(*zip(*dialogues(), strict=True)) == pytest.approx(alone(model), abs=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 11), min_size=1, max_size=12), st.integers(1, 6))
def test_a_score_does_not_hang_on_its_neighbours(tiny_reward_dir, numbers, batch_size):
    model = _loaded(tiny_reward_dir)
    expected = _loaded.expected
    found = model.score(*zip(*[dialogues()[i] for i in numbers], strict=True), batch_size)
    assert found == pytest.approx([expected[i] for i in numbers], abs=1e-4)


def _loaded(folder):
    if not hasattr(_loaded, "model"):
        _loaded.model = load_reward_model(folder)
        _loaded.expected = alone(_loaded.model)
    return _loaded.model


def test_a_loaded_model_scores_with_packed_weights_and_one_in_training_with_its_own(tiny_reward_dir):
    model, seen = load_reward_model(tiny_reward_dir), []
    linears = [module for module in model.model.modules() if type(module) is torch.nn.Linear]
    hook = model.model.base_model.register_forward_hook(
        lambda *_: seen.append({"forward" in linear.__dict__ for linear in linears})
    )
    turns, replies = zip(*dialogues(), strict=True)
    scores = model.score(turns, replies)
    assert seen and all(each == {True} for each in seen) and not any("forward" in each.__dict__ for each in linears)
    training = as_reward_model(model.model, model.tokenizer, tiny_reward_dir)
    with torch.no_grad():
        model.model.score.weight.mul_(2)
    seen.clear()
    assert training.score(turns, replies) == pytest.approx([2 * score for score in scores], abs=1e-5)
    assert seen and all(each == {False} for each in seen)
    hook.remove()


@pytest.mark.parametrize("pad", ["own", "eos", "none"])
def test_the_padding_rule_of_the_model_s_own_forward_holds(pad, tiny_reward_dir, tmp_path):
    """With EOS as padding a classifier pools before it, perhaps in the prompt that its neighbours share."""
    tokenizer = with_padding(tiny_reward_dir, tmp_path / "model", pad)
    model = load_reward_model(tmp_path / "model")
    assert model.packs
    expected = alone(model)
    assert model.score(*zip(*dialogues(), strict=True)) == pytest.approx(expected, abs=1e-5)
    eos = [tokenizer.eos_token_id] * 4  # a dialogue of padding alone is pooled at its first token
    model.packs = False
    plain = model.score_batch([eos])
    model.packs = True
    assert model.score_batch([eos, eos], [0, 0]) == pytest.approx(plain * 2, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_within_its_slack(dtype, tiny_reward_dir):
    if dtype == torch.bfloat16:
        needs_bf16()
    model = load_reward_model(tiny_reward_dir, dtype)
    assert model.packs
    for ours, own in zip(model.score(*zip(*dialogues(), strict=True)), alone(model), strict=True):
        assert abs(ours - own) <= SLACK[dtype] * (1 + abs(own))


@pytest.mark.parametrize("family", ["bert", "bloom", "falcon"])
def test_a_model_that_cannot_be_packed_gets_padded_rows(family, tmp_path, byte_tokenizer):
    """An encoder, a kind without sdpa, and one with attention of its own: scores are each dialogue's own."""
    more = {"falcon": {"num_kv_heads": 4, "alibi": False}}.get(family, {})
    model = load_reward_model(build(tmp_path / "model", byte_tokenizer, family, **more))
    assert not model.packs
    expected = [model.score_batch([model.encode(*dialogue)])[0] for dialogue in dialogues()]
    assert model.score(*zip(*dialogues(), strict=True)) == pytest.approx(expected, abs=1e-4)


def test_a_model_that_the_probe_finds_wrong_gets_padded_rows(tiny_reward_dir, monkeypatch):
    """Attention without the mask of a packed row: responses would see one another."""

    def unmasked(module, query, key, value, attention_mask, row=None, **more):
        return attention(module, query, key, value, attention_mask, row=row and _whole(row), **more)

    def _whole(row):
        return reward_model.PackedRow([[row.n_tokens]])

    monkeypatch.setattr("eval_hh.inference.shared_prompt.attention", unmasked)
    model = load_reward_model(tiny_reward_dir)
    assert not model.packs and model.model.config._attn_implementation == "sdpa"
    expected = [model.score_batch([model.encode(*dialogue)])[0] for dialogue in dialogues()]
    assert model.score(*zip(*dialogues(), strict=True)) == pytest.approx(expected, abs=1e-5)


RANKINGS = ((0, [2.0, 1.0, 1.0, -1.0]), (1, [3.0, 1.0]), (2, [1.0, 0.0, -1.0]))  # prompt, rewards of its first replies


def gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def in_one_row(model, lm_weight):
    texts = [model.encode(PROMPTS[prompt], REPLIES[i]) for prompt, rewards in RANKINGS for i in range(len(rewards))]
    return RankingLoss(model, lm_weight)(texts, [rewards for _, rewards in RANKINGS], 10, 300)


def in_passes(model, lm_weight):
    """Each text in a pass of its own, and the sums over pairs and tokens in a slow loop."""
    loss = torch.zeros(())
    for prompt, rewards in RANKINGS:
        texts = [model.encode(PROMPTS[prompt], reply) for reply in REPLIES[: len(rewards)]]
        scores = [model.padded_logits([ids])[0] for ids in texts]
        for i, better in enumerate(rewards):
            for j, worse in enumerate(rewards):
                if better > worse:
                    loss = loss - torch.log(torch.sigmoid(scores[i] - scores[j])) / 10
        if lm_weight:
            ids = torch.tensor([texts[0]])
            states = model.model.base_model(ids).last_hidden_state[0]
            logps = (states @ model.model.get_input_embeddings().weight.T).log_softmax(-1)
            for place in range(len(texts[0]) - 1):
                loss = loss - lm_weight * logps[place, texts[0][place + 1]] / 300
    return loss


@pytest.mark.parametrize("lm_weight", [0.0, 2.0])
@EVERY
def test_loss_and_gradients_are_those_of_separate_passes(folder, lm_weight):
    if lm_weight and "oasst" in str(folder):
        pytest.skip("only models from scratch have a next-token loss")
    model = load_reward_model(folder)
    model.model.train()
    found = []
    for loss_of in (in_one_row, in_passes):
        model.model.zero_grad()
        loss = loss_of(model, lm_weight)
        loss.backward()
        found.append((loss.item(), gradients(model.model)))
    (ours, our_gradients), (separate, expected) = found
    assert ours == pytest.approx(separate, rel=1e-5)
    assert our_gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        difference = (our_gradients[name] - gradient).abs().max()
        assert difference <= 1e-3 * gradient.abs().max().clamp(min=1e-2), name


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_lora_are_those_of_separate_passes(checkpointing, tmp_path, byte_tokenizer):
    folder = build(tmp_path / "model", byte_tokenizer, "llama")
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    add_lora(plain, LoraSettings(lora_r=4), str(folder), 3, ["score"])
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    if checkpointing:
        plain.gradient_checkpointing_enable({"use_reentrant": False})
    model = as_reward_model(plain, byte_tokenizer, folder)
    model.try_packing()
    assert model.packs
    model.model.train()
    found = []
    for loss_of in (in_one_row, in_passes):
        model.model.zero_grad()
        loss_of(model, 0.0).backward()
        found.append(gradients(model.model))
    assert found[0].keys() == found[1].keys() and len(found[0]) > 20
    for name, gradient in found[1].items():
        assert (found[0][name] - gradient).abs().max() <= 1e-3 * gradient.abs().max().clamp(min=1e-2), name


def test_a_next_token_loss_needs_rows_without_padding(tiny_reward_dir):
    model = load_reward_model(tiny_reward_dir)
    model.packs = False
    with pytest.raises(InputError, match="--lm_weight 2"):
        RankingLoss(model, 2.0)


def test_the_error_of_half_precision_is_measured_on_up_to_200_dialogues(tiny_reward_dir, monkeypatch, capsys):
    """Against logits that are known: differences of 0.1 and -0.3 in turns, and a standard deviation of 1.5."""
    needs_bf16()
    model = load_reward_model(tiny_reward_dir, torch.bfloat16)
    encoded = [[number] for number in range(500)]

    def logits(self, texts, prompts, batch_size):
        exact = [3.0 * (number % 2) for (number,) in texts]
        if self.model.dtype == torch.float32:
            return exact
        return [value + (0.1 if i % 2 else -0.3) for i, value in enumerate(exact)]

    monkeypatch.setattr(reward_model.RewardModel, "score_encoded", logits)
    found = measure_half_precision(model, tiny_reward_dir, encoded, range(500), 4)["half_precision"]
    assert found["dialogues"] == 167 and found["dtype"] == "bfloat16"
    assert found["largest"] == pytest.approx(0.3)
    assert found["root_mean_square"] == pytest.approx((83 * 0.01 + 84 * 0.09) ** 0.5 / 167**0.5)
    assert found["sd_of_float32"] == pytest.approx(1.5, abs=1e-2)
    said = capsys.readouterr().out
    assert "logits in bfloat16 differ from float32 by at most 0.3, root mean square 0.22, on 167 dialogues" in said
    monkeypatch.setattr(reward_model, "free_memory", lambda where: 1000)
    assert measure_half_precision(model, tiny_reward_dir, encoded, range(500), 4) == {}
    assert "float32 weights do not fit in memory" in capsys.readouterr().out
