"""The line at the end of a run: how long it took, and the shares outside of its steps."""

from training.tracking import run_time
from training.tracking.run_time import CHECKPOINTS, STEPS, VALIDATION, RunTime


def test_shares_are_of_the_whole_time_and_add_up(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(run_time.time, "perf_counter", lambda: now[0])
    spent = RunTime(began=90.0)
    spent.started()  # after 10 s
    for name, seconds in ((STEPS, 60), (CHECKPOINTS, 5), (STEPS, 90), (VALIDATION, 20)):
        with spent.part(name):
            now[0] += seconds
        now[0] += 3.75  # between the parts: other
    assert spent.line() == (
        "time: 200.0 s, 25.0% of it outside of steps (start 5.0%, checkpoints 2.5%, validation 10.0%, other 7.5%)"
    )


def test_a_part_that_fails_counts(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(run_time.time, "perf_counter", lambda: now[0])
    spent = RunTime(began=0.0)
    try:
        with spent.part(VALIDATION):
            now[0] += 2
            raise ValueError
    except ValueError:
        pass
    assert spent.seconds[VALIDATION] == 2
