"""Selects the prompts of each optimiser step and distributes them over micro-batches."""

from collections.abc import Sequence

import numpy as np


def step_indices(n_records: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Returns the record indices of optimiser step `step` (from 1), independent of the number of processes.

    Each epoch is a new shuffle. Epochs follow each other without a gap, so a step may span two of them.
    """
    positions = range((step - 1) * batch_size, step * batch_size)
    orders = {epoch: np.random.default_rng([seed, epoch]).permutation(n_records)
              for epoch in {position // n_records for position in positions}}  # fmt: skip
    return [int(orders[position // n_records][position % n_records]) for position in positions]


def balanced(rows: Sequence[int], sizes: Sequence[int], n_parts: int) -> list[list[int]]:
    """Splits rows into parts of equal count and similar total size, so that no process waits long.

    Greedy: rows are assigned by decreasing size to the smallest part that is not full (Graham's rule with a capacity).

    Args:
        rows: indices into `sizes`; n_parts must divide their number.
        sizes: size of every record.
        n_parts: number of micro-batches over all processes.
    """
    room = len(rows) // n_parts
    parts: list[list[int]] = [[] for _ in range(n_parts)]
    totals = [0] * n_parts
    for row in sorted(rows, key=lambda row: -sizes[row]):
        part = min((p for p in range(n_parts) if len(parts[p]) < room), key=totals.__getitem__)
        parts[part].append(row)
        totals[part] += sizes[row]
    return parts
