"""training/main.py as users run it: batches and processes change nothing, and neither does SIGKILL."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from two_processes import MAIN, environment, together
from warm_python import Warm, free_port

from data_preprocess.command import InputError
from eval_hh.inference.models import check_cpu_precision
from training.tracking.metrics import keep_metrics, sft_summary

REPOSITORY = Path(__file__).resolve().parents[1]


def test_keep_metrics_drops_later_steps_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n{"step": 3, "lo')
    told = []
    keep_metrics(path, 1, told.append)
    assert path.read_text() == '{"step": 1, "loss": 3.0}\n' and told == []


@pytest.mark.parametrize(("kept", "missing"), [("", 3), ('{"step": 1}\n', 2), ('{"step": 1}\n{"step": 3}\n', 1)])
def test_keep_metrics_tells_of_steps_that_are_missing(tmp_path, kept, missing):
    path = tmp_path / "metrics.jsonl"
    path.write_text(kept)
    told = []
    keep_metrics(path, 3, told.append)
    assert path.read_text() == kept
    assert told == [f"{path}: {missing} of the 3 steps before are not in it, and will be missing"]


def test_sft_summary_takes_means_of_both_ends_without_overlap():
    losses = [5.0, 4.0, 3.0, 2.0, 1.0, 9.0, 9.0, 0.5, 0.5, 1.0, 1.5, 1.5]  # 15 / 5 and 5 / 5
    assert sft_summary(losses) == "12 steps: SFT loss 3.0000 -> 1.0000 (mean of the first and last 5)"
    assert sft_summary([4.0, 2.0, 3.0]) == "3 steps: SFT loss 4.0000 -> 3.0000 (mean of the first and last 1)"
    assert sft_summary([2.5]) == "1 steps: SFT loss 2.5000 -> 2.5000 (mean of the first and last 1)"


@pytest.fixture
def study(tmp_path, tiny_causal_lm_dir, tiny_reward_dir):
    """A study root with 20 rankings of 4, 5 dev prompts, a model with dropout, a reward model."""
    words = "amber resin water forest whales breathe tap washer old sing help found made under".split()
    rows = []
    for i in range(20):
        turns = [f"<|prompter|>What of {words[i % 14]} and {words[(3 * i + 1) % 14]}?", "<|assistant|>"]
        texts = [" ".join(words[(i * j + j) % 14] for j in range(1, 3 + (i + k) % 5)) + f" {k}" for k in range(4)]
        rows.append({"prefix": [turns] * 4, "suffix": texts, "reward": [1.5, 0.5, 0.5, -1.0], "meta": {"row": i}})
    for folder, name, part in (
        ("hh_train_len4_20", "train.json", rows),
        ("hh_dev", "sampled_dev.json", rows[:5]),
    ):
        path = tmp_path / "data" / folder / name
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in part))
    model = tmp_path / "model"
    shutil.copytree(tiny_causal_lm_dir("opt"), model)
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(settings | {"dropout": 0.1}))
    shutil.copytree(tiny_reward_dir, tmp_path / "reward_model")
    return tmp_path


def arguments(root, exp, *more, stage=4):
    return [
        "--do_train", "--index", exp, "--model_name_or_path", str(root / "model"),
        "--train_file_path", str(root / "data" / "hh_train_len4_20"), "--training_stage_num", str(stage),
        "--global_batch_size", "8", "--per_device_train_batch_size", "8", "--learning_rate", "1e-2",
        "--max_train_steps", "5", "--checkpointing_step", "2", "--block_size", "160", "--max_prompt", "96",
        "--dev_reward_model", str(root / "reward_model"), "--max_new_tokens", "6", *more,
    ]  # fmt: skip


def run(command, root, expect=0, **environment):
    env = {**os.environ, "STUDY_ROOT": str(root), "OMP_NUM_THREADS": "1", **environment}
    # On a GPU a fork could not start CUDA.
    if command[0] == sys.executable and command[1] != "-m" and os.environ.get("TEST_DEVICE") != "cuda":
        result = Warm(command[1:], env).finish()
    else:
        result = subprocess.run(command, env=env, capture_output=True, text=True)
    assert result.returncode == expect, result.stderr[-3000:]
    return result


def run_folder(root, exp, stage=4):
    return root / "checkpoints" / f"index_{exp}" / f"stage_{stage}"


def metrics(root, exp, stage=4):
    lines = (root / "logs" / exp / str(stage) / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("seconds", "tokens_per_second")} for line in lines]


def weights(root, exp, step=5):
    (file,) = (run_folder(root, exp) / f"step_{step}").glob("*.safetensors")
    return file.read_bytes()


def assert_same_run(root, exp, reference):
    """Weights bit for bit, every step logged once, the same dev rewards and the same best checkpoint."""
    for step in (2, 4, 5):
        assert weights(root, exp, step) == weights(root, reference, step)
    assert metrics(root, exp) == metrics(root, reference)
    ours, theirs = run_folder(root, exp), run_folder(root, reference)
    assert (ours / "dev_rewards.json").read_text() == (theirs / "dev_rewards.json").read_text()
    assert os.readlink(ours / "best_checkpoint") == os.readlink(theirs / "best_checkpoint")
    assert sorted(p.name for p in ours.iterdir()) == sorted(p.name for p in theirs.iterdir())


LORA = ("--lora_r", "4", "--lora_dropout", "0.2")
TRAINED = pytest.mark.parametrize("more", [(), LORA], ids=["full", "lora"])
WRITER = "training.saving.checkpoint_writer"
KILLS = {
    "inside the third step": ("training.trainer.pro_loss", 3, "before"),
    "while the weights and the optimizer are copied": (f"{WRITER}.copied", 2, "before"),
    # In the background, while training goes on:
    "before a state is written": (f"{WRITER}.save_plain_state", 1, "before"),
    "inside the first state": ("training.saving.manifest.checksum", 2, "before"),
    "full state written, no manifest": ("training.saving.states.write_manifest", 3, "before"),
    "full state written, not renamed": ("training.saving.states._publish", 3, "before"),
    "full state in place": ("training.saving.checkpoints.RunFolder.drop_older_states", 2, "before"),
    "older state renamed, not removed": ("shutil.rmtree", 7, "before"),
    "half of the weights' folder": (f"{WRITER}.CheckpointWriter._save", 2, "after"),
    "dev score not written": ("training.saving.checkpoints.RunFolder.record_dev_reward", 1, "before"),
    "dev score known, best not named": ("training.saving.checkpoints.RunFolder.point_best", 1, "before"),
    "last checkpoint": ("training.saving.checkpoints.RunFolder.point_best", 3, "before"),
    # and before it:
    "before the dev score": ("training.trainer.dev_rewards", 1, "before"),
}


@pytest.mark.slow
@TRAINED
def test_a_killed_run_resumes_to_the_same_weights(more, study):
    run([sys.executable, MAIN, *arguments(study, "whole", "--do_validation", *more)], study)
    assert [row["step"] for row in metrics(study, "whole")] == [1, 2, 3, 4, 5]
    for number, (moment, kill) in enumerate(KILLS.items()):
        flags = arguments(study, f"killed{number}", "--do_validation", *more)
        killer = [sys.executable, REPOSITORY / "tests" / "kill_at.py", "training.main", *map(str, kill), "--", *flags]
        run(killer, study, expect=-signal.SIGKILL)
        run([sys.executable, MAIN, *flags], study)
        try:
            assert_same_run(study, f"killed{number}", "whole")
        except AssertionError as error:
            raise AssertionError(f"killed at: {moment}") from error


@TRAINED
def test_a_killed_run_resumes_once(more, study):
    """The shortest form of the test above, for every run of the tests; and what resuming refuses."""
    flags = arguments(study, "killed", "--do_validation", *more)
    kill = ["training.saving.checkpoints.RunFolder.point_best", "2", "before"]
    killer = [sys.executable, REPOSITORY / "tests" / "kill_at.py", "training.main", *kill, "--", *flags]
    run(killer, study, expect=-signal.SIGKILL)
    run([sys.executable, MAIN, *flags], study)
    run([sys.executable, MAIN, *arguments(study, "whole", "--do_validation", *more)], study)
    assert_same_run(study, "killed", "whole")

    best = run_folder(study, "killed") / "best_checkpoint"
    rewards = json.loads((best.parent / "dev_rewards.json").read_text())
    assert rewards[os.readlink(best).removeprefix("step_")] == max(rewards.values())

    before = weights(study, "killed")
    again = run([sys.executable, MAIN, *flags], study)  # a finished run is left as it is
    assert weights(study, "killed") == before and again.stdout.startswith("already finished: 5 steps: SFT loss")

    other = run([sys.executable, MAIN, *flags, "--learning_rate", "0.5", "--seed", "7"], study, expect=2)
    assert other.stderr.count("\n") == 1
    assert "learning_rate was 0.01, is 0.5" in other.stderr and "seed was 42, is 7" in other.stderr


LOSSES = ("loss", "sft_loss", "ranking_loss_1", "ranking_loss_2", "ranking_loss_3")
RATIOS = ("sft_loss_per_token", "score_margin", "ranking_accuracy", "kendall_tau", "learning_rate")


def assert_same_losses(ours, reference, rel):
    assert len(ours) == len(reference) == 5
    for row, expected in zip(ours, reference, strict=True):
        assert [row[name] for name in LOSSES] == pytest.approx([expected[name] for name in LOSSES], rel=rel)
        assert [row[name] for name in RATIOS] == pytest.approx([expected[name] for name in RATIOS], rel=rel, abs=1e-3)
    assert abs(reference[0]["loss"] / reference[-1]["loss"] - 1) > 0.1  # the updates do matter to the losses


def needs_bf16():
    """Skips a test on a CPU that is refused; that it is refused, test_cpu_precision.py tests on any."""
    try:
        check_cpu_precision("bf16")
    except InputError as error:
        pytest.skip(str(error))


def without_dropout(study):
    path = study / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dropout": 0.0}))


def launch(study, exp, zero_stage, *more, processes=2, precision="no"):
    """Processes through the launch body."""
    flags = arguments(study, exp, *more)
    keep = [flag for flag in flags if flag != "--do_train"]
    command = ["sh", REPOSITORY / "training" / "launch.sh", study / "model", exp, "hh_train_len4_20", "4", "42"]
    run([*command, *keep], study, NUM_PROCESSES=str(processes), ZERO_STAGE=str(zero_stage), BATCH_SIZE="8",
        MIXED_PRECISION=precision, DEV_REWARD_MODEL=str(study / "reward_model"), PORT=str(free_port()),
        PYTHON=sys.executable)  # fmt: skip


@pytest.mark.slow
def test_micro_batches_change_nothing(study):
    """8 x 1 and 1 x 8 see the same losses for five steps at a large learning rate."""
    without_dropout(study)
    run([sys.executable, MAIN, *arguments(study, "8x1")], study)
    run([sys.executable, MAIN, *arguments(study, "1x8", "--per_device_train_batch_size", "1")], study)
    assert_same_losses(metrics(study, "1x8"), metrics(study, "8x1"), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 2, 3])
@pytest.mark.parametrize("more", [(), LORA[:2]], ids=["full", "lora"])
def test_several_processes_change_nothing_and_resume(more, study, zero_stage):
    """Two processes, DDP or ZeRO: the losses of one plain process; grown from 4 steps to 5, the same fifth step.

    The learning rate warms up, which DeepSpeed has to follow too.
    """
    if zero_stage:
        pytest.importorskip("deepspeed")
    without_dropout(study)
    more = ("--lr_scheduler_type", "constant_with_warmup", "--warmup_steps", "3", *more)
    run([sys.executable, MAIN, *arguments(study, "plain", *more)], study)
    if "--lora_r" in more:  # the launcher, which takes longer than the training, is tested with the other half
        assert together(study, zero_stage, arguments(study, "whole", "--do_validation", *more)) == [(0, [])] * 2
    else:
        launch(study, "whole", zero_stage, *more)
    assert_same_losses(metrics(study, "whole"), metrics(study, "plain"), rel=1e-4)

    flags = arguments(study, "halted", "--do_validation", *more)  # what the launcher gives, without it
    assert together(study, zero_stage, [*flags, "--max_train_steps", "4"]) == [(0, [])] * 2
    assert together(study, zero_stage, flags) == [(0, [])] * 2
    assert metrics(study, "halted") == metrics(study, "whole")
    assert weights(study, "halted") == weights(study, "whole")
    rewards = json.loads((run_folder(study, "halted") / "dev_rewards.json").read_text())
    assert sorted(rewards) == ["2", "4", "5"]


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 2])
def test_bf16_follows_float32(study, zero_stage):
    """The launchers' default precision, on one process: the losses of float32 to what bf16 can hold."""
    needs_bf16()
    without_dropout(study)
    run([sys.executable, MAIN, *arguments(study, "float32", "--learning_rate", "1e-3")], study)
    launch(study, "bf16", zero_stage, "--learning_rate", "1e-3", processes=1, precision="bf16")
    for row, expected in zip(metrics(study, "bf16"), metrics(study, "float32"), strict=True):
        assert [row[name] for name in LOSSES] == pytest.approx([expected[name] for name in LOSSES], rel=0.03)
        assert row["loss"] != expected["loss"]  # it was bf16


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(study):
    import torch

    without_dropout(study)
    script = REPOSITORY / "tests" / "save_gradients.py"
    for processes in (1, 2):
        words, port = [script, study / f"{processes}.pt", *arguments(study, f"gradients{processes}")], free_port()
        started = [Warm(words, environment(study, 0, rank, processes, port)) for rank in range(processes)]
        for ended in [process.finish() for process in started]:
            assert ended.returncode == 0, ended.stderr[-3000:]
    one, two = (torch.load(study / f"{processes}.pt") for processes in (1, 2))
    assert set(one) == set(two) and len(one) > 10
    assert max(gradient.abs().max() for gradient in one.values()) > 1e-2
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prefix": [], "suffix', "not valid JSON"),
        (
            '{"prefix": [["<|prompter|>a", "<|assistant|>"]], "suffix": ["x"], "reward": [1.0], "meta": {}}',
            "1 responses (expected at least 2)",
        ),
        (
            '{"prefix": [["<|prompter|>a", "<|assistant|>"], ["<|prompter|>a", "<|assistant|>"]], '
            '"suffix": ["x", "y"], "reward": [1.0, 2.0], "meta": {}}',
            "rewards increase",
        ),
    ],
)
def test_bad_rankings_are_one_line_and_no_output(study, line, message):
    path = study / "data" / "hh_train_len4_20" / "train.json"
    path.write_text(path.read_text() + line + "\n")
    result = run([sys.executable, MAIN, *arguments(study, "bad", stage=2)], study, expect=2)
    assert result.stderr.startswith(f"error: {path}:21: ") and message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (study / "checkpoints").exists() and not (study / "logs").exists()
