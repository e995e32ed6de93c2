"""training/launch.py with two real processes: one line for every fault, signals passed on, their exit status."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from warm_python import free_port

REPOSITORY = Path(__file__).resolve().parents[1]
LAUNCHER = REPOSITORY / "training" / "launch.py"
WORKER = REPOSITORY / "tests" / "launched_worker.py"
DEEPSPEED = ("--config_file", str(REPOSITORY / "training" / "ds_config.yaml"), "--zero_stage", "2")
STOPPED = "stopped: state of step 2 is saved (run the same command to resume)\n"


@pytest.fixture
def launched(tmp_path):
    """launched(way, *flags): the launcher of two workers, a process."""
    processes = []

    def start(*words, flags=()):
        command = [sys.executable, LAUNCHER, *flags, "--num_processes", "2", "--main_process_port", free_port(), WORKER]
        process = subprocess.Popen(
            [*map(str, command), words[0], str(tmp_path), *words[1:]], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "DS_ACCELERATOR": "cpu"}, start_new_session=True,
            # a shell without a terminal starts what runs in its background deaf to Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()


def wait_for(folder, name, process):
    """The process ids of both workers once they have come so far."""
    end = time.monotonic() + 100
    while len(found := list(folder.glob(f"{name}-*"))) < 2:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    return [int(path.read_text()) for path in sorted(found)]


def is_running(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "status", "line"),
    [
        ("all", 2, "error: train.json:2: reward is 'x' (expected a number)\n"),
        ("last", 1, "error: state_2: No space left on device\n"),
    ],
)
def test_a_fault_is_said_once_whoever_has_it(way, status, line, launched):
    process = launched(way)
    _, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (status, line)


@pytest.mark.slow
def test_a_bug_keeps_its_traceback_once_and_nothing_is_added(launched):
    process = launched("bug")
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1 and errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyError: 'a bug of ours'") and "ChildFailedError" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), DEEPSPEED], ids=["ddp", "deepspeed"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_is_passed_on_once_and_the_workers_have_their_time(name, flags, launched, tmp_path):
    number = getattr(signal, name)
    process = launched("work", "3", flags=flags)  # saving takes longer than two signals are taken for one
    wait_for(tmp_path, "started", process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert len(list(tmp_path.glob("saved-*"))) == 2
    assert (process.returncode, errors) == (128 + number, STOPPED)


@pytest.mark.slow
def test_ctrl_c_of_a_terminal_is_one_request(launched, tmp_path):
    """A terminal signals the launcher's process group; workers have groups of their own."""
    process = launched("work", "3")
    wait_for(tmp_path, "started", process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    assert (process.returncode, errors, len(list(tmp_path.glob("saved-*")))) == (130, STOPPED, 2)


@pytest.mark.slow
def test_a_signal_to_launcher_and_workers_at_once_is_one_request(launched, tmp_path):
    """So a cluster signals all processes of a job."""
    process = launched("work", "3")
    workers = wait_for(tmp_path, "started", process)
    for pid in (*workers, process.pid):
        os.kill(pid, signal.SIGUSR1)
    _, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (128 + signal.SIGUSR1, STOPPED)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["work", "deaf"])
def test_a_second_signal_ends_all_at_once(way, launched, tmp_path):
    process = launched(way, "90")
    workers = wait_for(tmp_path, "started", process)
    process.send_signal(signal.SIGTERM)
    time.sleep(2.5)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 20 and not any(map(is_running, workers))
    assert process.returncode == 128 + signal.SIGTERM and errors.startswith("stopped: by SIGTERM")
    assert errors.count("\n") == 1 and not list(tmp_path.glob("saved-*"))


@pytest.mark.slow
def test_no_worker_outlives_a_killed_launcher(launched, tmp_path):
    process = launched("deaf")
    workers = wait_for(tmp_path, "started", process)
    process.kill()
    end = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(is_running, workers))


@pytest.mark.slow
def test_a_killed_worker_is_named(launched, tmp_path):
    process = launched("killed")
    workers = wait_for(tmp_path, "started", process)
    os.kill(workers[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (137, "error: process 1 was ended by SIGKILL (out of memory?)\n")


@pytest.mark.parametrize(
    ("has_gpu", "made"), [(False, {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "3"}), (True, {})], ids=["cpu", "gpu"]
)
def test_cores_are_shared_where_torch_finds_no_gpu(monkeypatch, has_gpu, made):
    """Whatever programs of a vendor are installed; a job has the cores that Slurm gave it."""
    import torch

    from training.launch import share_cores

    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(64))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "7")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in ("DS_ACCELERATOR", "OMP_NUM_THREADS"):
        os.environ.pop(name, None)
    share_cores(2)
    assert {name: os.environ[name] for name in ("DS_ACCELERATOR", "OMP_NUM_THREADS") if name in os.environ} == made


@pytest.mark.parametrize(
    ("flags", "config"),
    [
        ((), "eval_hh/dp_config.yaml"),
        (("--zero_stage", "3"), "training/ds_config.yaml"),
        (("--config_file", "my.yaml", "--zero_stage", "3"), "my.yaml"),
    ],
)
def test_a_stage_of_zero_is_zero(flags, config, monkeypatch):
    """Without DeepSpeed's configuration accelerate takes --zero_stage and runs DDP."""
    from accelerate.commands import launch as accelerate_launch

    from training import launch

    given = []
    monkeypatch.setattr(accelerate_launch, "launch_command", given.append)
    monkeypatch.setattr(launch, "share_cores", lambda processes: None)
    launch.start([*flags, "--num_processes", "2", "main.py"])
    assert given[0].config_file in (config, str(REPOSITORY / config))
