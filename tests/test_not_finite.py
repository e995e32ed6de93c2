"""A number that is not finite ends a run before it changes anything, in one line that names the step and the rows."""

import dataclasses
import json
import math
import os

import numpy as np
import pytest
import torch

from tests.test_going_on import at_call, names, train  # noqa: F401
from tests.test_trainer import metrics, run_folder, study  # noqa: F401
from training import trainer
from training.losses import pro_loss

ONE_BY_ONE = ("--per_device_train_batch_size", "1")


def lines_of(step):
    """Lines of the rows of a step of 8, of 20 records in numpy's order for seed 42 and each pass."""
    order = [row for epoch in (0, 1) for row in np.random.default_rng([42, epoch]).permutation(20)]
    return ", ".join(str(line) for line in sorted({row + 1 for row in order[8 * step - 8 : 8 * step]}))


@pytest.fixture
def marked(study):  # noqa: F811
    """Row 12, which step 1 does not see and step 2 does, has rewards of its own, by which a test knows its batch."""
    path = study / "data" / "hh_train_len4_20" / "train.json"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[11]["reward"] = [7.5, 0.5, 0.5, -1.0]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert " 12," not in lines_of(1) and " 12," in lines_of(2)
    return path


def spoiled_loss(value):
    def loss(sum_logps, n_tokens, rewards, *more):
        made = pro_loss(sum_logps, n_tokens, rewards, *more)
        return dataclasses.replace(made, total=made.total * value) if 7.5 in rewards[:, 0].tolist() else made

    return loss


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_rows_of_the_micro_batch_at_fault_are_named(train, marked, monkeypatch, value):  # noqa: F811
    monkeypatch.setattr(trainer, "pro_loss", spoiled_loss(value))
    status, line = train("spoiled", *ONE_BY_ONE, "--checkpointing_step", "1")
    assert (status, line) == (
        1, f"error: step 2: the loss is {value} ({marked}, lines 12; state_1 is kept)"
    )  # fmt: skip
    assert [row["step"] for row in metrics(train.root, "spoiled")] == [1]
    run = run_folder(train.root, "spoiled")
    assert names(run) == ["best_checkpoint", "dev_rewards.json", "lock", "run.json", "state_1", "step_1"]
    monkeypatch.undo()
    monkeypatch.setenv("STUDY_ROOT", str(train.root))
    assert train("spoiled", *ONE_BY_ONE, "--checkpointing_step", "1")[0] == 0  # nothing of it was kept


def test_a_gradient_that_is_not_finite_under_a_loss_that_is(train, marked, monkeypatch):  # noqa: F811
    class Overflow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * math.inf

    def loss(sum_logps, n_tokens, rewards, *more):
        at_fault = 7.5 in rewards[:, 0].tolist()
        return pro_loss(Overflow.apply(sum_logps) if at_fault else sum_logps, n_tokens, rewards, *more)

    monkeypatch.setattr(trainer, "pro_loss", loss)
    status, line = train("steep", "--checkpointing_step", "1")
    assert status == 1 and line in [
        f"error: step 2: the gradient's norm is {norm} ({marked}, lines {lines_of(2)}; state_1 is kept)"
        for norm in ("nan", "inf")
    ]
    assert [row["step"] for row in metrics(train.root, "steep")] == [1]


def test_the_gradient_s_norm_is_logged(train):  # noqa: F811
    """Before clipping, over the whole step; both halves of a step together have the norm of the sum."""
    train("one", "--max_train_steps", "2")
    train("many", "--max_train_steps", "2", *ONE_BY_ONE)
    norms = [[row["grad_norm"] for row in metrics(train.root, exp)] for exp in ("one", "many")]
    assert norms[1] == pytest.approx(norms[0], rel=0.2)  # dropout differs
    assert all(norm > 1.0 for norm in norms[0])  # max_grad_norm


@pytest.mark.parametrize("logit", [math.nan, math.inf, -math.inf])
def test_a_dev_reward_that_is_not_finite(train, monkeypatch, logit):  # noqa: F811
    def act(model, turns, responses, **_):
        return [logit if i == 3 else 0.5 for i in range(len(turns))]

    monkeypatch.setattr(trainer.load_reward_model.__globals__["RewardModel"], "score", act)
    status, line = train("unscored")
    dev = train.root / "data" / "hh_dev" / "sampled_dev.json"
    assert (status, line) == (1, f"error: step 2: the reward is not finite ({dev}, lines 4)")
    assert not (run_folder(train.root, "unscored") / "dev_rewards.json").exists()


def test_weights_are_looked_at_before_a_state_is_written_or_dropped(train, monkeypatch):  # noqa: F811
    """The update itself overflows: the loss and the gradients of the last step are finite."""
    step = torch.optim.AdamW.step
    calls = []

    def spoiling(self, *args):
        made = step(self, *args)
        calls.append(1)
        if len(calls) == 5:
            self.param_groups[0]["params"][3].data[0] = math.inf
        return made

    monkeypatch.setattr(torch.optim.AdamW, "step", spoiling)
    status, line = train("last")
    assert status == 1 and line.startswith("error: step 5: a weight is not finite after its update (")
    assert f"lines {lines_of(5)}; state_4 is kept)" in line
    run = run_folder(train.root, "last")
    assert (run / "state_4").is_dir() and not (run / "step_5").exists() and not (run / "state_5").exists()
    assert os.readlink(run / "best_checkpoint") in ("step_2", "step_4")
