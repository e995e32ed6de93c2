"""Runs of two processes, DDP and ZeRO: what one of them meets ends both, in one step and by one line."""

import os
import signal

import pytest
from two_processes import MAIN, together
from warm_python import Warm

from tests.test_trainer import (  # noqa: F401
    REPOSITORY,
    arguments,
    assert_same_losses,
    metrics,
    run_folder,
    study,
    weights,
    without_dropout,
)

pytestmark = pytest.mark.slow
KILL_AT = REPOSITORY / "tests" / "kill_at.py"
STAGES = pytest.mark.parametrize("zero_stage", [0, 2, 3])


@STAGES
def test_a_signal_to_one_process_stops_both_and_the_run_goes_on(study, zero_stage):  # noqa: F811
    together(study, zero_stage, arguments(study, "whole", "--do_validation"))
    flags = arguments(study, "stopped", "--do_validation")
    line = "stopped: after step 3 of 5, whose state is saved; run the same command to resume"
    stopping = [KILL_AT, "training.main", "training.trainer.Trainer._step", 3, "before", "--"]
    found = together(study, zero_stage, flags, [MAIN], stopping, SEND="SIGUSR1")
    assert found == [(128 + signal.SIGUSR1, [line])] * 2
    run = run_folder(study, "stopped")
    assert (run / "state_3" / "manifest.json").is_file() and not (run / "step_3").exists()
    assert together(study, zero_stage, flags) == [(0, [])] * 2
    assert weights(study, "stopped") == weights(study, "whole")
    assert metrics(study, "stopped") == metrics(study, "whole")
    rewards = [(run_folder(study, exp) / "dev_rewards.json").read_text() for exp in ("stopped", "whole")]
    assert rewards[0] == rewards[1]


SPOIL = """
import dataclasses, math, sys
sys.path.insert(0, {repository!r})
from data_preprocess.command import run
from training import main, trainer
made = trainer.pro_loss

def spoiled(sum_logps, *more):
    steps.append(1)
    if {steep} and len(steps) == 2:
        sum_logps.register_hook(lambda gradient: gradient * math.inf)
    loss = made(sum_logps, *more)
    return loss if {steep} or len(steps) < 2 else dataclasses.replace(loss, total=loss.total * math.nan)

steps = []
trainer.pro_loss = spoiled
run(lambda: main.main(sys.argv[1:]))
"""


@STAGES
@pytest.mark.parametrize("steep", [False, True])
def test_what_is_not_finite_in_one_process_ends_both(study, zero_stage, steep):  # noqa: F811
    spoil = ["-c", SPOIL.format(repository=str(REPOSITORY), steep=steep)]
    found = together(study, zero_stage, arguments(study, "spoiled", "--checkpointing_step", "1"), [MAIN], spoil)
    assert [status for status, _ in found] == [1, 1]
    assert found[0] == found[1] and len(found[0][1]) == 1
    line = found[0][1][0]
    assert line.startswith("error: step 2: the gradient's norm is " if steep else "error: step 2: the loss is nan (")
    assert "state_1 is kept" in line
    rows = line.partition("lines ")[2].partition(";")[0].split(", ")
    assert len(rows) == (8 if steep else 4)  # the step's, or the micro-batch's
    assert [row["step"] for row in metrics(study, "spoiled")] == [1]
    assert sorted(path.name for path in run_folder(study, "spoiled").glob("st*_*")) == ["state_1", "step_1"]


@STAGES
@pytest.mark.parametrize("rank", [0, 1])
def test_a_disk_that_is_full_for_one_process_ends_both(study, zero_stage, rank):  # noqa: F811
    if rank == 1 and not zero_stage:  # writes nothing
        assert together(study, zero_stage, arguments(study, "full"), limits=(None, 0)) == [(0, [])] * 2
        return
    limit = 60_000
    limits = (limit, None) if rank == 0 else (None, limit)
    flags = arguments(study, "full")
    found = together(study, zero_stage, flags, limits=limits)
    assert [status for status, _ in found] == [1, 1], found
    assert found[0][1] == found[1][1] and len(found[0][1]) == 1
    run = run_folder(study, "full")
    assert found[0][1][0].startswith(f"error: {run}/state_2")
    assert sorted(path.name for path in run.iterdir()) == ["lock", "run.json"]
    assert together(study, zero_stage, flags) == [(0, [])] * 2


def test_the_number_of_processes_may_change(study):  # noqa: F811
    without_dropout(study)

    def run_alone(exp, *more):
        flags = [*arguments(study, exp, *more)]
        env = {**os.environ, "STUDY_ROOT": str(study), "OMP_NUM_THREADS": "1"}
        assert Warm([MAIN, *flags], env).finish().returncode == 0

    run_alone("plain")
    run_alone("changed", "--max_train_steps", "2")
    small = ["--per_device_train_batch_size", "2"]  # two passes a step, where one process had one
    assert together(study, 0, arguments(study, "changed", "--max_train_steps", "4", *small)) == [(0, [])] * 2
    run_alone("changed")
    assert_same_losses(metrics(study, "changed"), metrics(study, "plain"), rel=1e-4)
    status, said = together(study, 2, arguments(study, "changed", "--max_train_steps", "6"))[0]
    assert status == 2 and "num_processes was 1, is 2" in said[0] and "distributed_type was 'NO'" in said[0]
