"""What the CPU's tests hold, on CUDA, as part of benchmarks/gpu.sh: `TEST_DEVICE=cuda pytest tests/test_cuda.py`.

The oracle is the CPU in float32 wherever one is named. TEST_DEVICE=cpu tries the code of these tests without a GPU.
"""

import copy
import os
import sys
import warnings

import pytest
import test_trainer
import torch
from model_families import FAMILIES, plain_sums, rankings
from test_decoding import PROMPTS
from test_trainer import LOSSES, MAIN, arguments, assert_same_losses, launch, metrics, without_dropout

from data_preprocess.hub import load_tokenizer
from eval_hh import reward_model
from eval_hh.inference.decoding import generate
from eval_hh.inference.models import load_causal_lm
from training.collator import collate
from training.losses import response_logps

WHERE = os.environ.get("TEST_DEVICE", "")
pytestmark = pytest.mark.skipif(not WHERE, reason="TEST_DEVICE=cuda runs these tests")
study = test_trainer.study  # the fixture

RIGHT = [pytest.param(family, id=str(family)) for family in FAMILIES if not family.refused]
# Relative error that bfloat16 may add to a response's log-probability, and the factor by which a packed row's error may
# exceed that of separate passes, medians over the responses: a router may send a token to other experts.
BF16_ERROR, TIMES_PLAIN = 0.005, 3


def batch():
    return {name: tensor.to(WHERE) for name, tensor in collate(rankings()).items()}


def packed_sums(model):
    return response_logps(model, batch())[0]


def test_the_gpu_is_there():
    assert WHERE == "cpu" or torch.cuda.is_available(), "TEST_DEVICE=cuda, but torch sees no GPU"


@pytest.mark.parametrize("family", RIGHT)
def test_log_probabilities_and_gradients_are_those_of_separate_passes(family):
    """A packed row there, separate passes there, and separate passes on the CPU, in float32."""
    model = family.model()  # in evaluation mode: some families have dropout
    there = copy.deepcopy(model).to(WHERE)
    found = []
    for each, sums in ((model, plain_sums), (there, plain_sums), (there, packed_sums)):
        each.zero_grad()
        logps = sums(each)
        (logps * torch.arange(1.0, 7.0, device=logps.device).view(2, 3)).sum().backward()
        gradients = {name: p.grad.cpu().clone() for name, p in each.named_parameters() if p.grad is not None}
        found.append((logps.detach().cpu(), gradients))
    (expected, expected_gradients), *others = found
    for logps, gradients in others:
        assert (logps - expected).abs().max() < 1e-3
        assert gradients.keys() == expected_gradients.keys()
        for name, gradient in expected_gradients.items():
            error = (gradients[name] - gradient).abs().max()
            assert error <= 2e-3 * gradient.abs().max().clamp(min=0.1), name


@pytest.mark.parametrize("family", RIGHT)
@pytest.mark.parametrize("way", ["weights", "autocast"])
def test_bf16_is_as_near_to_float32_as_separate_passes_are(family, way):
    """In bfloat16 weights, as under DeepSpeed, and in float32 weights under autocast, as without it."""
    model = family.model().bfloat16().float()  # what bfloat16 weights can hold, so that only arithmetic differs
    with torch.no_grad():
        expected = plain_sums(model)
        there = model.to(WHERE, torch.bfloat16 if way == "weights" else torch.float32)
        with torch.autocast(torch.device(WHERE).type, torch.bfloat16, enabled=way == "autocast"):
            plain, packed = (sums(there).cpu() for sums in (plain_sums, packed_sums))
    errors = [((sums - expected) / expected).abs().median() for sums in (plain, packed)]
    assert packed.isfinite().all() and errors[1] <= TIMES_PLAIN * errors[0] + BF16_ERROR


@pytest.mark.parametrize("family", ["opt", "gpt_neox", "llama", "gpt2", "qwen2"])
def test_greedy_texts_are_those_of_the_cpu(family, tiny_causal_lm_dir):
    folder = tiny_causal_lm_dir(family)
    model, tokenizer = load_causal_lm(folder), load_tokenizer(folder)
    expected = generate(model, tokenizer, PROMPTS, max_new_tokens=20, batch_size=2)
    assert len(set(expected)) > 2, "the tiny model says the same to every prompt, which would test nothing"
    for batch_size in (1, 2, 5):
        assert generate(model.to(WHERE), tokenizer, PROMPTS, max_new_tokens=20, batch_size=batch_size) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bf16"])
def test_scores_are_those_of_the_cpu(dtype, tiny_reward_dir, monkeypatch):
    prompts, replies = PROMPTS, ["Amber is old resin.", "Of course!", "They sing.", "Turn it off.", "x " * 40]
    there = reward_model.load_reward_model(tiny_reward_dir, dtype)
    assert there.model.device.type == torch.device(WHERE).type
    monkeypatch.setattr(reward_model, "device", lambda: torch.device("cpu"))
    expected = reward_model.load_reward_model(tiny_reward_dir).score(prompts, replies)
    assert max(expected) - min(expected) > 0.1
    slack = {"rel": 1e-5, "abs": 1e-5} if dtype == torch.float32 else {"rel": 0.05, "abs": 0.05}
    for batch_size in (1, 2, 5):
        assert there.score(prompts, replies, batch_size) == pytest.approx(expected, **slack)


def test_a_run_has_the_losses_of_the_cpu(study):
    without_dropout(study)
    test_trainer.run([sys.executable, MAIN, *arguments(study, "there")], study)
    test_trainer.run([sys.executable, MAIN, *arguments(study, "cpu")], study, CUDA_VISIBLE_DEVICES="")
    assert_same_losses(metrics(study, "there"), metrics(study, "cpu"), rel=1e-3)


@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_a_bf16_run_goes_on_as_if_never_stopped(study, zero_stage):
    """Through the launcher, with dropout and validation: four steps and then a fifth are five.

    On the CPU they are the same bit for bit; on a GPU sums may be made in another order, and a warning says whether.
    """
    if zero_stage:
        pytest.importorskip("deepspeed")
    launch(study, "whole", zero_stage, processes=1, precision="bf16")
    launch(study, "halted", zero_stage, "--max_train_steps", "4", processes=1, precision="bf16")
    launch(study, "halted", zero_stage, processes=1, precision="bf16")
    whole, halted = metrics(study, "whole"), metrics(study, "halted")
    same = whole == halted and test_trainer.weights(study, "halted") == test_trainer.weights(study, "whole")
    warnings.warn(f"ZeRO stage {zero_stage}: the same bit for bit: {same}", stacklevel=1)
    assert same or WHERE != "cpu"
    for row, expected in zip(halted, whole, strict=True):
        assert [row[name] for name in LOSSES] == pytest.approx([expected[name] for name in LOSSES], rel=0.02)


@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_a_bf16_run_follows_float32(study, zero_stage):
    if zero_stage:
        pytest.importorskip("deepspeed")
    without_dropout(study)
    slow = ("--learning_rate", "1e-3")
    test_trainer.run([sys.executable, MAIN, *arguments(study, "float32", *slow)], study)
    launch(study, "bf16", zero_stage, *slow, processes=1, precision="bf16")
    for row, expected in zip(metrics(study, "bf16"), metrics(study, "float32"), strict=True):
        assert [row[name] for name in LOSSES] == pytest.approx([expected[name] for name in LOSSES], rel=0.03)
        assert row["loss"] != expected["loss"]  # it was bf16


def test_weights_in_four_bits_train_and_go_on(study):
    """QLoRA: the first loss is near that of 16-bit weights, and four steps and then a fifth are five."""
    pytest.importorskip("bitsandbytes")
    without_dropout(study)
    lora = ("--lora_r", "4", "--learning_rate", "1e-2")
    launch(study, "whole", 0, *lora, processes=1, precision="bf16")
    four_bits = (*lora, "--load_in_4bit")
    launch(study, "qlora", 0, *four_bits, processes=1, precision="bf16")
    launch(study, "halted", 0, *four_bits, "--max_train_steps", "4", processes=1, precision="bf16")
    launch(study, "halted", 0, *four_bits, processes=1, precision="bf16")
    lora, qlora, halted = (metrics(study, name) for name in ("whole", "qlora", "halted"))
    assert qlora[0]["loss"] == pytest.approx(lora[0]["loss"], rel=0.05)
    assert qlora[0]["loss"] != lora[0]["loss"] and qlora[-1]["loss"] != qlora[0]["loss"]
    for row, expected in zip(halted, qlora, strict=True):
        assert [row[name] for name in LOSSES] == pytest.approx([expected[name] for name in LOSSES], rel=0.02)
