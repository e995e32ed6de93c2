"""How every command ends: status and one line, also of several processes; what a signal does; what flags may hold."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from data_preprocess import command
from data_preprocess.command import (
    FAILURE_FILE,
    REPOSITORY,
    InputError,
    RunError,
    Stopped,
    check_name,
    check_number,
    check_seed,
    run,
    stop_requests,
)  # fmt: skip


def ending(main, capsys):
    """(exit status, what is on stderr) of a command."""
    with pytest.raises(SystemExit) as ended:
        run(main)
    return ended.value.code, capsys.readouterr().err


def raising(error):
    def main():
        raise error

    return main


CPU_MEMORY = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 400 bytes"
GPU_MEMORY = "CUDA out of memory. Tried to allocate 20.00 GiB"
LESS = "smaller batches, shorter texts or a smaller model need less"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("a.json:2: no\n text"), 2, "error: a.json:2: no text\n"),
        (RunError("step 3: the loss is nan"), 1, "error: step 3: the loss is nan\n"),
        (OSError(28, "No space left on device", "weights"), 1, "error: weights: No space left on device\n"),
        (OSError(36, "File name too long", "a" * 300), 2, f"error: {'a' * 300}: File name too long\n"),
        (OSError("disk is gone"), 1, "error: disk is gone\n"),
        (Stopped(15, "after step 3"), 143, "stopped: after step 3\n"),
        (Stopped(10, "after step 3"), 138, "stopped: after step 3\n"),
        (MemoryError(), 1, f"error: out of memory (MemoryError); {LESS}\n"),
        (
            RuntimeError(f"[enforce fail at alloc.cpp:5] . {CPU_MEMORY}. Error code 12 (Cannot\nFrame"),
            1,
            f"error: out of memory ({CPU_MEMORY}. Error code 12 (Cannot); {LESS}\n",
        ),
        (
            RuntimeError(f"{GPU_MEMORY}. GPU 0 holds 2 GiB. Try advice."),
            1,
            f"error: out of memory ({GPU_MEMORY}. GPU 0 holds 2 GiB); {LESS}\n",
        ),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (InputError("\x1b[31mred\x07 caf\xe9"), 2, "error: \\x1b[31mred\\x07 caf\xe9\n"),
    ],
)
def test_each_kind_of_end_has_its_status_and_one_line(error, status, line, capsys):
    assert ending(raising(error), capsys) == (status, line)


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0)


def test_a_command_that_ends_well_says_nothing(capsys):
    run(lambda: None)
    assert capsys.readouterr().err == ""


@pytest.fixture
def one_launch(monkeypatch, tmp_path):
    """Makes this process one of a launch, but not one that ends with its parent; gives the file of the launch."""
    monkeypatch.setenv(FAILURE_FILE, str(tmp_path / "status"))
    monkeypatch.setattr(command, "end_with_parent", lambda: None)
    return tmp_path / "status"


def test_of_one_launch_the_first_to_fail_is_heard(capsys, one_launch):
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:31453")
    assert ending(raising(lost), capsys) == (1, "")  # the lost process, or the launcher, says why
    assert ending(raising(InputError("a.json:2: no text")), capsys) == (2, "")
    left = json.loads(one_launch.read_text())
    assert left == [2, "error: a.json:2: no text"]  # for the launcher
    for error, status in (
        (InputError("a.json:2: no text"), 2), (OSError("b"), 1), (Stopped(15, "c"), 143), (KeyError("d"), 1)
    ):  # fmt: skip
        assert ending(raising(error), capsys) == (status, "")
    assert json.loads(one_launch.read_text()) == left


def test_of_one_launch_a_bug_is_shown_by_the_first_that_has_it(capsys, one_launch):
    with pytest.raises(KeyError):
        run(raising(KeyError("a")))
    assert ending(raising(KeyError("a")), capsys) == (1, "")


def test_where_the_file_of_a_launch_cannot_be_written_everyone_speaks(capsys, monkeypatch, one_launch):
    monkeypatch.setenv(FAILURE_FILE, str(one_launch / "nowhere"))
    one_launch.touch()
    assert ending(raising(InputError("a")), capsys) == (2, "error: a\n")


ABORTS_AT_ITS_END = """
import os, sys
sys.path.insert(0, {repository!r})
from data_preprocess.command import Stopped, run

class TornDown:  # as a process group whose other end has gone
    def __del__(self, abort=os.abort):
        abort()

def main():
    print("done")
    {end}

kept = TornDown()
run(main)
"""


@pytest.mark.parametrize(
    ("end", "status"), [("pass", 0), ("raise Stopped(10, 'the state is saved')", 138), ("raise LookupError", 1)]
)
def test_one_of_several_processes_has_its_own_status_whatever_its_teardown_does(end, status):
    command = [sys.executable, "-c", ABORTS_AT_ITS_END.format(repository=str(REPOSITORY), end=end)]
    done = subprocess.run(command, env={**os.environ, "WORLD_SIZE": "2"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (status, "done\n")
    assert ("LookupError" in done.stderr) == (status == 1) and ("stopped: the state" in done.stderr) == (status == 138)
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGABRT  # what the others would see


def test_stopped_passes_between_processes():
    copy = pickle.loads(pickle.dumps(Stopped(10, "after step 3")))
    assert (copy.signal_number, str(copy)) == (10, "after step 3")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_request_is_noted_and_handlers_are_restored(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with stop_requests() as request:
        assert request.number is None
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)  # so soon, it is the same request
        assert request.number == number
    assert signal.getsignal(number) == before


def test_a_request_that_came_at_the_end_of_the_work_goes_on_to_who_listens_outside():
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        with stop_requests():
            os.kill(os.getpid(), signal.SIGUSR1)
            assert heard == []
        assert heard == [signal.SIGUSR1]
        with pytest.raises(Stopped), stop_requests() as request:
            os.kill(os.getpid(), signal.SIGUSR1)
            raise Stopped(request.number, "heeded")
        assert heard == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_block_inside_another_has_its_request():
    with stop_requests() as outer, stop_requests() as inner:
        os.kill(os.getpid(), signal.SIGTERM)
        assert inner is outer and outer.number == signal.SIGTERM


WORK = """
import sys, time
sys.path.insert(0, sys.argv[1])
from data_preprocess.command import Stopped, run, stop_requests
def main():
    with stop_requests() as request:
        print("ready", flush=True)
        while request.number is None or sys.argv[2] == "deaf":
            time.sleep(0.02)
        raise Stopped(request.number, "at a safe point")
run(main)
"""


def start(way):
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, REPOSITORY, way], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_stops_at_the_next_safe_point(name):
    process = start("listens")
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (128 + getattr(signal, name), "stopped: at a safe point\n")


@pytest.mark.parametrize("second", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_second_signal_ends_at_once_as_without_a_handler(second):
    process = start("deaf")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)  # within two seconds it is the first one again
    time.sleep(2)
    assert process.poll() is None
    process.send_signal(getattr(signal, second))
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (-getattr(signal, second), "")


def test_what_is_at_work_for_a_process_is_asked_too():
    with stop_requests() as request:
        process = start("listens")
        request.commands.append(process)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert process.wait(timeout=20) == 128 + signal.SIGUSR1


@pytest.mark.parametrize(
    ("value", "limits", "expected"),
    [
        (float("nan"), {}, "finite number"),
        (float("inf"), {"at_least": 1}, "number of at least 1"),
        (0, {"above": 0}, "number above 0"),
        (2.0, {"above": 0, "below": 2}, "number above 0 and below 2"),
        (-1, {"at_least": 0, "at_most": 1_000_000}, "number of at least 0 and at most 1,000,000"),
        (10**400, {"at_most": 10}, "number of at most 10"),
    ],
)
def test_a_number_out_of_bounds_is_refused_by_flag(value, limits, expected):
    with pytest.raises(InputError) as refused:
        check_number("rate", value, **limits)
    shown = str(value) if len(str(value)) <= 40 else str(value)[:40] + "..."
    assert str(refused.value) == f"--rate {shown}: expected a {expected}"


def test_bounds_that_include_themselves_are_taken():
    check_number("rate", 1, at_least=1, at_most=1)
    check_number("rate", 1e-300, above=0)
    check_number("rate", 10**400)


def test_a_seed_is_what_numpy_and_torch_take():
    for seed in (0, 42, 2**32 - 1):
        check_seed("seed", seed)
    for seed in (-1, 2**32, 10**30):
        with pytest.raises(InputError, match=f"--seed {seed}: expected a whole number from 0 to 4294967295"):
            check_seed("seed", seed)


@pytest.mark.parametrize("name", ["e", "a b", "..a", "trial-1.5", "日本", "x" * 200])
def test_a_name_that_can_be_a_part_of_a_path_is_taken(name, tmp_path):
    check_name("index", name)
    (tmp_path / name).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/", "../x", "a\\b", "a\nb", "a\x00", "a\x1b[1m", " a", "a ", "\udcff", "x" * 201,
             "é" * 101, "a\u2028b", "-x"],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_or_breaks_a_line_is_refused(name):
    with pytest.raises(InputError, match="^--index ") as refused:
        check_name("index", name)
    assert len(str(refused.value).splitlines()) == 1
