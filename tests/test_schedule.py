"""training/schedule.py: the rates are those that a scheduler gives its optimiser, and a stopped run resumes on them."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from transformers import get_scheduler

from data_preprocess.command import InputError, RunError
from tests.test_going_on import at_call, train  # noqa: F401
from tests.test_trainer import metrics, study, weights  # noqa: F401
from training import trainer
from training.schedule import SCHEDULES, depends_on_length, learning_rates, n_warmup_steps

KWARGS = {
    "cosine_with_restarts": {"num_cycles": 3}, "cosine_with_min_lr": {"min_lr": 1e-4},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.2}, "polynomial": {"power": 2.0, "lr_end": 1e-5},
    "warmup_stable_decay": {"num_decay_steps": 4}, "inverse_sqrt": {"timescale": 5},
}  # fmt: skip


def settings(kind="constant", warmup=0.0, rate=3e-3, **kwargs):
    text = json.dumps(kwargs) if kwargs else ""
    return SimpleNamespace(
        learning_rate=rate, lr_scheduler_type=kind, lr_scheduler_kwargs=text, warmup_steps=warmup
    )  # fmt: skip


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_step_has_the_rate_that_the_scheduler_gives_an_optimiser(kind):
    kwargs, steps, warmup = KWARGS.get(kind, {}), 17, 0 if kind == "constant" else 5
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=3e-3)
    scheduler = get_scheduler(kind, optimizer, warmup, steps, kwargs)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        parameter.grad = torch.ones(1)
        optimizer.step()
        scheduler.step()
    rates = learning_rates(settings(kind, float(warmup), **kwargs), steps)
    assert [rates(step) for step in range(1, steps + 1)] == found
    assert len(set(found)) > 1 or kind == "constant"


def test_rates_by_hand():
    linear = learning_rates(settings("linear", 2.0, rate=1.0), 6)
    assert [linear(step) for step in range(1, 7)] == pytest.approx([0, 1 / 2, 1, 3 / 4, 2 / 4, 1 / 4])
    cosine = learning_rates(settings("cosine", 0.25, rate=2.0), 8)  # a quarter of 8 steps
    expected = [0.0, 1.0, *(1 + math.cos(math.pi * i / 6) for i in range(6))]
    assert [cosine(step) for step in range(1, 9)] == pytest.approx(expected)
    assert learning_rates(settings(rate=2e-5), 1)(1) == 2e-5


def test_a_share_of_warm_up_is_rounded_up():
    assert [n_warmup_steps(settings("linear", share), 10) for share in (0.0, 0.11, 0.5, 1.0, 3.0)] == [0, 2, 5, 1, 3]


@pytest.mark.parametrize(
    ("made", "total", "message"),
    [
        (
            settings("linear", 6.0),
            6,
            "--warmup_steps 6: of 6 steps in all, none is left for --lr_scheduler_type linear",
        ),
        (settings("cosine", 0.9), 1, "--warmup_steps 0.9: of 1 steps in all, none is left"),
        (settings("constant", 3.0), 6, "--warmup_steps 3: --lr_scheduler_type constant has none"),
        (settings("constant_with_warmup"), 6, "constant_with_warmup: expected --warmup_steps"),
        (settings("constant", power=2), 6, "--lr_scheduler_kwargs: --lr_scheduler_type constant takes none"),
        (settings("cosine", powr=2), 6, "--lr_scheduler_type cosine --lr_scheduler_kwargs .*powr"),
        (settings("warmup_stable_decay"), 6, "warmup_stable_decay .*num_decay_steps"),
        (settings("cosine_with_min_lr"), 6, "cosine_with_min_lr .*min_lr"),
        (settings("polynomial", rate=1e-9), 6, "polynomial .*lr"),
        (settings("polynomial", lr_end=-1), 3, "polynomial .*: the rate of step 2 is -.* not 0 to 1"),
        (settings("polynomial", power=-2), 6, "the rate of step 2 is 1.4.* times --learning_rate"),
        (settings("polynomial", 3.0, power=-2), 4_000_000, "the rate of step .*, not 0 to 1"),
        (settings("cosine_with_min_lr", min_lr_rate=50), 6, "the rate of step 2 is "),
        (settings("cosine_with_min_lr", min_lr_rate=math.nan), 6, "min_lr_rate is nan .expected a finite number"),
        (settings("inverse_sqrt", timescale=math.nan), 6, "timescale is nan .expected a finite number"),
        (settings("inverse_sqrt", last_epoch=0), 6, "last_epoch cannot be set"),
    ],
)
def test_a_schedule_without_steps_or_with_strange_arguments_is_one_line(made, total, message):
    with pytest.raises(InputError, match=message) as caught:
        learning_rates(made, total)
    assert "\n" not in str(caught.value)


def test_a_number_that_overflows_is_refused():
    made = settings("cosine_with_min_lr")
    made.lr_scheduler_kwargs = '{"min_lr": 1e400}'
    with pytest.raises(InputError, match="--lr_scheduler_kwargs: min_lr is inf"):
        learning_rates(made, 5)


@pytest.mark.parametrize(
    ("kind", "warmup", "kwargs"),
    [
        ("cosine", 2.0, {"num_cycles": 3}), ("cosine", 0.0, {"num_cycles": 0.25}), ("cosine", 0.0, {"last_epoch": -1}),
        ("cosine_with_min_lr", 0.1, {"min_lr_rate": 1}), ("cosine_with_min_lr", 2.0, {"min_lr": 0}),
        ("cosine_warmup_with_min_lr", 4.0, {"min_lr_rate": 0, "warmup_lr_rate": 0.5}),
        ("polynomial", 2.0, {"power": 0.5}), ("polynomial", 2.0, {"power": 0, "lr_end": 0}),
        ("warmup_stable_decay", 2.0, {"num_decay_steps": 4, "warmup_type": "cosine", "decay_type": "1-sqrt"}),
        ("warmup_stable_decay", 2.0, {"num_decay_steps": 6, "min_lr_ratio": 0.1, "num_cycles": 0.5}),
        ("inverse_sqrt", 9.0, {"timescale": 2}), ("inverse_sqrt", 40.0, {}),
    ],
)  # fmt: skip
def test_what_transformers_allows_stays_legal(kind, warmup, kwargs):
    rates = learning_rates(settings(kind, warmup, **kwargs), 17)
    assert all(0 <= rates(step) <= 3e-3 * (1 + 1e-6) for step in range(1, 18))


@pytest.mark.parametrize("text", ["{", "[1]", "0.1", '"power"', "[" * 100_000])
def test_arguments_that_are_no_json_object_are_refused(text):
    made = settings("cosine")
    made.lr_scheduler_kwargs = text
    with pytest.raises(InputError, match="expected a JSON object"):
        learning_rates(made, 5)


def test_which_schedules_a_longer_run_would_change():
    assert not depends_on_length({}) and not depends_on_length({"lr_scheduler_type": "constant"})
    assert not depends_on_length({"lr_scheduler_type": "inverse_sqrt", "warmup_steps": 3.0})
    assert depends_on_length({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 0.1})
    assert all(depends_on_length({"lr_scheduler_type": kind}) for kind in SCHEDULES[3:])
    for kind in SCHEDULES:  # the oracle: the rates of runs of two lengths
        warmup = 0.0 if kind == "constant" else 2.0
        short, long = (learning_rates(settings(kind, warmup, **KWARGS.get(kind, {})), steps) for steps in (12, 30))
        differ = [short(step) for step in range(1, 13)] != [long(step) for step in range(1, 13)]
        assert depends_on_length({"lr_scheduler_type": kind, "warmup_steps": warmup}) == differ, kind


def fail(*_):
    raise RunError("the power is out")


PLAIN = ("--no_do_validation", "--checkpointing_step", "100")


def test_a_stopped_run_resumes_on_its_schedule(train, monkeypatch):  # noqa: F811
    flags = (*PLAIN, "--lr_scheduler_type", "linear", "--warmup_steps", "2", "--weight_decay", "0.5")
    train("whole", *flags)
    assert [row["learning_rate"] for row in metrics(train.root, "whole")] == pytest.approx(
        [0, 1e-2 / 2, 1e-2, 1e-2 * 2 / 3, 1e-2 / 3]
    )
    with monkeypatch.context() as patch:
        at_call(patch, trainer.Trainer, "_step", 4, fail)
        train("stopped", *flags, "--state_minutes", "1e-9")
    assert train("stopped", *flags)[0] == 0
    assert weights(train.root, "stopped") == weights(train.root, "whole")
    assert metrics(train.root, "stopped") == metrics(train.root, "whole")


def test_weight_decay_is_that_of_adamw(train):  # noqa: F811
    """A first step makes w (1 - lr * decay) - lr * update, so two decays differ by lr * w * their difference."""
    from safetensors.torch import load

    made = {}
    for decay in ("0", "0.5"):
        flags = (*PLAIN, "--max_train_steps", "1", "--weight_decay", decay)
        train(f"decay{decay}", *flags)
        made[decay] = load(weights(train.root, f"decay{decay}", 1))
    before = load((train.root / "model" / "model.safetensors").read_bytes())
    for name, value in made["0"].items():
        torch.testing.assert_close(made["0.5"][name], value - 1e-2 * 0.5 * before[name], rtol=1e-4, atol=1e-6)


def test_what_can_be_extended(train):  # noqa: F811
    warm = (*PLAIN, "--lr_scheduler_type", "constant_with_warmup", "--warmup_steps", "3")
    train("whole", *warm)
    train("grown", *warm, "--max_train_steps", "2")
    assert train("grown", *warm)[0] == 0
    assert weights(train.root, "grown") == weights(train.root, "whole")
    cosine = (*PLAIN, "--lr_scheduler_type", "cosine")
    train("cosine", *cosine, "--max_train_steps", "2")
    status, line = train("cosine", *cosine, "--max_train_steps", "3")
    assert status == 2 and (
        "max_train_steps was 2, is 3, and the learning rates of --lr_scheduler_type cosine depend on it" in line
    )
    status, line = train("none", *PLAIN, "--lr_scheduler_type", "linear", "--warmup_steps", "5")
    assert status == 2 and line.startswith("error: --warmup_steps 5: of 5 steps in all, none is left")
    assert not (train.root / "checkpoints" / "index_none").exists()


def test_a_run_of_an_earlier_version_had_the_defaults(train):  # noqa: F811
    train("old", *PLAIN, "--max_train_steps", "2")
    path = train.root / "checkpoints" / "index_old" / "stage_4" / "run.json"
    record = json.loads(path.read_text())
    for name in (
        "lr_scheduler_type",
        "lr_scheduler_kwargs",
        "warmup_steps",
        "weight_decay",
        "reward_dtype",
        "report_to",
    ):
        del record["config"][name]
    path.write_text(json.dumps(record))
    status, line = train("old", *PLAIN, "--max_train_steps", "3", "--weight_decay", "0")
    assert status == 2 and "weight_decay was 0.01, is 0.0" in line
    assert train("old", *PLAIN, "--max_train_steps", "3")[0] == 0
    assert json.loads(path.read_text())["history"] == [{"until_step": 2, "config": {"max_train_steps": 2}}]
