"""Training of reward models: in passes, processes and bf16, measured per file, the best one kept, killed, resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reward_rankings import arguments, losses, write_rankings
from transformers import AutoModelForSequenceClassification

from data_preprocess.command import InputError
from data_preprocess.records import load_records
from eval_hh.reward_model import load_reward_model
from training import reward_trainer, train_reward

REPOSITORY = Path(__file__).resolve().parents[1]
ENTRY = REPOSITORY / "training" / "train_reward.py"


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
        "1x8": (), "8x1": ("--gradient_accumulation_steps", "8"), "2+3+3": ("--per_device_train_batch_size", "3"),
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

    def evaluate(self):
        seen.append({name: value.clone() for name, value in self.scorer.model.state_dict().items()})
        return {"pair_accuracy": next(script), "pairs": 10, "rankings": 5}

    monkeypatch.setattr(reward_trainer.RewardTrainer, "evaluate", evaluate)
    train_reward.main(arguments(files, tiny_reward_dir, tmp_path / "model", "--max_steps", "9", "--eval_steps", "2"))
    metrics = json.loads((tmp_path / "model" / "metrics.json").read_text())
    assert metrics["step"] == 4 and metrics["pair_accuracy"] == 0.8
    assert metrics["pair_accuracy_by_step"] == {"2": 0.4, "4": 0.8, "6": 0.6, "8": 0.8, "9": 0.7}
    assert capsys.readouterr().out.strip().endswith("best after step 4")
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(saved[name], seen[1][name]) for name in saved)
    assert not torch.equal(saved["score.weight"], seen[3]["score.weight"])
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # nothing of the run is left


def run(command: list, expect: int = 0) -> str:
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert result.returncode == expect, result.stderr[-3000:]
    return result.stderr


def killed(argv: list[str], function: str, number: int, when: str = "before") -> None:
    killer = REPOSITORY / "tests" / "kill_at.py"
    run([sys.executable, killer, "training.train_reward", function, number, when, "--", *argv], -signal.SIGKILL)


@pytest.fixture
def dropout_model(tiny_causal_lm_dir, tmp_path) -> Path:
    folder = shutil.copytree(tiny_causal_lm_dir("opt"), tmp_path / "opt")
    config = json.loads((folder / "config.json").read_text()) | {"dropout": 0.1}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


KILLS = {
    "in the first step": ("accelerate.Accelerator.clip_grad_norm_", 1),
    "in the fourth step": ("accelerate.Accelerator.clip_grad_norm_", 4),
    "state written, not renamed": ("training.states.write_manifest", 3),
    "before the accuracy": ("training.reward.trainer.RewardTrainer.evaluate", 2),
    "before the weights": ("training.reward.trainer.RewardTrainer._write_weights", 1),
    "before the end": ("training.reward.trainer.RewardTrainer._publish", 1),
    "metrics written, weights not named": ("training.reward.trainer.shutil.copyfile", 1),
    "weights named, run not removed": ("training.model_folder.replace_folder", 1, "after"),
}


def assert_same_model(folder: Path, expected: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in expected.iterdir())
    for name in ("model.safetensors", "metrics.json", "losses.jsonl"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_model(files, dropout_model, tmp_path):
    more = ("--eval_steps", "2")
    train_reward.main(arguments(files, dropout_model, tmp_path / "whole", *more))
    for number, (moment, kill) in enumerate(KILLS.items()):
        argv = arguments(files, dropout_model, tmp_path / f"killed{number}", *more)
        killed(argv, *kill)
        train_reward.main(argv)
        print(moment)  # shown where one fails
        assert_same_model(tmp_path / f"killed{number}", tmp_path / "whole")
        assert not (tmp_path / f".killed{number}.run").exists()


def test_a_killed_run_goes_on_once_and_only_with_its_settings(files, dropout_model, tmp_path):
    argv = arguments(files, dropout_model, tmp_path / "killed", "--eval_steps", "2")
    killed(argv, *KILLS["in the fourth step"])
    with pytest.raises(InputError, match="learning_rate was 0.01, is 0.5; seed was 42, is 7"):
        train_reward.main([*argv, "--learning_rate", "0.5", "--seed", "7"])
    train_reward.main(argv)
    train_reward.main(arguments(files, dropout_model, tmp_path / "whole", "--eval_steps", "2"))
    assert_same_model(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_goes_on_with_other_passes(files, tiny_reward_dir, tmp_path):
    """3 passes a step until it is killed, then 4, as when memory ran out: the same steps but for rounding."""
    argv = arguments(files, tiny_reward_dir, tmp_path / "killed", "--eval_steps", "2")
    killed([*argv, "--gradient_accumulation_steps", "3"], "training.reward.trainer.RewardTrainer.evaluate", 1)
    train_reward.main([*argv, "--gradient_accumulation_steps", "4"])
    train_reward.main(arguments(files, tiny_reward_dir, tmp_path / "whole", "--eval_steps", "2"))
    assert_same_steps(tmp_path / "killed", tmp_path / "whole", rel=1e-2)


def test_without_eval_steps_a_failure_leaves_nothing(files, tiny_reward_dir, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(reward_trainer.RewardTrainer, "_write_weights", fail)
    with pytest.raises(OSError, match="disk full"):
        train_reward.main(arguments(files, tiny_reward_dir, tmp_path / "model"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_processes_are_one(files, tiny_causal_lm_dir, tmp_path):
    """Losses, accuracies and the model, with passes, measuring every second step."""
    model, more = tiny_causal_lm_dir("opt"), ("--eval_steps", "2", "--learning_rate", "1e-3")
    train_reward.main(arguments(files, model, tmp_path / "one", *more))
    more = (*more, "--per_device_train_batch_size", "2")
    launch = [
        sys.executable, "-m", "accelerate.commands.launch",
        "--config_file", REPOSITORY / "eval_hh" / "dp_config.yaml",
        "--num_processes", "2", "--main_process_port", "29655", ENTRY,
    ]  # fmt: skip
    run([*launch, *arguments(files, model, tmp_path / "two", *more)])
    assert_same_steps(tmp_path / "two", tmp_path / "one", rel=1e-3)
    assert (tmp_path / "two" / "metrics.json").read_text() == (tmp_path / "one" / "metrics.json").read_text()
    one, two = (AutoModelForSequenceClassification.from_pretrained(tmp_path / name) for name in ("one", "two"))
    for name, value in one.state_dict().items():
        if name.endswith("k_proj.bias"):
            continue  # adds the same to every score of a query: its gradient is rounding, which AdamW makes large
        torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.slow
def test_bf16_follows_float32(files, tiny_reward_dir, tmp_path):
    for precision in ("no", "bf16"):
        argv = arguments(files, tiny_reward_dir, tmp_path / precision, "--learning_rate", "2e-4")
        run([sys.executable, ENTRY, *argv, "--mixed_precision", precision])
    assert_same_steps(tmp_path / "bf16", tmp_path / "no", rel=0.05)
    assert losses(tmp_path / "bf16") != losses(tmp_path / "no")
    saved = json.loads((tmp_path / "bf16" / "training_settings.json").read_text())
    assert saved["settings"]["mixed_precision"] == "bf16"
    dtypes = {v.dtype for v in AutoModelForSequenceClassification.from_pretrained(tmp_path / "bf16").parameters()}
    assert dtypes == {torch.float32}  # what AdamW holds
