"""Training in two processes through launch.sh: stopped by a signal it goes on to the same weights; faults are one line.

The launcher alone, and faster, is tested in test_launched.py.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from study_for_bad_input import THINGS, ranking, write_rows
from two_processes import together
from warm_python import free_port

TRAINING = Path(__file__).resolve().parents[1] / "training"
DATA = "hh_train_len4_16"
STEPS = 12


@pytest.fixture
def root(tmp_path, tiny_causal_lm_dir):
    shutil.copytree(tiny_causal_lm_dir("opt"), tmp_path / "model")
    write_rows(tmp_path / "data" / DATA / "train.json", [ranking(thing) for thing in THINGS])
    return tmp_path


def environment(root, **more):
    limits = {"NUM_PROCESSES": "2", "MIXED_PRECISION": "no", "BATCH_SIZE": "4", "PYTHON": sys.executable}
    return {**os.environ, "STUDY_ROOT": str(root), "OMP_NUM_THREADS": "1", **limits, **more}


# Of a run: the flags that launch.sh passes on.
FLAGS = [
    "--no_do_validation", "--global_batch_size", "4", "--max_train_steps", str(STEPS), "--checkpointing_step", "100",
    "--block_size", "96", "--max_prompt", "64", "--learning_rate", "1e-2",
]  # fmt: skip


def start(root, exp, zero_stage, **more):
    command = ["sh", TRAINING / "launch.sh", root / "model", exp, DATA, "4", "42", *FLAGS]
    more = {"PORT": str(free_port()), "TORCH_EXTENSIONS_DIR": str(root / "compiled"), **more}
    return subprocess.Popen(
        list(map(str, command)), env=environment(root, ZERO_STAGE=str(zero_stage), **more),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a shell without a terminal starts what runs in its background deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def run_without_launcher(root, exp, zero_stage):
    flags = [
        "--do_train", "--model_name_or_path", root / "model", "--index", exp, "--train_file_path", root / "data" / DATA,
        "--training_stage_num", "4", "--seed", "42", "--per_device_train_batch_size", "4", *FLAGS,
    ]  # fmt: skip
    found = together(root, zero_stage, flags, TORCH_EXTENSIONS_DIR=str(root / "compiled"))
    assert found == [(0, [])] * 2


def steps(root, exp):
    path = root / "logs" / exp / "4" / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["step"] for line in lines]


def messages(errors):
    """What is on stderr but for progress bars and the libraries' own words."""
    lines = errors.replace("\r", "\n").splitlines()
    return [line for line in lines if line.startswith(("error: ", "stopped: ", "Traceback"))]


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 2], ids=["ddp", "zero2"])
def test_a_run_stopped_by_signals_ends_with_the_same_weights(zero_stage, root):
    if zero_stage:
        pytest.importorskip("deepspeed")
    run_without_launcher(root, "whole", zero_stage)
    for number, at_least in ((signal.SIGTERM, 2), (signal.SIGINT, 5), (signal.SIGUSR1, 8)):
        process = start(root, "stopped", zero_stage)
        end = time.monotonic() + 200
        while len(steps(root, "stopped")) < at_least and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 128 + number, errors[-3000:]
        done = steps(root, "stopped")
        assert messages(errors) == [
            f"stopped: after step {done[-1]} of {STEPS}, whose state is saved; run the same command to resume"
        ]
        assert (root / f"checkpoints/index_stopped/stage_4/state_{done[-1]}").is_dir()
    finish(start(root, "stopped", zero_stage))
    assert steps(root, "stopped") == list(range(1, STEPS + 1))
    weights = [
        root / "checkpoints" / f"index_{exp}" / "stage_4" / f"step_{STEPS}" / "model.safetensors"
        for exp in ("stopped", "whole")
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not (root / "compiled").exists()  # a kill while DeepSpeed compiles would block all later runs


@pytest.mark.slow
def test_a_signal_to_one_of_two_machines_stops_both(root):
    """Two launchers of one process each stand for two machines."""
    both = {"NUM_MACHINES": "2", "PORT": str(free_port())}
    machines = [start(root, "two", 0, MACHINE_RANK=str(rank), **both) for rank in range(2)]
    end = time.monotonic() + 200
    while len(steps(root, "two")) < 2 and machines[0].poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    machines[1].send_signal(signal.SIGUSR1)
    for process in machines:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 128 + signal.SIGUSR1, errors[-3000:]
        assert [line.partition(",")[0] for line in messages(errors)] == [
            f"stopped: after step {steps(root, 'two')[-1]} of {STEPS}"
        ]


@pytest.mark.slow
def test_a_row_that_is_found_bad_after_the_launch_is_said_once(root):
    path = root / "data" / DATA / "train.json"
    path.write_text(path.read_text() + '{"prefix": []}\n')
    command = [
        sys.executable, TRAINING / "launch.py", "--num_processes", "2", "--main_process_port", free_port(),
        TRAINING / "main.py", "--do_train", "--index", "bad", "--model_name_or_path", root / "model",
        "--train_file_path", path, "--training_stage_num", "4", "--global_batch_size", "4",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), env=environment(root), capture_output=True, text=True)
    assert done.returncode == 2 and messages(done.stderr) == done.stderr.splitlines()
    assert done.stderr.count("\n") == 1 and done.stderr.startswith(f"error: {path}:17: ")
    assert not (root / "checkpoints").exists() and not (root / "logs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 2], ids=["ddp", "zero2"])
def test_a_full_disk_is_said_once(zero_stage, root):
    """The limit on file size stands for a full disk."""
    if zero_stage:
        pytest.importorskip("deepspeed")
    (root / "limited").write_text(f'#!/bin/sh\nulimit -f 40\nexec {sys.executable} "$@"\n')
    (root / "limited").chmod(0o755)
    process = start(root, "full", zero_stage, PYTHON=str(root / "limited"))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors[-3000:]
    assert len(messages(errors)) == 1 and messages(errors)[0].startswith("error: "), errors[-3000:]
