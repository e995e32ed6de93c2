"""training/config.py: paper defaults, the division of the global batch, contradictions."""

import pytest

from data_preprocess.command import InputError, parse_settings
from eval_hh.run_paths import Names
from training.config import TrainConfig, micro_batches

REQUIRED = ["--index", "e", "--model_name_or_path", "m", "--train_file_path", "t", "--training_stage_num", "4"]


def config(*flags):
    return parse_settings(TrainConfig, [*REQUIRED, *flags], "")


def test_defaults_are_the_papers():
    settings = config()
    assert (settings.global_batch_size, settings.max_train_steps, settings.checkpointing_step) == (112, 4000, 500)
    assert (settings.block_size, settings.max_prompt, settings.max_new_tokens) == (512, 384, 128)
    assert (settings.sft_weight, settings.learning_rate, settings.max_grad_norm) == (0.05, 2e-5, 1.0)
    assert settings.append_eos and not settings.do_train


def test_folders_follow_the_study_root(tmp_path):
    read = Names("e", 4, root=tmp_path)  # by evaluation and study
    assert config().run_folder == read.run_folder == tmp_path / "checkpoints" / "index_e" / "stage_4"
    assert config().metrics_file == read.metrics_file == tmp_path / "logs" / "e" / "4" / "metrics.jsonl"
    assert config().dev_file == tmp_path / "data" / "hh_dev" / "sampled_dev.json"


@pytest.mark.parametrize(
    ("processes", "upper_bound", "expected"),
    [(8, 14, (14, 1)), (8, 4, (2, 7)), (1, 16, (16, 7)), (7, 5, (4, 4)), (112, 9, (1, 1)), (2, 3, (2, 28))],
)
def test_accumulation_is_derived(processes, upper_bound, expected):
    size, passes = micro_batches(config("--per_device_train_batch_size", str(upper_bound)), processes)
    assert (size, passes) == expected
    assert size * passes * processes == 112


@pytest.mark.parametrize(("processes", "nearest"), [(5, "4 or 7"), (6, "4 or 7"), (113, "112"), (0, "1")])
def test_processes_that_do_not_divide_name_the_nearest_that_do(processes, nearest):
    with pytest.raises(InputError, match=f"NUM_PROCESSES {processes} .*use {nearest}$"):
        micro_batches(config(), processes)


def test_given_accumulation_must_agree():
    flags = ["--gradient_accumulation_steps", "28", "--per_device_train_batch_size", "4"]
    assert micro_batches(config(*flags), 1) == (4, 28)
    with pytest.raises(InputError, match="--gradient_accumulation_steps 28 .*--per_device_train_batch_size 2"):
        micro_batches(config(*flags[:3], "2"), 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max_prompt", "512"], "--max_prompt 512: expected 2 to --block_size - 1"),
        (["--stop_criterion", "soon"], "--stop_criterion 'soon'"),
        (["--learning_rate", "nan"], "--learning_rate nan"),
        (["--max_train_steps", "0"], "--max_train_steps 0"),
        (["--sft_weight", "-1"], "--sft_weight -1"),
        (["--index", "a/b"], "--index 'a/b'"),
    ],
)
def test_bad_settings_are_one_line_naming_the_flag(flags, message):
    with pytest.raises(InputError, match=message):
        config(*flags)


def test_epochs():
    settings = config("--stop_criterion", "epoch", "--num_train_epochs", "3")
    assert settings.total_steps(1500) == 41  # 4500 prompts in steps of 112
    assert config().total_steps(1500) == 4000


def test_flags_of_booleans():
    assert config("--no_append_eos").append_eos is False
    assert config("--do_train", "--do_validation", "--no_do_validation").do_validation is False
    assert isinstance(config(), TrainConfig)
