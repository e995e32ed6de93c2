"""bfloat16 on a CPU: done where it is asked for and the CPU has it, refused where not, and float32 where not asked."""

import json

import pytest
import torch
from eval_study import build_study, read_lines

from data_preprocess.command import InputError, run
from eval_hh import generation, rewarding
from eval_hh.inference import decoding, models
from eval_hh.inference.models import CPU_BF16, check_cpu_precision, weights_dtype
from eval_hh.inference.resumable_jobs import read_note
from eval_hh.reward_model import RewardModel
from eval_hh.run_paths import recorded_precision
from tests.test_going_on import train  # noqa: F401
from tests.test_trainer import needs_bf16, study  # noqa: F401

NAMES = ["--index", "trial", "--stage", "2", "--test_files", "harmless_base"]


def cpu(monkeypatch, **abilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", **abilities})


def test_what_a_cpu_can_is_asked_by_its_instructions(monkeypatch):
    for name in ("avx512_bf16", "amx_bf16", "bf16"):
        cpu(monkeypatch, **{name: True})
        check_cpu_precision("bf16")
    cpu(monkeypatch, avx2=True, avx512_bf16=False)
    check_cpu_precision("no")
    with pytest.raises(InputError, match="^--mixed_precision bf16: this CPU has no instructions for bf16 "):
        check_cpu_precision("bf16")
    with pytest.raises(InputError, match="^--reward_dtype bfloat16: this CPU has no instructions"):
        check_cpu_precision("bf16", "--reward_dtype bfloat16")
    with pytest.raises(InputError, match="^--mixed_precision fp16: the CPU computes in float32 or bf16"):
        check_cpu_precision("fp16")
    monkeypatch.setattr(models, "device", lambda: torch.device("cuda"))
    check_cpu_precision("bf16"), check_cpu_precision("fp16")


def test_what_is_recorded_and_loaded(monkeypatch):
    """What was not asked for is recorded as it always was, and is float32 on a CPU."""
    cpu(monkeypatch, avx512_bf16=True)
    recorded = {asked: recorded_precision(asked, "bf16") for asked in (None, "no", "bf16")}
    assert recorded == {None: "bf16", "no": "no", "bf16": CPU_BF16}
    assert [weights_dtype(name) for name in recorded.values()] == [torch.float32, torch.float32, torch.bfloat16]
    monkeypatch.setattr(models, "device", lambda: torch.device("cuda"))
    assert {asked: recorded_precision(asked, "bf16") for asked in (None, "bf16", "fp16", "no")} == {
        None: "bf16", "bf16": "bf16", "fp16": "fp16", "no": "no"
    }  # fmt: skip


@pytest.fixture
def evaluated(tmp_path, tiny_causal_lm_dir, tiny_reward_dir, monkeypatch):
    """A study, the flags of its two steps, and the dtypes of the models that decode."""
    build_study(tmp_path, tiny_causal_lm_dir("opt"))
    seen = []
    made = decoding.Decoder.__init__

    def noting(self, model, *rest):
        seen.append(model.dtype)
        made(self, model, *rest)

    monkeypatch.setattr(decoding.Decoder, "__init__", noting)
    results = tmp_path / "eval_hh" / "inference_res"
    name = "main_trial_2_best_checkpoint_harmless_base.json"
    return seen, results / "cache" / f"infer_generate_{name}", results / f"infer_{name}", str(tiny_reward_dir)


def test_evaluation_in_bf16_does_what_it_says(evaluated):
    needs_bf16()
    dtypes, generated, scored, reward_model = evaluated
    short = [*NAMES, "--max_new_tokens", "4"]
    scoring = [*NAMES, "--reward_model", reward_model, "--mixed_precision"]
    generation.main(short)
    generation.main([*short, "--mixed_precision", "bf16"])  # other texts, so made again
    assert dtypes == [torch.float32, torch.bfloat16]
    assert read_note(generated)["settings"]["mixed_precision"] == CPU_BF16
    scores = []
    for precision in ("no", "bf16"):
        rewarding.main([*scoring, precision])
        scores.append([row["infer"]["score"] for row in read_lines(scored)])
    assert read_note(scored)["settings"]["mixed_precision"] == CPU_BF16
    assert scores[0] != scores[1] and scores[1] == pytest.approx(scores[0], abs=0.05)
    generation.main(short)
    assert dtypes[2:] == [torch.float32]
    assert read_note(generated)["settings"]["mixed_precision"] == "bf16"  # as earlier versions recorded it


def test_evaluation_without_instructions_is_refused_before_anything_is_made(evaluated, monkeypatch, capsys):
    cpu(monkeypatch, avx2=True)
    dtypes, generated, _, reward_model = evaluated
    for command in (
        lambda: generation.main([*NAMES, "--mixed_precision", "bf16", "--check"]),
        lambda: rewarding.main([*NAMES, "--mixed_precision", "bf16", "--check", "--reward_model", reward_model]),
    ):
        with pytest.raises(SystemExit) as ended:
            run(command)
        error = capsys.readouterr().err
        assert ended.value.code == 2 and error.count("\n") == 1 and "this CPU has no instructions for bf16" in error
    assert not dtypes and not generated.exists()


SHORT = ("--max_train_steps", "1")


def test_training_without_instructions_is_refused(train, monkeypatch):  # noqa: F811
    cpu(monkeypatch, avx2=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    status, line = train("run", *SHORT)
    assert status == 2 and line.startswith("error: --mixed_precision bf16: this CPU has no instructions for bf16")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    status, line = train("run", *SHORT, "--reward_dtype", "bfloat16")
    assert status == 2 and line.startswith("error: --reward_dtype bfloat16: this CPU has no instructions for bf16")
    assert not (train.root / "checkpoints").exists()


def test_a_dev_reward_model_in_bfloat16(train, monkeypatch):  # noqa: F811
    needs_bf16()
    loaded = []
    original = RewardModel.score

    def noting(self, *args, **named):
        loaded.append(self.model.dtype)
        return original(self, *args, **named)

    monkeypatch.setattr(RewardModel, "score", noting)
    rewards = []
    for exp, dtype in (("full", "float32"), ("half", "bfloat16")):
        assert train(exp, *SHORT, "--reward_dtype", dtype)[0] == 0, train.error
        path = train.root / "checkpoints" / f"index_{exp}" / "stage_4" / "dev_rewards.json"
        rewards.append(json.loads(path.read_text())["1"])
    assert loaded == [torch.float32, torch.bfloat16]
    assert "logits in bfloat16 differ from float32 by at most" in train.printed
    assert rewards[0] != rewards[1] and rewards[1] == pytest.approx(rewards[0], abs=0.02)
    status, line = train("half", *SHORT, "--reward_dtype", "float32")
    assert status == 2 and "reward_dtype was 'bfloat16', is 'float32'" in line
