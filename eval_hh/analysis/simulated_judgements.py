"""Judged comparisons whose truth is known: how often the intervals of win rates cover it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from eval_hh.analysis.win_rates import TIE, controlled_win_rate, win_contrasts

LEVELS, SLOPE, TIES = (0.0, 0.8), 1.0, 0.1  # logits at equal length and of a long answer; share of ties
LENGTH = (0.5, 1.0)  # mean and standard deviation of the difference in length, in units of the latter
REPLICATE_SD = 0.3  # of the level over replicates, in logits: 7 points of a win rate near 50%
SHAPES = (
    (1, 20),
    (1, 40),
    (1, 100),
    (1, 360),
    (2, 20),
    (4, 20),
    (4, 100),
    (8, 100),
)  # pairs of models, prompts judged in each
TRUTH_SIZE = 4000, 100  # replicates and prompts that a truth is averaged over


@dataclass(frozen=True)
class JudgedCoverage:
    """How often nominal 95% intervals cover the truth."""

    level: float  # logit of a win at equal length
    n_pairs: int
    n_prompts: int
    raw: float
    controlled: float


def judged_coverage(simulations: int, seed: int = 0) -> Iterator[JudgedCoverage]:
    """Yields the coverage for each level and shape."""
    rng = np.random.default_rng(seed)
    for level in LEVELS:
        for n_pairs, n_prompts in SHAPES:
            truth = _truth(rng, level, n_pairs, n_prompts)
            hits = np.zeros(2)
            for _ in range(simulations):
                pairs = [_pair(rng, level, n_prompts, n_pairs > 1) for _ in range(n_pairs)]
                found = win_contrasts(*zip(*pairs, strict=True))
                hits += [one.low <= value <= one.high for one, value in zip(found, truth, strict=True)]
            yield JudgedCoverage(level, n_pairs, n_prompts, *(hits / simulations))


def _truth(rng: np.random.Generator, level: float, n_pairs: int, n_prompts: int) -> tuple[float, float]:
    """Returns the expected win rates, minus one half: of one large sample of prompts, or over many replicates."""
    size, prompts = TRUTH_SIZE
    if n_pairs == 1:
        one = _pair(rng, level, size * prompts, False)
        return float(one[0].mean()) - TIE, controlled_win_rate(*one) - TIE
    many = [_pair(rng, level, n_prompts, True) for _ in range(size)]
    raw = np.mean([wins.mean() for wins, _ in many])
    return float(raw) - TIE, float(np.mean([controlled_win_rate(*one) for one in many])) - TIE


def _pair(rng: np.random.Generator, level: float, n_prompts: int, is_replicate: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the preferences and differences in length of one judged pair of models."""
    lengths = rng.normal(*LENGTH, n_prompts)
    own = level + (REPLICATE_SD * rng.standard_normal() if is_replicate else 0.0)
    p = 1 / (1 + np.exp(-(own + SLOPE * np.tanh(lengths / LENGTH[1]))))
    wins = (rng.random(n_prompts) < p).astype(float)
    return np.where(rng.random(n_prompts) < TIES, TIE, wins), lengths


def coverage_table(simulations: int, seed: int) -> list[list[str]]:
    """Returns the coverage of nominal 95% intervals as rows of a table, its header first."""
    rows = [["true win rate at equal length", "pairs", "prompts", "win rate", "at equal length"]]
    for one in judged_coverage(simulations, seed):
        shares = (f"{share:.1%}" for share in (one.raw, one.controlled))
        rows.append([f"{1 / (1 + np.exp(-one.level)):.0%}", str(one.n_pairs), str(one.n_prompts), *shares])
    return rows
