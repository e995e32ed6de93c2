"""study/running/workers.py: a failure, or a request to stop, ends every task before the folder's lock goes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = """
import sys, time
from pathlib import Path
from data_preprocess.command import InputError, Stopped, run, stop_requests
from data_preprocess.files import hold_lock
from study.running.workers import Workers

ROOT = Path(sys.argv[1])

def task(number, way):
    (ROOT / f"started-{number}").touch()
    if way == "fail" and number == 1:
        raise InputError("bad input")
    if way == "listen":
        with stop_requests() as request:
            while request.number is None:
                time.sleep(0.02)
            time.sleep(1)
            (ROOT / f"saved-{number}").touch()
            raise Stopped(request.number, "saved")
    with stop_requests():
        end = time.monotonic() + 60 * (way == "deaf")
        while time.monotonic() < end:
            time.sleep(0.1)
    time.sleep(60)

def main():
    tasks = {f"task{n}": (task, n, sys.argv[2]) for n in range(6)}
    with stop_requests() as request, hold_lock(ROOT), Workers(ROOT, 2, request) as workers:
        workers.run("tasks", tasks)

if __name__ == "__main__":
    run(main)
"""


@pytest.fixture
def started(tmp_path):
    """started(way): the script at work on two of six tasks, in a process group of its own."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def start(way):
        process = subprocess.Popen(
            [sys.executable, script, tmp_path / "root", way], env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stderr=subprocess.PIPE, text=True, start_new_session=True,
            # a shell without a terminal starts what runs in its background deaf to Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        end = time.monotonic() + 60
        while way != "fail" and len(found(tmp_path, "started")) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        return process

    return start


def found(folder, name):
    return sorted(path.name for path in (folder / "root").glob(f"{name}-*"))


# Workers hold the error stream too: it ends when the last of them has, long before their tasks would.


def test_a_failure_ends_all(started, tmp_path):
    process = started("fail")
    _, errors = process.communicate(timeout=50)
    assert process.returncode == 2 and "error: task1: bad input" in errors
    assert len(found(tmp_path, "started")) <= 3


@pytest.mark.parametrize("way", ["sleep", "listen"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "terminal"])
def test_a_request_ends_the_tasks_at_work_at_their_safe_points_and_begins_none(name, way, started, tmp_path):
    process = started(way)
    number = signal.SIGINT if name == "terminal" else getattr(signal, name)
    if name == "terminal":
        os.killpg(process.pid, number)  # it signals the workers too
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=50)
    last = errors.replace("\r", "\n").rstrip("\n").rpartition("\n")[2]
    assert last == "stopped: at tasks (finished work is kept; run the same command to resume)"
    assert process.returncode == 128 + number and "Traceback" not in errors
    assert found(tmp_path, "started") == ["started-0", "started-1"]
    assert found(tmp_path, "saved") == (["saved-0", "saved-1"] if way == "listen" else [])
    log = (tmp_path / "root" / "logs" / "tasks" / "task0.log").read_text()
    assert log == ("stopped: saved\n" if way == "listen" else "stopped: before it was done\n")


def test_a_second_signal_ends_at_once(started, tmp_path):
    process = started("deaf")
    process.send_signal(signal.SIGTERM)
    time.sleep(2.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM
