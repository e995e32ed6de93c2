"""study/workers.py: a failure, or Ctrl-C, ends every task before the folder's lock goes."""

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
from data_preprocess.command import InputError, run
from data_preprocess.files import hold_lock
from study.workers import Workers

ROOT = Path(sys.argv[1])

def task(number, fails):
    (ROOT / f"started-{number}").touch()
    if fails:
        raise InputError("bad input")
    time.sleep(60)

def main():
    with hold_lock(ROOT):
        Workers(ROOT, 2).run("tasks", {f"task{n}": (task, n, sys.argv[2] == "fail" and n == 1) for n in range(6)})

if __name__ == "__main__":
    run(main)
"""


@pytest.mark.parametrize(("how", "status"), [("interrupt", 130), ("fail", 2)])
def test_nothing_is_started_or_finished_behind_the_end(how, status, tmp_path):
    script, root = tmp_path / "script.py", tmp_path / "root"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, script, root, how], env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        # a shell without a terminal starts what runs in its background deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    if how == "interrupt":
        end = time.monotonic() + 60
        while len(list(root.glob("started-*"))) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it, to the workers too
    # Workers hold the error stream too: it ends when the last of them has, long before their tasks would.
    _, errors = process.communicate(timeout=50)
    assert process.returncode == status
    assert ("error: task1: bad input" if how == "fail" else "error: interrupted") in errors
    assert len(list(root.glob("started-*"))) <= 3
