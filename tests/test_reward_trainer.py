"""Training of reward models: in passes, processes and bf16, measured per file, the best one kept, killed, resumed."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from reward_rankings import arguments, losses, write_rankings
from transformers import AutoModelForSequenceClassification
from two_processes import environment
from warm_python import Warm, free_port

from data_preprocess.command import InputError, RunError, Stopped
from data_preprocess.records import load_records
from eval_hh.reward_model import load_reward_model
from tests.test_going_on import at_call
from tests.test_hub_upload import hub, sent  # noqa: F401
from tests.test_trainer import needs_bf16
from training import train_reward
from training.reward import trainer

REPOSITORY = Path(__file__).resolve().parents[1]
ENTRY = REPOSITORY / "training" / "train_reward.py"
DDP = REPOSITORY / "eval_hh" / "dp_config.yaml"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    return write_rankings(tmp_path_factory.mktemp("files"))


def assert_same_steps(ours: Path, expected: Path, rel: float) -> None:
    """Losses, and norms of gradients: AdamW would hide that these are all too large by one factor."""
    for column in ("loss", "grad_norm"):
        assert losses(ours, column) == pytest.approx(losses(expected, column), rel=rel), column
    first, *_, last = losses(expected)
    assert len(losses(expected)) == 5 and abs(first / last - 1) > 0.05  # the updates do matter to the losses


def test_passes_change_nothing(files, tiny_causal_lm_dir, tmp_path):
    """1 x 8, 8 x 1 and passes of 2 and 3, on rankings of unequal length: same losses, pairs and tokens alike."""
    tokenizer = tiny_causal_lm_dir("gpt_neox")
    for name, more in {
        "1x8": (), "8x1": ("--per_device_train_batch_size", "1"), "2+3+3": ("--per_device_train_batch_size", "3"),
    }.items():  # fmt: skip
        train_reward.main(arguments(files, tokenizer, tmp_path / name, *more, scratch=True))
    assert_same_steps(tmp_path / "8x1", tmp_path / "1x8", rel=1e-3)
    assert_same_steps(tmp_path / "2+3+3", tmp_path / "1x8", rel=1e-3)


def test_a_step_s_loss_is_the_mean_over_the_pairs_of_all_its_rankings(files, tiny_reward_dir, tmp_path):
    """All 24 rankings in 5 passes against a slow loop over single texts, by the evaluator's own scores."""
    more = ("--batch_size", "24", "--per_device_train_batch_size", "5", "--max_steps", "1", "--learning_rate", "0")
    train_reward.main(arguments(files, tiny_reward_dir, tmp_path / "model", *more))
    scorer, terms = load_reward_model(tiny_reward_dir), []
    for record in load_records(files["train"]):
        scores = [scorer.score([record.prefix], [text])[0] for text in record.suffix]
        for i, better in enumerate(record.reward):
            for j, worse in enumerate(record.reward):
                if better > worse:
                    terms.append(torch.nn.functional.softplus(torch.tensor(scores[j] - scores[i])).item())
    assert losses(tmp_path / "model") == pytest.approx([sum(terms) / len(terms)], rel=1e-4)


def test_accuracy_per_file_is_the_saved_model_s(files, tiny_causal_lm_dir, tmp_path, capsys):
    train_reward.main(arguments(files, tiny_causal_lm_dir("opt"), tmp_path / "model", "--learning_rate", "1e-3"))
    printed = capsys.readouterr().out.strip().splitlines()
    metrics = json.loads((tmp_path / "model" / "metrics.json").read_text())
    scorer, counts = load_reward_model(tmp_path / "model"), {}
    for name in ("one", "two"):
        right = pairs = 0
        records = load_records(files[name], training=False)
        for record in records:
            scores = [scorer.score([record.prefix], [text])[0] for text in record.suffix]
            for i in range(len(scores)):
                for j in range(i):
                    if record.reward[i] != record.reward[j]:
                        pairs += 1
                        right += (scores[i] > scores[j]) == (record.reward[i] > record.reward[j])
        counts[name] = right, pairs, len(records)
        assert metrics["files"][f"{name}.json"] == {
            "pair_accuracy": right / pairs, "pairs": pairs, "rankings": len(records),
        }  # fmt: skip
        assert f"{name}.json: pair accuracy {right / pairs:.3f} ({pairs} pairs of {len(records)})" in printed
    right, pairs, rankings = (sum(column) for column in zip(*counts.values(), strict=True))
    assert (metrics["pair_accuracy"], metrics["pairs"], metrics["rankings"]) == (right / pairs, pairs, rankings)
    assert f"held-out pair accuracy {right / pairs:.3f} ({pairs} pairs of {rankings})" in printed


def test_two_files_of_one_name_go_by_their_paths(files, tiny_reward_dir, tmp_path):
    """A train.json that is held out is neither the train.json that is trained on nor another held-out one."""
    for name, source in (("a", "one"), ("b", "two")):
        (tmp_path / name).mkdir()
        shutil.copyfile(files[source], tmp_path / name / "train.json")
    held = [str(tmp_path / name / "train.json") for name in ("a", "b")]
    argv = arguments(files, tiny_reward_dir, tmp_path / "model", "--max_steps", "1", "--heldout_file", *held)
    train_reward.main(argv)
    metrics = json.loads((tmp_path / "model" / "metrics.json").read_text())
    assert {name: part["rankings"] for name, part in metrics["files"].items()} == dict(zip(held, (9, 14), strict=True))
    saved = json.loads((tmp_path / "model" / "training_settings.json").read_text())
    assert sorted(saved["inputs"]) == sorted([str(files["train"]), *held])
    with pytest.raises(InputError, match="was given twice"):
        train_reward.main([*argv, "--heldout_file", held[0], held[0]])


def test_the_most_accurate_step_is_saved(files, tiny_reward_dir, tmp_path, monkeypatch, capsys):
    """Of five measurements the second and the fourth are the best: the weights are the second's."""
    script, seen = iter([0.4, 0.8, 0.6, 0.8, 0.7]), []

    def measure(self):
        seen.append({name: value.clone() for name, value in self.scorer.model.state_dict().items()})
        return {"pair_accuracy": next(script), "pairs": 10, "rankings": 5}

    monkeypatch.setattr(trainer.RewardTrainer, "measure", measure)
    train_reward.main(arguments(files, tiny_reward_dir, tmp_path / "model", "--max_steps", "9", "--eval_steps", "2"))
    metrics = json.loads((tmp_path / "model" / "metrics.json").read_text())
    assert metrics["step"] == 4 and metrics["pair_accuracy"] == 0.8
    assert metrics["pair_accuracy_by_step"] == {"2": 0.4, "4": 0.8, "6": 0.6, "8": 0.8, "9": 0.7}
    assert capsys.readouterr().out.strip().endswith("best after step 4")
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(saved[name], seen[1][name]) for name in saved)
    assert not torch.equal(saved["score.weight"], seen[3]["score.weight"])
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # nothing of the run is left


def test_a_schedule_of_transformers_and_weight_decay(files, tiny_reward_dir, tmp_path, monkeypatch):
    """Linear by hand; a run that fails at its fourth step resumes on the schedule to the same bytes."""
    schedule = ("--lr_scheduler_type", "linear", "--warmup_steps", "2", "--weight_decay", "0.3")
    made = partial(arguments, files, tiny_reward_dir)
    more = (*schedule, "--learning_rate", "1e-2", "--max_steps", "5", "--state_minutes", "1e-9")
    groups, step = [], torch.optim.AdamW.step

    def noting(self, *args, **named):
        groups.append((self.param_groups[0]["lr"], self.param_groups[0]["weight_decay"]))
        if len(groups) == 9:  # the fourth of the second run
            raise RunError("the power is out")
        return step(self, *args, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    train_reward.main(made(tmp_path / "whole", *more))
    with pytest.raises(RunError, match="the power is out"):
        train_reward.main(made(tmp_path / "failed", *more))
    train_reward.main(made(tmp_path / "failed", *more))
    rates = [0, 1e-2 / 2, 1e-2, 1e-2 * 2 / 3, 1e-2 / 3]
    assert [rate for rate, _ in groups] == pytest.approx(rates + rates[:4] + rates[3:])
    assert {decay for _, decay in groups} == {0.3}
    for name in ("model.safetensors", "losses.jsonl"):
        assert (tmp_path / "failed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    settings = json.loads((tmp_path / "whole" / "training_settings.json").read_text())["settings"]
    assert (settings["lr_scheduler_type"], settings["warmup_steps"], settings["weight_decay"]) == ("linear", 2.0, 0.3)
    with pytest.raises(InputError, match="--warmup_steps 5: of 5 steps in all, none is left"):
        train_reward.main(made(tmp_path / "none", *more[:3], "5", *more[4:]))
    assert not (tmp_path / "none").exists()


def test_a_reward_model_is_uploaded_with_its_card(files, tiny_reward_dir, tmp_path, hub):  # noqa: F811
    train_reward.main(
        arguments(files, tiny_reward_dir, tmp_path / "model", "--max_steps", "1", "--push_to_hub", "me/amber")
    )
    sent_files, message = sent(hub)
    assert {"model.safetensors", "README.md", "metrics.json"} <= set(sent_files) and message == "model"
    card = sent_files["README.md"].decode()
    metrics = json.loads((tmp_path / "model" / "metrics.json").read_text())
    assert f"| pair_accuracy | {metrics['pair_accuracy']} |" in card and "- reward-model" in card
    assert str(tmp_path) not in card and str(files["train"].parent) not in card


def run(command: list, expect: int = 0, **more: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    if command[0] == sys.executable:
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    else:
        result = Warm(command, environment).finish()
    assert result.returncode == expect, result.stderr[-3000:]
    return result.stderr


def killed(argv: list[str], function: str, number: int, when: str = "before") -> None:
    killer = REPOSITORY / "tests" / "kill_at.py"
    run([killer, "training.train_reward", function, number, when, "--", *argv], -signal.SIGKILL)


@pytest.fixture
def dropout_model(tiny_causal_lm_dir, tmp_path) -> Path:
    folder = shutil.copytree(tiny_causal_lm_dir("opt"), tmp_path / "opt")
    config = json.loads((folder / "config.json").read_text()) | {"dropout": 0.1}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


KILLS = {
    "in the first step": ("accelerate.Accelerator.clip_grad_norm_", 1),
    "in the fourth step": ("accelerate.Accelerator.clip_grad_norm_", 4),
    "state written, not renamed": ("training.saving.states.write_manifest", 3),
    "before the accuracy": ("training.reward.trainer.RewardTrainer.measure", 2),
    "state written": ("training.reward.trainer.write_state", 2, "after"),
    "before the end": ("training.reward.trainer.RewardTrainer._publish", 1),
    "metrics written, model not named": ("training.reward.trainer.shutil.copyfile", 1),
    "model named, run not removed": ("training.saving.model_folder.replace_folder", 1, "after"),
}


def assert_same_model(folder: Path, expected: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in expected.iterdir())
    (weights,) = (path.name for path in expected.glob("*.safetensors"))
    for name in (weights, "metrics.json", "losses.jsonl"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name


@pytest.fixture
def whole(files, dropout_model, tmp_path) -> Path:
    """The model of a run that nothing happens to."""
    train_reward.main(arguments(files, dropout_model, tmp_path / "whole", "--eval_steps", "2"))
    return tmp_path / "whole"


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_model(files, dropout_model, tmp_path, whole):
    more = ("--eval_steps", "2")
    for number, (moment, kill) in enumerate(KILLS.items()):
        argv = arguments(files, dropout_model, tmp_path / f"killed{number}", *more)
        killed(argv, *kill)
        train_reward.main(argv)
        print(moment)  # shown where one fails
        assert_same_model(tmp_path / f"killed{number}", whole)
        assert not (tmp_path / f".killed{number}.run").exists()


def test_a_killed_run_goes_on_once_and_only_with_its_settings(files, dropout_model, tmp_path, whole):
    argv = arguments(files, dropout_model, tmp_path / "killed", "--eval_steps", "2")
    killed(argv, *KILLS["in the fourth step"])
    with pytest.raises(InputError, match="learning_rate was 0.01, is 0.5; seed was 42, is 7"):
        train_reward.main([*argv, "--learning_rate", "0.5", "--seed", "7"])
    train_reward.main(argv)
    assert_same_model(tmp_path / "killed", whole)


def test_a_run_that_ended_while_another_loaded_its_model_is_left_alone(files, dropout_model, tmp_path, monkeypatch):
    """Neither its states, which are another run's, nor its model are taken for this run's own."""
    argv = arguments(files, dropout_model, tmp_path / "model", "--eval_steps", "2")
    at_call(monkeypatch, trainer, "hold_lock", 1, lambda *_: killed(argv, *KILLS["in the fourth step"]))
    with pytest.raises(InputError, match="this experiment was run with other settings: seed was 42, is 7"):
        train_reward.main([*argv, "--seed", "7"])
    at_call(monkeypatch, trainer, "hold_lock", 1, lambda *_: train_reward.main(argv))
    with pytest.raises(RunError, match="model: another run has just trained this model"):
        train_reward.main(argv)
    assert json.loads((tmp_path / "model" / "training_settings.json").read_text())["settings"]["seed"] == 42


@pytest.mark.slow
def test_a_run_goes_on_with_other_passes(files, tiny_reward_dir, tmp_path):
    """3 passes a step until it is killed, then 4, as when memory ran out: the same steps but for rounding."""
    argv = arguments(files, tiny_reward_dir, tmp_path / "killed", "--eval_steps", "2")
    killed([*argv, "--per_device_train_batch_size", "3"], "training.reward.trainer.RewardTrainer.measure", 2)
    train_reward.main([*argv, "--per_device_train_batch_size", "2"])
    train_reward.main(arguments(files, tiny_reward_dir, tmp_path / "whole", "--eval_steps", "2"))
    assert_same_steps(tmp_path / "killed", tmp_path / "whole", rel=1e-2)


def test_a_failure_before_the_first_state_leaves_nothing(files, tiny_reward_dir, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(trainer.RewardTrainer, "_write_state", fail)
    with pytest.raises(OSError, match="disk full"):
        train_reward.main(arguments(files, tiny_reward_dir, tmp_path / "model"))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_under_tensorboard_names_its_folder_in_one_error(files, tiny_reward_dir, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    unseen = []
    monkeypatch.setattr(threading, "excepthook", unseen.append)
    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        train_reward.main(arguments(files, tiny_reward_dir, tmp_path / "model", "--report_to", "tensorboard"))
    assert caught.value.filename == f"{tmp_path / 'model'}.logs" and not unseen
    assert not (tmp_path / "model").exists()


def sending(monkeypatch, name: str, number: int, sent: int) -> None:
    """Sends this process a signal before the n-th call of one of the trainer's functions."""
    original, calls = getattr(trainer.RewardTrainer, name), []

    def counting(*args, **kwargs):
        calls.append(args)
        if len(calls) == number:
            os.kill(os.getpid(), sent)
        return original(*args, **kwargs)

    monkeypatch.setattr(trainer.RewardTrainer, name, counting)


STOPS = {
    "in a step": ("compute_loss", 3, signal.SIGTERM, 3),
    "while the accuracy is measured": ("measure", 1, signal.SIGINT, 3),
    "while a state is written": ("_write_state", 2, signal.SIGUSR1, 5),
    "in the last step": ("compute_loss", 5, signal.SIGTERM, 5),
}


@pytest.mark.parametrize("moment", STOPS)
def test_a_stopped_run_says_how_to_go_on_and_does(moment, files, dropout_model, tmp_path, monkeypatch, whole):
    name, number, sent, step = STOPS[moment]
    argv = arguments(files, dropout_model, tmp_path / "stopped", "--eval_steps", "2")
    with monkeypatch.context() as patch:
        sending(patch, name, number, sent)
        with pytest.raises(Stopped, match=f"after step {step} of 5, whose state is saved; run the same command") as end:
            train_reward.main(argv)
    assert end.value.signal_number == sent and (tmp_path / ".stopped.run" / f"state_{step}").is_dir()
    train_reward.main(argv)
    assert_same_model(tmp_path / "stopped", whole)


def test_states_come_with_time_the_newest_and_the_best_are_kept_and_a_damaged_one_is_passed_over(
    files, dropout_model, tmp_path, monkeypatch, capsys, whole
):
    def fail(*_):
        raise RunError("the power is out")

    argv = arguments(files, dropout_model, tmp_path / "timed", "--eval_steps", "2", "--state_minutes", "1e-9")
    run = tmp_path / ".timed.run"
    with monkeypatch.context() as patch:
        patch.setattr(trainer.RewardTrainer, "_publish", fail)
        with pytest.raises(RunError, match="the power is out"):
            train_reward.main([*argv, "--keep_states", "1"])
    best = json.loads((run / "state_5" / "trainer_state.json").read_text())["log_history"]
    best = max(best, key=lambda row: row["pair_accuracy"])["step"]
    assert sorted(path.name for path in run.glob("state_*")) == sorted({"state_5", f"state_{best}"})
    shutil.rmtree(run)
    with monkeypatch.context() as patch:
        patch.setattr(trainer.RewardTrainer, "_publish", fail)
        with pytest.raises(RunError):
            train_reward.main(argv)
    (run / "state_5" / "optimizer.pt").write_bytes(b"")
    train_reward.main(argv)
    assert f"skipped damaged state: {run}/state_5/optimizer.pt: 0 bytes (expected " in capsys.readouterr().err
    assert_same_model(tmp_path / "timed", whole)


def test_a_run_without_a_whole_state_is_refused(files, dropout_model, tmp_path, monkeypatch):
    argv = arguments(files, dropout_model, tmp_path / "model")
    with monkeypatch.context() as patch:
        sending(patch, "compute_loss", 1, signal.SIGTERM)
        with pytest.raises(Stopped):
            train_reward.main(argv)
    weights = tmp_path / ".model.run" / "state_1" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match=r"model.safetensors: 100 bytes .*; no intact state to resume from"):
        train_reward.main(argv)
    (tmp_path / ".model.run" / "state_1" / "manifest.json").unlink()  # now the loader finds it
    with pytest.raises(InputError, match=r"state_1: the state cannot be loaded \("):
        train_reward.main(argv)


STATES = {
    "optimizer.pt": (b"", "state_1: the state cannot be loaded"),
    "scheduler.pt": (b"[1]", "state_1: the state cannot be loaded"),
    "model/config.json": (b"[1]", "state_1: the state cannot be loaded"),
    "trainer_state.json": (b"[1]", "state_1: the state cannot be loaded"),
}


def test_a_state_that_cannot_be_read_is_one_line(files, dropout_model, tmp_path, monkeypatch):
    """Without a manifest, as earlier versions left it, what is damaged shows only when it is loaded."""
    argv, state = arguments(files, dropout_model, tmp_path / "model"), tmp_path / ".model.run" / "state_1"
    with monkeypatch.context() as patch:
        sending(patch, "compute_loss", 1, signal.SIGTERM)
        with pytest.raises(Stopped):
            train_reward.main(argv)
    (state / "manifest.json").unlink()
    for name, (content, message) in STATES.items():
        before = (state / name).read_bytes()
        (state / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            train_reward.main(argv)
        (state / name).write_bytes(before)
    path = state / "trainer_state.json"
    for change in ({"global_step": 99}, {"log_history": [{}]}, {"log_history": 5}):
        path.write_text(json.dumps(json.loads(before) | change))
        with pytest.raises(InputError, match="trainer_state.json: is not the state after step 1"):
            train_reward.main(argv)


def launched(argv: list[str], folder: Path, *flags: str, expect: int = 0, entry: tuple = (ENTRY,)) -> str:
    """Runs train_reward.py in two processes; without a GPU, whatever DeepSpeed compiles goes into `folder`."""
    launch = [sys.executable, REPOSITORY / "training" / "launch.py", "--num_processes", "2",
              "--main_process_port", free_port(), *(flags or ("--config_file", DDP)), *entry]  # fmt: skip
    return run([*launch, *argv], expect, TORCH_EXTENSIONS_DIR=str(folder / "compiled"), SEND="SIGTERM")


def forked(argv: list[str], folder: Path, stage: int) -> None:
    """The same with ZeRO, without the launcher and its new Pythons, which take far longer than the training does."""
    port, more = free_port(), {"TORCH_EXTENSIONS_DIR": str(folder / "compiled")}
    both = [Warm([ENTRY, *argv], {**environment(folder, stage, rank, 2, port), **more}) for rank in range(2)]
    for ended in [process.finish() for process in both]:
        assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("scratch", [True, False], ids=["scratch", "lora"])
def test_zero_is_one_process_and_goes_on_after_a_signal(scratch, stage, files, tiny_causal_lm_dir, tmp_path):
    """From scratch, whose loss reads the embeddings too, or with LoRA, in passes of 2 rankings."""
    pytest.importorskip("deepspeed")
    tokenizer = tiny_causal_lm_dir("gpt_neox")
    more = ("--eval_steps", "2", *(("--lm_weight", "2") if scratch else ("--lora_r", "4")))
    train_reward.main(arguments(files, tokenizer, tmp_path / "one", *more, scratch=scratch))
    more, zero = (*more, "--per_device_train_batch_size", "2"), ("--zero_stage", str(stage), "--mixed_precision", "no")
    argv = arguments(files, tokenizer, tmp_path / "stopped", *more, scratch=scratch)
    killer = (REPOSITORY / "tests" / "kill_at.py", "training.train_reward",
              "training.reward.trainer.RewardTrainer.compute_loss", "5", "before", "--")  # fmt: skip
    errors = launched(argv, tmp_path, *zero, expect=128 + signal.SIGTERM, entry=killer)
    assert "stopped: after step 3 of 5, whose state is saved; run the same command to resume" in errors
    launch = json.loads((tmp_path / ".stopped.run" / "run.json").read_text())["launch"]
    assert (launch["num_processes"], launch["zero_stage"]) == (2, stage)
    forked(argv, tmp_path, stage)
    forked(arguments(files, tokenizer, tmp_path / "whole", *more, scratch=scratch), tmp_path, stage)
    assert_same_model(tmp_path / "stopped", tmp_path / "whole")
    assert_same_steps(tmp_path / "whole", tmp_path / "one", rel=1e-3)
    assert (tmp_path / "whole" / "metrics.json").read_text() == (tmp_path / "one" / "metrics.json").read_text()
    assert not (tmp_path / "compiled").exists()


@pytest.mark.slow
def test_two_processes_are_one(files, tiny_causal_lm_dir, tmp_path):
    """Losses, accuracies and the model, with passes, measuring every second step."""
    model, more = tiny_causal_lm_dir("opt"), ("--eval_steps", "2", "--learning_rate", "1e-3")
    train_reward.main(arguments(files, model, tmp_path / "one", *more))
    more = (*more, "--per_device_train_batch_size", "2")
    launched(arguments(files, model, tmp_path / "two", *more), tmp_path)
    assert_same_steps(tmp_path / "two", tmp_path / "one", rel=1e-3)
    assert (tmp_path / "two" / "metrics.json").read_text() == (tmp_path / "one" / "metrics.json").read_text()
    one, two = (AutoModelForSequenceClassification.from_pretrained(tmp_path / name) for name in ("one", "two"))
    for name, value in one.state_dict().items():
        if name.endswith("k_proj.bias"):
            continue  # adds the same to every score of a query: its gradient is rounding, which AdamW makes large
        torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.slow
def test_bf16_follows_float32(files, tiny_reward_dir, tmp_path):
    needs_bf16()
    for precision in ("no", "bf16"):
        argv = arguments(files, tiny_reward_dir, tmp_path / precision, "--learning_rate", "2e-4")
        run([ENTRY, *argv, "--mixed_precision", precision])
    assert_same_steps(tmp_path / "bf16", tmp_path / "no", rel=0.05)
    assert losses(tmp_path / "bf16") != losses(tmp_path / "no")
    saved = json.loads((tmp_path / "bf16" / "training_settings.json").read_text())
    assert saved["settings"]["mixed_precision"] == "bf16"
    dtypes = {v.dtype for v in AutoModelForSequenceClassification.from_pretrained(tmp_path / "bf16").parameters()}
    assert dtypes == {torch.float32}  # what AdamW holds
