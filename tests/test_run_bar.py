"""run_bar.py: the bar moves while a task is at work, and the time left follows from what is done of the run."""

import re

import pytest

from study.running import run_bar
from study.running.run_bar import RunBar, last_steps


@pytest.fixture
def clock(monkeypatch):
    """clock[0]: the seconds that tqdm's and our clock say."""
    now = [1000.0]
    monkeypatch.setattr(run_bar.time, "monotonic", lambda: now[0])
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


@pytest.fixture
def told(capsys):
    """told(): the last state of the bar."""
    return lambda: re.split(r"[\r\n]", capsys.readouterr().err.replace("\x1b[A", "").rstrip())[-1]


def test_the_time_left_follows_from_work_and_steps(tmp_path, clock, told):
    bar = RunBar({"base": 30.0, "cell": 70.0})
    log = tmp_path / "base.log"
    log.write_text("training:  50%|#####     | 5/10 [00:10<00:10]\n")  # of an earlier start of the run
    bar.begin("models", {"base": log}, by_steps=True)
    said = told()
    assert said.startswith("models, 0 of 1:   0%") and said.endswith("00:00 passed, about ? left")
    with open(log, "a") as file:
        file.write("training:   0%|          | 0/10 [00:00<?, ?step/s]\rtraining:  33%|###    | 3/9 [00:10<00:20]")
    clock[0] += 20
    bar.show()
    # 10 of 100 in 20 seconds.
    said = told()
    assert said.startswith("models, 0 of 1:  10%") and said.endswith("00:20 passed, about 03:00 left, base 3/9")
    clock[0] += 40
    bar.end("base")
    said = told()
    assert said.startswith("models, 1 of 1:  30%") and said.endswith("01:00 passed, about 02:20 left")
    bar.begin("cells", {"cell": tmp_path / "absent.log"}, by_steps=False)
    clock[0] += 60
    bar.show()
    said = told()
    assert said.startswith("cells, 0 of 1:  30%") and said.endswith("02:00 passed, about 04:40 left")
    bar.end("cell")
    bar.close()
    said = told()
    assert said.startswith("cells, 1 of 1: 100%") and said.endswith("02:00 passed, about 00:00 left")


def test_tasks_that_nobody_expected_count_too(tmp_path, clock, told):
    bar = RunBar({})
    for stage in ("one", "two"):
        bar.begin(stage, {stage: tmp_path / "absent.log"}, by_steps=True)
        bar.end(stage)
    bar.close()
    assert "two, 1 of 1: 100%" in told()
    RunBar({"a": 1.0}).close()  # of a run that failed before its first stage


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("no bar, 3/4 of it\n", None),
        ("0it [00:00, ?it/s]", None),
        ("a: 1/2 [00:01]\rb:  25%|##   | 2/8 [00:01<00:03, loss=1/3]\nsaved\n", (2, 8)),
        ("a: 9/8 [00:01]", (8, 8)),
        ("a: 0/0 [00:01]", None),
        ("a: 1/2 [00:01]" + "x" * 10_000, None),  # too long ago
    ],
)
def test_steps_are_read_from_a_logs_end(tmp_path, text, found):
    log = tmp_path / "a.log"
    log.write_text(text)
    assert last_steps(log, 0) == found and last_steps(log, len(text)) is None
    assert last_steps(tmp_path / "absent.log", 0) is None
