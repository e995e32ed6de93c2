"""The training launchers under dash and bash, from their own folder, with a Python that records what is launched."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from study.running.launched_study import LAUNCH_DEFAULTS, LEARNING_RATES

TRAINING = Path(__file__).resolve().parents[1] / "training"
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
# What launch.sh itself gives to main.py.
OF_LAUNCH = {
    "--do_train", "--do_validation", "--model_name_or_path", "--index", "--train_file_path", "--training_stage_num",
    "--seed", "--per_device_train_batch_size", "--dev_reward_model",
}  # fmt: skip
MODEL = "a model's folder"  # blanks and quotes survive
RANKING = {
    "prefix": [["<|prompter|>Hi", "<|assistant|>"]] * 4,
    "suffix": ["a", "b", "c", "d"],
    "reward": [2.0, 1.0, 0.0, -1.0],
    "meta": {},
}


@pytest.fixture
def sandbox(tmp_path, tiny_causal_lm_dir):
    """A study root with one subset and dev file, and a Python that records what launch.py is given."""
    for path in ("data/hh_train_len4_3/train.json", "data/hh_dev/sampled_dev.json"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text((json.dumps(RANKING) + "\n") * 3)
    shutil.copytree(tiny_causal_lm_dir("opt"), tmp_path / MODEL)
    (tmp_path / "my rm").mkdir()
    (tmp_path / "my rm" / "config.json").write_text("{}")  # the check before the launch looks no further
    # The paper's precision is bf16, which a CPU without its instructions refuses: the check sees one that has them.
    able = 'import torch\ntorch.cpu.get_capabilities = lambda: {"architecture": "x86_64", "avx512_bf16": True}\n'
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(able)
    fake = tmp_path / "python"
    record = f'for argument in "$@"; do echo "$argument"; done > "{tmp_path}/arguments"'
    check = f'PYTHONPATH="{tmp_path}/site" exec {sys.executable} "$@"'
    fake.write_text(f"#!/bin/sh\ncase $1 in */launch.py) {record} ;; *) {check} ;; esac\n")
    fake.chmod(0o755)
    return tmp_path


def launch(shell, sandbox, script, *arguments, **environment):
    keep = {name: value for name, value in os.environ.items() if name not in ("NUM_PROCESSES", "BATCH_SIZE")}
    return subprocess.run(
        [shell, script, *arguments], cwd=TRAINING, capture_output=True, text=True,
        env={**keep, "STUDY_ROOT": str(sandbox), "PYTHON": str(sandbox / "python"),
             "DEV_REWARD_MODEL": str(sandbox / "my rm"), **environment},
    )  # fmt: skip


def recorded(sandbox):
    """What launch.py was given: (flags of accelerate launch, flags of main.py)."""
    arguments = (sandbox / "arguments").read_text().splitlines()
    at = arguments.index(str(TRAINING / "main.py"))
    return pairs(arguments[1:at]), pairs(arguments[at + 1 :])


def pairs(arguments):
    found = {}
    for position, argument in enumerate(arguments):
        if argument.startswith("--"):
            following = arguments[position + 1 : position + 2]
            found[argument] = None if not following or following[0].startswith("--") else following[0]
    return found


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("script", "positional", "stage", "learning_rate"),
    [
        ("train_hh_pro_1b3.sh", ["4", "43"], "4", "2e-5"),
        ("train_hh_pro_7b.sh", ["3", "43"], "3", "5e-6"),
        ("train_hh_sft_1b3.sh", ["43"], "1", "2e-5"),
        ("train_hh_sft_7b.sh", ["43"], "1", "5e-6"),
    ],
)
def test_paper_settings(shell, sandbox, script, positional, stage, learning_rate):
    model = str(sandbox / MODEL)
    result = launch(shell, sandbox, script, model, "exp", "hh_train_len4_3", *positional, "--max_train_steps", "20")
    assert result.returncode == 0, result.stderr
    launcher, main = recorded(sandbox)
    assert launcher["--num_processes"] == "8" and launcher["--mixed_precision"] == "bf16"
    assert launcher["--zero_stage"] == "2" and launcher["--config_file"] == str(TRAINING / "ds_config.yaml")
    assert main["--model_name_or_path"] == model and main["--index"] == "exp"
    assert main["--train_file_path"] == str(sandbox / "data" / "hh_train_len4_3")
    assert main["--training_stage_num"] == stage and main["--seed"] == "43"
    assert main["--learning_rate"] == learning_rate == LEARNING_RATES[script[len("train_hh_pro_") : -len(".sh")]]
    assert not main.keys() - OF_LAUNCH - {"--learning_rate", "--max_train_steps"}, "made_before.py must know of it"
    assert main["--max_train_steps"] == "20"
    assert "--do_train" in main and "--do_validation" in main
    assert main["--dev_reward_model"] == str(sandbox / "my rm")


def test_a_study_knows_the_launchers_defaults():
    found = dict(re.findall(r"\$\{(\w+):-(\w+)\}", (TRAINING / "launch.sh").read_text()))
    assert {name: found[name] for name in LAUNCH_DEFAULTS} == LAUNCH_DEFAULTS


@pytest.mark.parametrize("shell", SHELLS)
def test_a_subset_of_another_draw_is_named_with_its_folder(shell, sandbox):
    (sandbox / "data" / "draw43").mkdir()
    (sandbox / "data" / "hh_train_len4_3").rename(sandbox / "data" / "draw43" / "hh_train_len4_3")
    model = str(sandbox / MODEL)
    result = launch(shell, sandbox, "train_hh_pro_1b3.sh", model, "exp", "draw43/hh_train_len4_3", "4", "43")
    assert result.returncode == 0, result.stderr
    _, main = recorded(sandbox)
    assert main["--train_file_path"] == str(sandbox / "data" / "draw43" / "hh_train_len4_3")
    assert main["--index"] == "exp"


def test_the_paper_s_reward_model_is_main_py_s_default(sandbox):
    """Without $DEV_REWARD_MODEL no flag is passed; the default is a hub name, which is out of reach in tests."""
    result = launch("sh", sandbox, "train_hh_pro_1b3.sh", str(sandbox / MODEL), "e", "hh_train_len4_3", "4", "42",
                    DEV_REWARD_MODEL="")  # fmt: skip
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: OpenAssistant/oasst-rm-2.1-pythia-1.4b-epoch-2.5: not a folder here")


@pytest.mark.parametrize("shell", SHELLS)
def test_machine_limits_come_from_the_environment(shell, sandbox):
    result = launch(
        shell, sandbox, "train_hh_pro_1b3.sh", str(sandbox / MODEL), "exp", "hh_train_len4_3", "4", "42",
        NUM_PROCESSES="14", BATCH_SIZE="3", MIXED_PRECISION="no", ZERO_STAGE="3",
        NUM_MACHINES="2", MACHINE_RANK="1", MAIN_PROCESS_IP="10.0.0.1", PORT="1234",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    launcher, main = recorded(sandbox)
    assert launcher == {
        "--config_file": str(TRAINING / "ds_config.yaml"), "--mixed_precision": "no", "--num_processes": "14",
        "--num_machines": "2", "--machine_rank": "1", "--main_process_ip": "10.0.0.1",
        "--main_process_port": "1234", "--zero_stage": "3",
    }  # fmt: skip
    assert main["--per_device_train_batch_size"] == "3" and main["--dev_reward_model"] == str(sandbox / "my rm")


def test_without_deepspeed(sandbox):
    model = str(sandbox / MODEL)
    result = launch("sh", sandbox, "train_hh_sft_1b3.sh", model, "e", "hh_train_len4_3", "42", ZERO_STAGE="0")
    assert result.returncode == 0, result.stderr
    launcher, _ = recorded(sandbox)
    assert launcher["--config_file"].endswith("eval_hh/dp_config.yaml") and "--zero_stage" not in launcher


@pytest.mark.parametrize("shell", SHELLS)
def test_one_process_without_zero_is_started_once(shell, sandbox):
    """Without a launcher, and without a check before it: main.py checks all of it itself."""
    words = '"$ACCELERATE_MIXED_PRECISION" "$OMP_NUM_THREADS" "$@"'
    record = f'for word in {words}; do echo "$word"; done >> "{sandbox}/arguments"'
    (sandbox / "python").write_text(f"#!/bin/sh\n{record}\n")
    result = launch(shell, sandbox, "train_hh_pro_1b3.sh", str(sandbox / MODEL), "exp", "hh_train_len4_3", "4", "42",
                    "--max_train_steps", "20", NUM_PROCESSES="1", ZERO_STAGE="0", MIXED_PRECISION="bf16",
                    OMP_NUM_THREADS="", SLURM_CPUS_PER_TASK="3")  # fmt: skip
    assert result.returncode == 0, result.stderr
    precision, cores, script, *flags = (sandbox / "arguments").read_text().splitlines()
    assert (precision, cores, script) == ("bf16", "3", str(TRAINING / "main.py"))
    assert script not in flags and "--preflight" not in flags and not any("launch.py" in flag for flag in flags)
    main = pairs(flags)
    assert main["--model_name_or_path"] == str(sandbox / MODEL) and main["--index"] == "exp"
    assert main["--max_train_steps"] == "20" and main["--per_device_train_batch_size"] == "14"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["m", "e", "hh_train_len4_3", "4"], {}, "usage: sh train_hh_pro_1b3.sh MODEL EXP DATA RANKING_LEN SEED"),
        (["m", "e", "hh_train_len4_3", "4", "42"], {"NUM_PROCESSES": "5"}, "NUM_PROCESSES 5 .* use 4 or 7"),
        (["m", "e", "hh_train_len4_3", "4", "42"], {"NUM_PROCESSES": "x"}, "NUM_PROCESSES x: expected"),
        (
            ["m", "e", "hh_train_len4_3", "4", "42"],
            {"NUM_PROCESSES": "1", "ZERO_STAGE": "0", "OMP_NUM_THREADS": "", "SLURM_CPUS_PER_TASK": "all"},
            "SLURM_CPUS_PER_TASK all: expected a whole number from 1 to 99999",
        ),
        (["m", "e", "hh_train_len4_3", "4", "42"], {"NUM_PROCESSES": "9" * 30}, "NUM_PROCESSES 9+: expected"),
        (["m", "e", "hh_train_len4_3", "4", "42"], {"NUM_PROCESSES": "08"}, "NUM_PROCESSES 08: expected"),
        (["m", "e", "hh_train_len4_3", "4", "42"], {"NUM_MACHINES": "3"}, "NUM_PROCESSES 8: expected as many on each"),
        (["m", "e", "hh_train_len4_3", "4", "42"], {"MACHINE_RANK": "1"}, "MACHINE_RANK 1: .* from 0 to 0"),
        (["m", "e", "hh_train_len4_3", "4", "42"], {"MACHINE_RANK": "-1"}, "MACHINE_RANK -1: expected"),
        (["m", "e", "hh_train_len4_3", "4", "42"], {"BATCH_SIZE": "two\nlines"}, "BATCH_SIZE two lines: expected"),
        (["m", "e", "hh_train_len4_3", "4", "42"], {"BATCH_SIZE": "0"}, "BATCH_SIZE 0: expected"),
        (["m", "e", "hh_train_len4_3", "4", "42"], {"PORT": "x"}, "PORT x: expected .* from 1 to 65535"),
        (["m", "e", "hh_train_len4_3", "4", "42"], {"PORT": "65536"}, "PORT 65536: expected"),
        (["m", "e", "hh_train_len4_3", "4", "42"], {"MIXED_PRECISION": "fp16"}, "MIXED_PRECISION fp16: .* bf16 or no"),
        (["m", "e", "hh_train_len4_3", "4", "42"], {"ZERO_STAGE": "1"}, "ZERO_STAGE 1: expected 0, 2 or 3"),
        (["m", "e", "hh_train_len4_3", "4", "42"], {"ZERO_STAGE": "2\n"}, "ZERO_STAGE 2 ?: expected 0, 2 or 3"),
        (["m", "e", "hh_train_len4_3/../../hh_dev", "4", "42"], {}, "DATA hh_train_len4_3/../../hh_dev: expected"),
        (["m", "e", "nowhere", "4", "42"], {}, "data/nowhere/train.json: no such file"),
        *(
            (["m", "e", data, "4", "42"], {}, "DATA .*: expected the name of a folder under .*/data")
            for data in ("..", ".", "", "../original", "/tmp", "hh_train\nlen4")
        ),
        (["m", "e", "hh_train_len4_3", "5", "42"], {}, r"train.json:1: 4 responses \(expected at least 5\)"),
        (["/m", "e", "hh_train_len4_3", "4", "42"], {}, "error: /m: no such folder"),
        (["owner/m", "e", "hh_train_len4_3", "4", "42"], {}, "error: owner/m: not a folder here, and .* local copy"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_any_process_starts(shell, sandbox, arguments, environment, message):
    result = launch(shell, sandbox, "train_hh_pro_1b3.sh", *arguments, **environment)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1
    assert re.search(message, result.stderr), result.stderr
    assert not (sandbox / "arguments").exists()
