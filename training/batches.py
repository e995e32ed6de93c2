"""Which prompts an optimiser step sees, and how they are dealt out to its micro-batches."""

from collections.abc import Sequence

import numpy as np


def step_indices(n_records: int, batch_size: int, seed: int, step: int) -> list[int]:
    """The records of optimiser step `step` (from 1), independent of the number of processes.

    Every pass over the records is a shuffle of its own, and passes follow one another without a gap: a step may
    hold the end of one and the beginning of the next.
    """
    positions = range((step - 1) * batch_size, step * batch_size)
    orders = {epoch: np.random.default_rng([seed, epoch]).permutation(n_records)
              for epoch in {position // n_records for position in positions}}  # fmt: skip
    return [int(orders[position // n_records][position % n_records]) for position in positions]


def balanced(rows: Sequence[int], sizes: Sequence[int], n_parts: int) -> list[list[int]]:
    """The rows in parts of equal counts and about equal size: no process waits long, no micro-batch is much larger.

    The largest first, each row goes to the smallest part that has room (Graham's rule, with room as its limit).

    Args:
        rows: indices into `sizes`; n_parts divides their number.
        sizes: of every record.
        n_parts: micro-batches of all processes.
    """
    room = len(rows) // n_parts
    parts: list[list[int]] = [[] for _ in range(n_parts)]
    totals = [0] * n_parts
    for row in sorted(rows, key=lambda row: -sizes[row]):
        part = min((p for p in range(n_parts) if len(parts[p]) < room), key=totals.__getitem__)
        parts[part].append(row)
        totals[part] += sizes[row]
    return parts
