"""Reward models: Bradley-Terry against scalar math, learning of a separable ranking, and a folder that plain
transformers and the evaluator read alike."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_preprocess.command import InputError, parse_settings
from data_preprocess.dialogue import ASSISTANT, PROMPTER
from data_preprocess.files import write_jsonl
from data_preprocess.records import load_records
from training import train_reward
from training.reward.config import RewardConfig, passes_per_step
from training.reward.losses import (
    as_rows,
    bradley_terry_loss,
    count_pairs,
    first_rows,
    next_token_loss,
    pair_accuracy,
)

SMALL = ["--hidden_size", "16", "--num_layers", "1", "--num_heads", "2", "--batch_size", "4"]


def scalar_bradley_terry(scores: list[list[float]], rewards: list[list[float]]) -> float:
    """-log sigmoid(s_i - s_j) in plain math, averaged over every pair whose rewards differ."""
    terms = []
    for s, r in zip(scores, rewards, strict=True):
        for i in range(len(s)):
            for j in range(len(s)):
                if r[i] > r[j]:
                    terms.append(-math.log(1 / (1 + math.exp(-(s[i] - s[j])))))
    return sum(terms) / len(terms) if terms else 0.0


def test_bradley_terry_of_one_pair_by_hand():
    loss = bradley_terry_loss(torch.tensor([[2.0, 0.5]]), torch.tensor([[1.0, -1.0]]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1.5)), rel=1e-6)
    reversed_loss = bradley_terry_loss(torch.tensor([[0.5, 2.0]]), torch.tensor([[1.0, -1.0]]))
    assert reversed_loss.item() == pytest.approx(math.log(1 + math.exp(1.5)), rel=1e-6)


def test_bradley_terry_against_scalar_math_with_ties_and_any_order():
    scores = [[0.3, -1.2, 2.0, 0.0], [1.0, 1.0, -0.5, 0.25], [0.1, 0.2, 0.3, 0.4]]
    rewards = [[3.0, 1.0, 1.0, -2.0], [-1.0, 0.5, 0.5, 2.0], [7.0, 7.0, 7.0, 7.0]]
    loss = bradley_terry_loss(torch.tensor(scores), torch.tensor(rewards))
    assert loss.item() == pytest.approx(scalar_bradley_terry(scores, rewards), rel=1e-6)


def test_bradley_terry_gradient_by_hand_and_of_ties():
    scores = torch.tensor([[1.0, 0.0], [4.0, -4.0]], requires_grad=True)
    bradley_terry_loss(scores, torch.tensor([[1.0, 0.0], [2.0, 2.0]])).backward()
    # d/ds_1 of -log sigmoid(s_1 - s_2) = -sigmoid(-(s_1 - s_2)); a tie has none.
    slope = 1 / (1 + math.exp(1.0))
    assert scores.grad[0].tolist() == pytest.approx([-slope, slope], rel=1e-6)
    assert scores.grad[1].tolist() == [0.0, 0.0]


def test_bradley_terry_stays_finite_and_needs_no_pair():
    extreme = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = bradley_terry_loss(extreme, torch.tensor([[0.0, 1.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(2e4) and torch.isfinite(extreme.grad).all()
    assert bradley_terry_loss(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)).item() == 0.0
    assert bradley_terry_loss(torch.tensor([[1.0]]), torch.zeros(1, 1)).item() == 0.0


def test_rewards_count_by_their_order_only():
    scores = torch.tensor([[0.3, -1.2, 2.0]])
    small, large = torch.tensor([[0.1, 0.0, -0.1]]), torch.tensor([[900.0, 3.0, -8.0]])
    assert bradley_terry_loss(scores, small) == bradley_terry_loss(scores, large)


def test_rankings_of_different_length_share_a_batch():
    logits, rewards = torch.tensor([0.5, -0.5, 2.0, 1.0, 0.0]), [[1.0, 0.0], [3.0, 2.0, 1.0]]
    loss = bradley_terry_loss(*as_rows(logits, rewards))
    assert loss.item() == pytest.approx(scalar_bradley_terry([[0.5, -0.5], [2.0, 1.0, 0.0]], rewards), rel=1e-6)


def test_rewards_that_float32_cannot_tell_apart_are_still_a_pair():
    rewards = [[16777217.0, 16777216.0, 16777216.0]]
    assert torch.tensor(rewards).unique().numel() == 1  # a tie in float32
    loss = bradley_terry_loss(*as_rows(torch.tensor([0.5, -0.5, 2.0]), rewards), total=count_pairs(rewards[0]))
    assert loss.item() == pytest.approx(scalar_bradley_terry([[0.5, -0.5, 2.0]], rewards), rel=1e-6)


def test_next_token_loss_by_hand():
    # A vocabulary of 2 and width 1: a state scores tokens 0 and 1 by state x embedding.
    states, embeddings = torch.tensor([[2.0], [-1.0]]), torch.tensor([[0.0], [1.0]])
    # Token 1 from state 2, then token 1 from state -1.
    expected = math.log(1 + math.exp(-2.0)) + math.log(1 + math.exp(1.0))
    for total, divisor in ((8, 8), (None, 2)):
        loss = next_token_loss(states, embeddings, torch.tensor([1, 1]), total)
        assert loss.item() == pytest.approx(expected / divisor, rel=1e-6)
    assert first_rows([4, 2, 3]) == [0, 4, 6]


def test_pair_accuracy_by_hand():
    # row 1: pairs (0,1) right, (0,2) wrong, (1,2) wrong; row 2: a tied reward is no pair, a tied score is wrong
    found = pair_accuracy([[1.0, 0.5, 2.0], [1.0, 1.0, 0.0]], [[3.0, 2.0, 1.0], [5.0, 4.0, 4.0]])
    assert found == {"pair_accuracy": 2 / 5, "pairs": 5, "rankings": 2}


@pytest.fixture(scope="module")
def rankings(tmp_path_factory) -> tuple[Path, Path]:
    """Rankings of three: the more often a response says thanks, the better."""
    folder = tmp_path_factory.mktemp("rankings")
    questions = ["Can you help me?", "What is amber made of?", "How do I fix a tap?", "Tell me about whales."]
    replies = ["Turn the water off.", "Whales sing.", "Amber is resin.", "No."]

    def row(question: str, reply: str) -> dict:
        turns = [PROMPTER + question, ASSISTANT]
        suffix = [f"{reply} Thanks! Thanks!", f"{reply} Thanks!", reply]
        return {"prefix": [turns] * 3, "suffix": suffix, "reward": [2.0, 0.5, -1.0], "meta": {}}

    rows = [row(question, reply) for question in questions for reply in replies]
    write_jsonl(folder / "train.json", rows[:12])
    write_jsonl(folder / "heldout.json", rows[12:])
    return folder / "train.json", folder / "heldout.json"


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory, byte_tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer.save_pretrained(folder)
    return folder


def arguments(rankings, output: Path, *more: str) -> list[str]:
    files = ["--train_file", str(rankings[0]), "--heldout_file", str(rankings[1])]
    return [*files, "--output_dir", str(output), *SMALL, *more]


@pytest.fixture(scope="module")
def trained(rankings, tokenizer_dir, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    more = ("--tokenizer", str(tokenizer_dir), "--max_steps", "60", "--learning_rate", "1e-2")
    train_reward.main(arguments(rankings, folder, *more))
    return folder


def test_a_separable_ranking_is_learnt(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["pairs"] == 12 and metrics["rankings"] == 4
    assert metrics["pair_accuracy"] >= 11 / 12  # chance is 1/2


def test_plain_transformers_reads_the_folder_and_gives_the_evaluator_s_scores(trained, rankings):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from eval_hh.reward_model import load_reward_model

    tokenizer = AutoTokenizer.from_pretrained(trained)
    model = AutoModelForSequenceClassification.from_pretrained(trained).eval()
    assert model.config.num_labels == 1 and model.config.pad_token_id == tokenizer.pad_token_id
    records = load_records(rankings[1])
    ours = load_reward_model(trained).score(
        [r.prefix for r in records for _ in r.suffix], [text for r in records for text in r.suffix]
    )
    eos = tokenizer.eos_token
    plain = []
    for record in records:
        for text in record.suffix:
            ids = tokenizer(f"{record.prefix[0]}{eos}{ASSISTANT}{text}{eos}", add_special_tokens=False)["input_ids"]
            plain.append(model(torch.tensor([ids])).logits.item())
    assert ours == pytest.approx(plain, abs=1e-5)


def test_training_can_go_on_from_a_folder(trained, rankings, tmp_path):
    from transformers import AutoModelForSequenceClassification

    folder = tmp_path / "further"
    more = ("--model_name_or_path", str(trained), "--max_steps", "1", "--learning_rate", "0")
    train_reward.main(arguments(rankings, folder, *more))
    before = AutoModelForSequenceClassification.from_pretrained(trained).state_dict()
    after = AutoModelForSequenceClassification.from_pretrained(folder).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_finished_model_is_kept_and_its_accuracy_printed_again(rankings, tokenizer_dir, tmp_path, capsys):
    argv = arguments(rankings, tmp_path / "model", "--tokenizer", str(tokenizer_dir), "--max_steps", "2")
    train_reward.main(argv)
    first = capsys.readouterr().out
    stamp = (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns
    train_reward.main(argv)
    second = capsys.readouterr().out
    assert "already trained" in second and first.strip().splitlines()[-1] in second
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns == stamp
    metrics = {"pair_accuracy": 0.5, "pairs": 1, "rankings": 2}
    for damage in ({"pair_accuracy": None}, {"pairs": "3"}, {"files": [1]}, {"files": {"a": {"pairs": 3}}}):
        (tmp_path / "model" / "metrics.json").write_text(json.dumps(metrics | damage))
        with pytest.raises(InputError, match="metrics.json: not a reward model's metrics"):
            train_reward.main(argv)


def test_two_sources_or_none_are_refused(rankings):
    config = RewardConfig(str(rankings[0]), [str(rankings[1])], "out", tokenizer="here")
    for wrong in ({"tokenizer": ""}, {"model_name_or_path": "there"}):
        with pytest.raises(InputError, match="--tokenizer .* or --model_name_or_path"):
            replace(config, **wrong)


def test_passes_by_hand():
    """16 rankings a step on 2 processes are 8 each: at most 3 at a time takes 3 passes."""
    config = RewardConfig("train", ["heldout"], "out", tokenizer="here", batch_size=16)
    assert passes_per_step(config, 1, 100) == passes_per_step(config, 2, 100) == 1
    small = replace(config, per_device_train_batch_size=3)
    assert [passes_per_step(small, n, 100) for n in (1, 2, 4, 8, 16)] == [6, 3, 2, 1, 1]
    assert passes_per_step(small, 1, 5) == 2  # a step of all 5 rankings that there are


def test_steps_that_cannot_be_divided_are_refused():
    config = RewardConfig("train", ["heldout"], "out", tokenizer="here", batch_size=16)
    with pytest.raises(InputError, match="a step of 16 rankings .* does not divide over 3 processes"):
        passes_per_step(config, 3, 100)


def test_a_model_is_known_by_the_settings_that_it_follows_from():
    argv = ["--train_file", "t", "--heldout_file", "h", "--model_name_or_path", "d", "--output_dir", "o"]
    config = parse_settings(RewardConfig, argv, "").resolved("bf16")
    assert config.learning_rate == 1e-5 and config.mixed_precision == "bf16"
    free = {"output_dir": "p", "per_device_train_batch_size": 2, "keep_states": 9, "report_to": ["tensorboard"]}
    free["push_to_hub"] = "me/model"
    assert replace(config, **free).identity() == config.identity()
    for name, value in {"eval_steps": 5, "mixed_precision": "no", "heldout_file": ["h", "i"], "seed": 7}.items():
        assert replace(config, **{name: value}).identity() != config.identity()
    # What came later is named only where it matters: a model of an earlier version is still the same.
    assert not {"lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "weight_decay"} & set(config.identity())
    assert replace(config, weight_decay=0.0).identity() == config.identity() | {"weight_decay": 0.0}
    with pytest.raises(InputError, match="--warmup_steps and --lr_scheduler_kwargs: expected --lr_scheduler_type"):
        replace(config, warmup_steps=3.0)


def test_unsorted_training_rewards_are_named(rankings, tokenizer_dir, tmp_path):
    row = json.loads(rankings[0].read_text().splitlines()[0]) | {"reward": [0.0, 1.0, 2.0]}
    write_jsonl(tmp_path / "bad.json", [row])
    argv = arguments((tmp_path / "bad.json", rankings[1]), tmp_path / "model", "--tokenizer", str(tokenizer_dir))
    with pytest.raises(InputError, match="bad.json:1: rewards increase"):
        train_reward.main(argv)
    assert not (tmp_path / "model").exists()
