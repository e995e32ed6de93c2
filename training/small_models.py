"""What pretrain.py and train_reward.py share: order of batches, learning-rate schedule, and a stop at what is not a
number.
"""

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from random import Random
from typing import Any

from data_preprocess.command import RunError


def check_finite(step: int, where: Callable[[], str], **numbers: float) -> None:
    """RunError, which names the step and its rows, unless each of the step's numbers is finite.

    Args:
        step: from 1.
        where: says which rows of which file the step is made of.
        **numbers: by what they are called, as loss=0.5.
    """
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise RunError(f"step {step}: the {name.replace('_', ' ')} is {value} ({where()}); no model is saved")


def lines_of(path: str | Path, rows: Collection[int]) -> str:
    """Rows of a file, counted from 0, as a message names them: "lines 3, 9 of train.json"."""
    return f"line{'' if len(rows) == 1 else 's'} {', '.join(str(row + 1) for row in sorted(rows))} of {path}"


def batch_order(lengths: Sequence[int], batch_size: int, n_batches: int, seed: int) -> list[list[int]]:
    """`n_batches` batches of indices: each pass is a new shuffle, cut into batches of like length in random order.

    A batch's members are neighbours by length within a pool of eight batches, so that little is padded. A last
    batch that is not full is left out, unless the data do not fill one.
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
    """Warm-up over the first tenth of the steps, then a straight line down to 0."""
    from torch.optim.lr_scheduler import LambdaLR

    warmup = max(1, n_steps // 10)
    return LambdaLR(optimizer, lambda step: min((step + 1) / warmup, (n_steps - step) / max(1, n_steps - warmup)))
