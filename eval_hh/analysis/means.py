"""Means and spreads of the study's table, and how often another reward agrees with the table's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from eval_hh.analysis.results import Results
from eval_hh.cells import Setting

MAX_PAIRS = 300


@dataclass(frozen=True)
class Entry:
    """One entry of the table: a mean and its spread over replicates or, with one replicate, over test prompts."""

    mean: float
    spread: float
    n_units: int  # replicates


def table(
    results: Results, field: str = "reward", scale: float = 100.0, pools: Iterable[str] | None = None
) -> dict[tuple[str, Setting], Entry]:
    """Returns the entries of random subsets by (pool, setting), by default all pools; a setting not run has none.

    `mean` is over the pool's prompts and the replicates. `spread` is the standard deviation over replicates (n - 1);
    with one replicate it is the half-width of the 95% interval over test prompts, 1.96 sd / sqrt(prompts).
    """
    entries = {}
    for setting in results.random:
        units = results.units(setting)
        for pool in pools or results.pools:
            rewards = scale * results.rewards(setting, units, pool, field)
            means = rewards.mean(axis=1)
            spread = means.std(ddof=1) if len(units) > 1 else half_width(rewards[0])
            entries[pool, setting] = Entry(float(means.mean()), float(spread), len(units))
    return entries


def model_entries(results: Results, scale: float = 100.0) -> dict[str, dict[str, Entry]]:
    """Returns {name of a row: {pool: entry}} of the models of no run, the spread over test prompts."""
    return {
        row.name: {
            pool: Entry(float(values.mean()), half_width(values), 1)
            for pool, values in ((pool, scale * row.values(pool)) for pool in results.pools)
        }
        for row in results.models
    }


def half_width(values: np.ndarray) -> float:
    """Returns half the 95% interval of the mean of values [rows]: 1.96 sd / sqrt(rows); 0 for a single row."""
    return 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


def ordering_accuracy(results: Results, name: str) -> tuple[float, int]:
    """Returns how often the extra reward `name` orders two cells' responses to a test prompt as `reward` does.

    Covers all prompts and pairs of cells (at most 300 pairs, evenly chosen) whose rewards differ; a tie in the extra
    reward counts half. Returns (accuracy, number of response pairs), or (nan, 0) without pairs.
    """
    gold = np.stack([cell.values("Global") for cell in results.cells])
    other = np.stack([cell.values("Global", name) for cell in results.cells])
    pairs = list(combinations(range(len(gold)), 2))
    pairs = pairs[:: -(-len(pairs) // MAX_PAIRS) or 1]
    right, total = 0.0, 0
    for first, second in pairs:
        truth = np.sign(gold[first] - gold[second])
        guess = np.sign(other[first] - other[second])
        differ = truth != 0
        right += float(((truth * guess)[differ] + 1).sum() / 2)
        total += int(differ.sum())
    return (right / total if total else float("nan")), total
