"""Shared by pretrain.py and train_reward.py: batch order, learning-rate schedule, checks for non-finite numbers."""

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from random import Random
from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from data_preprocess.command import RunError


def check_finite(step: int, where: Callable[[], str], **numbers: float) -> None:
    """Raises RunError, which names the step and its rows, unless all numbers of the step are finite.

    Args:
        step: from 1.
        where: returns which rows of which file the step used.
        **numbers: by name, e.g. loss=0.5.
    """
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise RunError(f"step {step}: the {name.replace('_', ' ')} is {value} ({where()}); no model is saved")


def lines_of(path: str | Path, rows: Collection[int]) -> str:
    """Formats rows of a file, counted from 0, for a message: "lines 3, 9 of train.json"."""
    return f"line{'' if len(rows) == 1 else 's'} {', '.join(str(row + 1) for row in sorted(rows))} of {path}"


def batch_order(lengths: Sequence[int], batch_size: int, n_batches: int, seed: int) -> list[list[int]]:
    """Returns `n_batches` batches of indices: each epoch is a new shuffle, cut into batches of similar length.

    The members of a batch are neighbours by length within a pool of eight batches, which reduces padding; the batches
    of an epoch are in random order. An incomplete last batch is dropped, unless there is no full one.
    """
    rng = Random(seed)
    batches: list[list[int]] = []
    while len(batches) < n_batches:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        one_pass = []
        for start in range(0, len(order), 8 * batch_size):
            pool = sorted(order[start : start + 8 * batch_size], key=lambda i: lengths[i])
            one_pass += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        full = [batch for batch in one_pass if len(batch) == batch_size] or one_pass
        rng.shuffle(full)
        batches += full
    return batches[:n_batches]


def linear_schedule(optimizer: Any, n_steps: int) -> Any:
    """Warm-up over the first tenth of the steps, then linear decay to 0."""
    warmup = max(1, n_steps // 10)
    return LambdaLR(optimizer, lambda step: min((step + 1) / warmup, (n_steps - step) / max(1, n_steps - warmup)))
