"""Means and spreads of the study's table, from cells, and the paper's published numbers beside them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from data_preprocess.command import REPOSITORY
from data_preprocess.files import read_json
from eval_hh.analysis.equal_budget import Setting, grid
from eval_hh.cells import POOLS, pooled

PAPER_MODELS = {"opt-1.3b": "OPT-1.3B", "llama-7b": "LLaMA-7B"}
MAX_PAIRS = 300


@dataclass(frozen=True)
class Entry:
    """One entry of the table: a mean and its spread over seeds or, with one seed, over test prompts."""

    mean: float
    spread: float
    n_seeds: int


def table(
    cells: list[dict], field: str = "reward", scale: float = 100.0, pools: Iterable[str] = POOLS
) -> dict[tuple[str, Setting], Entry]:
    """Entries by (pool, setting); a setting that was not run has none.

    `mean` is over the pool's prompts and the seeds. `spread` is the standard deviation over seeds (n - 1);
    with one seed it is the half-width of the 95% interval over test prompts, 1.96 sd / sqrt(prompts).
    """
    entries = {}
    for setting, seeds in grid(cells).items():
        for pool in pools:
            rewards = scale * np.stack([pooled(cell, pool, field) for cell in seeds.values()])
            means = rewards.mean(axis=1)
            spread = means.std(ddof=1) if len(seeds) > 1 else half_width(rewards[0])
            entries[pool, setting] = Entry(float(means.mean()), float(spread), len(seeds))
    return entries


def half_width(values: np.ndarray) -> float:
    """Half the 95% interval of the mean of values [rows]: 1.96 sd / sqrt(rows); 0 for a single row."""
    return 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


def paper_results() -> dict:
    """The paper's published numbers with their sources (pics/paper_results.json)."""
    return read_json(REPOSITORY / "pics" / "paper_results.json")


def paper_table(profile: str | None) -> dict[tuple[str, Setting], float]:
    """The paper's Table 1 for a profile, by (pool, setting), as 100 x mean; empty for any other profile."""
    published = paper_results()["table1"]
    return {
        (row["pool"], (row["algorithm"], row["ranking_len"], size)): value
        for row in published["rows"]
        if row["model"] == PAPER_MODELS.get(profile)
        for size, value in zip(published["num_prompts"], row["reward"], strict=True)
    }


def ordering_accuracy(cells: list[dict], name: str) -> tuple[float, int]:
    """How often the extra reward `name` orders two cells' responses to a test prompt as `reward` does.

    Over all prompts and pairs of cells (at most 300 pairs, evenly chosen) whose rewards differ; a tie
    in the extra reward counts half. Returns (accuracy, number of pairs of responses), (nan, 0) where there is
    none.
    """
    gold = np.stack([pooled(cell, "Global") for cell in cells])
    other = np.stack([pooled(cell, "Global", name) for cell in cells])
    pairs = list(combinations(range(len(cells)), 2))
    pairs = pairs[:: -(-len(pairs) // MAX_PAIRS) or 1]
    right, total = 0.0, 0
    for first, second in pairs:
        truth = np.sign(gold[first] - gold[second])
        guess = np.sign(other[first] - other[second])
        differ = truth != 0
        right += float(((truth * guess)[differ] + 1).sum() / 2)
        total += int(differ.sum())
    return (right / total if total else float("nan")), total
