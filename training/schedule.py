"""Learning rates: the schedules of transformers.get_scheduler, read as functions of the step.

A step's learning rate depends on its number alone, as its prompts and its dropout do, so states hold no scheduler and a
resumed run has the rates of one that was never stopped.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data_preprocess.command import MAX_COUNT, InputError, setting, within
from data_preprocess.records import FLOAT32_MAX

CONSTANT = "constant"
# Schedules that do not depend on the number of steps: with them a run can be extended.
ANY_LENGTH = (CONSTANT, "constant_with_warmup", "inverse_sqrt")
SCHEDULES = (
    *ANY_LENGTH, "linear", "cosine", "cosine_with_restarts", "cosine_with_min_lr", "cosine_warmup_with_min_lr",
    "polynomial", "warmup_stable_decay",
)  # fmt: skip
MOST_TRIED = 100_000  # steps whose rates are computed before a run starts
ROUNDING = 1e-6  # by which a factor may exceed 1


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The flags of a schedule, which the settings of a run inherit and add their learning_rate to."""

    lr_scheduler_type: str = setting(
        "schedule of the learning rate, by its name in transformers", choices=SCHEDULES, default=CONSTANT
    )
    lr_scheduler_kwargs: str = setting("its other arguments in transformers, as a JSON object", default="")
    warmup_steps: float = setting(
        "steps in which the learning rate rises from 0; below 1, a share of all steps",
        within(at_least=0, at_most=MAX_COUNT),
        default=0.0,
    )
    weight_decay: float = setting(
        "weight decay of AdamW, of all weights; by default torch's",
        within(at_least=0, at_most=FLOAT32_MAX),
        default=0.01,
    )


def depends_on_length(config: dict[str, Any]) -> bool:
    """Returns whether the first learning rates of a longer run with these settings would be others."""
    share = 0 < config.get("warmup_steps", 0) < 1
    return share or config.get("lr_scheduler_type", CONSTANT) not in ANY_LENGTH


def n_warmup_steps(settings: Schedule, total_steps: int) -> int:
    """Returns the steps of warm-up, of which a share is rounded up. InputError if no step is left after them."""
    given, kind = settings.warmup_steps, settings.lr_scheduler_type
    if given and kind == CONSTANT:
        raise InputError(f"--warmup_steps {given:g}: --lr_scheduler_type constant has none (use constant_with_warmup)")
    if not given and kind == "constant_with_warmup":
        raise InputError("--lr_scheduler_type constant_with_warmup: expected --warmup_steps, its number of steps")
    steps = math.ceil(total_steps * given) if given < 1 else int(given)
    if steps >= total_steps and kind not in ANY_LENGTH:
        raise InputError(
            f"--warmup_steps {given:g}: of {total_steps} steps in all, none is left for --lr_scheduler_type {kind}"
        )
    return steps


def learning_rates(settings: Schedule, total_steps: int) -> Callable[[int], float]:
    """Returns the function from a step, the first being 1, to its learning rate; InputError as `schedule_factor`."""
    factor = schedule_factor(settings, total_steps)
    return lambda step: settings.learning_rate * factor(step - 1)


def schedule_factor(settings: Schedule, total_steps: int) -> Callable[[int], float]:
    """Returns the function from the number of steps before to the factor of --learning_rate, as LambdaLR takes it.

    Args:
        settings: the flags.
        total_steps: of the whole run.

    Raises:
        InputError: the schedule has no steps, --lr_scheduler_kwargs are not those of its function in transformers, or
            with them a step's rate is not a number from 0 to --learning_rate.
    """
    warmup = n_warmup_steps(settings, total_steps)
    kwargs = _kwargs(settings.lr_scheduler_kwargs)
    if kwargs and settings.lr_scheduler_type in (CONSTANT, "constant_with_warmup"):
        raise InputError(f"--lr_scheduler_kwargs: --lr_scheduler_type {settings.lr_scheduler_type} takes none")
    if settings.lr_scheduler_type == CONSTANT:  # get_scheduler's module imports peft, which takes seconds
        return lambda before: 1.0
    import torch
    from transformers import get_scheduler

    # Its optimizer is a stand-in: only the factor of each step is wanted.
    stand_in = torch.optim.SGD([torch.zeros(1)], lr=settings.learning_rate)
    try:
        scheduler = get_scheduler(settings.lr_scheduler_type, stand_in, warmup, total_steps, kwargs)
        (factor,) = scheduler.lr_lambdas
        _check_factors(factor, total_steps, warmup)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        flags = (
            f"--lr_scheduler_type {settings.lr_scheduler_type} --lr_scheduler_kwargs {settings.lr_scheduler_kwargs!r}"
        )
        raise InputError(f"{flags}: {' '.join(str(error).split())}") from error
    return factor


def _check_factors(factor: Callable[[int], float], total_steps: int, warmup: int) -> None:
    """Raises ValueError that names a step whose factor is not 0 to 1; of very many steps, a dense sample is tried."""
    tried = {*range(0, total_steps, 1 + total_steps // MOST_TRIED), min(warmup, total_steps - 1), total_steps - 1}
    for before in sorted(tried):
        if not 0 <= factor(before) <= 1 + ROUNDING:
            raise ValueError(f"the rate of step {before + 1} is {factor(before):g} times --learning_rate, not 0 to 1")


def _kwargs(text: str) -> dict[str, Any]:
    """Reads --lr_scheduler_kwargs."""
    try:
        kwargs = json.loads(text or "{}")
    except (ValueError, RecursionError):
        kwargs = None
    if not isinstance(kwargs, dict):
        raise InputError(
            f"--lr_scheduler_kwargs {text!r:.60}: expected a JSON object, such as '{{\"min_lr_rate\": 0.1}}'"
        )
    for name, value in kwargs.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"--lr_scheduler_kwargs: {name} is {value} (expected a finite number)")
    if kwargs.get("last_epoch", -1) != -1:
        raise InputError("--lr_scheduler_kwargs: last_epoch cannot be set: a run counts its steps itself")
    return kwargs
