"""The statistics of the study, on plain arrays: line fits, the paired bootstrap, Holm's correction, and the
rules that decide whether a claim held. eval_hh/claims.py applies them to cells.

The rules, in words (the README repeats them):
- "More responses and fewer prompts win at equal budget" held for a pair of cells when the 95% interval of the
  difference (more responses minus more prompts) lies wholly above zero, did not hold when it lies wholly
  below zero, and is undecided otherwise.
- "Reward is linear in D" held for a number of responses K when the slope's 95% interval lies wholly above
  zero and the line explains at least 80% of the variance between sizes. It did not hold when the interval
  lies wholly below zero, or when the line explains less than 80% and the points leave the line by more than
  prompts and seeds account for (p < 0.05; needs two seeds, for with one a bend cannot be told from
  run-to-run spread). Anything else, and anything with fewer than three sizes, is undecided.
- A claim held in a run when it held in every case tested, did not hold when it failed in at least one, and is
  undecided otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

HELD, DID_NOT_HOLD, UNDECIDED = "held", "did not hold", "undecided"
N_DRAWS = 4000
LEVEL = 0.05
MIN_R2 = 0.8
MIN_SIZES = 3


@dataclass(frozen=True)
class Line:
    """A least-squares line y = slope * x + intercept over n points."""

    slope: float
    intercept: float
    mse: float  # mean squared residual in the sample (divided by n, as the paper's figure does)
    r2: float  # 1 - residual / total sum of squares; 0 where y does not vary
    loo_mse: float  # mean squared error at each point of the line through the others; nan below 3 points


@dataclass(frozen=True)
class Estimate:
    """A value with its bootstrap 95% interval and the two-sided p of its being zero."""

    value: float
    low: float
    high: float
    p: float


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """Ordinary least squares of y [n] on x [n]. Raises ValueError below two distinct x."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(np.unique(x)) < 2:
        raise ValueError("a line needs at least two different x")
    centred = x - x.mean()
    spread = (centred**2).sum()
    slope = float((centred * y).sum() / spread)
    intercept = float(y.mean() - slope * x.mean())
    residual = y - slope * x - intercept
    total = ((y - y.mean()) ** 2).sum()
    # The residual at a point of the line fitted without it is residual / (1 - leverage).
    free = 1 - 1 / len(x) - centred**2 / spread
    loo = float(((residual / free) ** 2).mean()) if (free > 1e-9).all() else float("nan")
    r2 = float(1 - (residual**2).sum() / total) if total > 0 else 0.0
    return Line(slope, intercept, float((residual**2).mean()), r2, loo)


def average_mse(lines: Collection[Line]) -> float:
    """The paper's MSE of a panel: in-sample per line, averaged over the lines (one per K)."""
    return float(np.mean([line.mse for line in lines]))


def row_draws(rewards: np.ndarray, n_draws: int = N_DRAWS, seed: int = 0) -> np.ndarray:
    """Bootstrap means [n_draws, cells] of rewards [cells, rows]: each draw takes rows with replacement.

    All cells share the rows of a draw, so that differences between columns are paired over test prompts.
    """
    n_rows = rewards.shape[1]
    rng = np.random.default_rng(seed)
    chunk = max(1, 2_000_000 // n_rows)
    means = []
    for start in range(0, n_draws, chunk):
        size = min(chunk, n_draws - start)
        rows = rng.integers(0, n_rows, size=(size, n_rows)) + n_rows * np.arange(size)[:, None]
        counts = np.bincount(rows.ravel(), minlength=size * n_rows).reshape(size, n_rows)
        means.append(counts @ (rewards.T / n_rows))
    return np.concatenate(means)


def seed_weights(n_seeds: int, n_draws: int = N_DRAWS, seed: int = 0) -> np.ndarray:
    """Bootstrap weights [n_draws, n_seeds], each row summing to 1: how often a draw takes each seed.

    A draw takes n_seeds - 1 of the n_seeds with replacement: with so few seeds a draw of n_seeds would make
    the variance of the mean too small by (n_seeds - 1) / n_seeds; this makes it unbiased. One seed is
    taken always: the interval is then over test prompts only.
    """
    if n_seeds == 1:
        return np.ones((n_draws, 1))
    # Not the stream of row_draws, or seeds and rows would be drawn in step.
    rng = np.random.default_rng([seed, n_seeds])
    return rng.multinomial(n_seeds - 1, np.full(n_seeds, 1 / n_seeds), size=n_draws) / (n_seeds - 1)


def estimate(value: float, draws: np.ndarray) -> Estimate:
    """Percentile interval and two-sided p from bootstrap draws [n_draws]; p is at least 2 / (n_draws + 1)."""
    low, high = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2])
    side = min((draws <= 0).sum(), (draws >= 0).sum())
    return Estimate(float(value), float(low), float(high), float(min(1.0, 2 * (side + 1) / (len(draws) + 1))))


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, n_draws: int = N_DRAWS, seed: int = 0
) -> Estimate:
    """Mean of first - second, both [seeds, rows] on the same seeds and rows; seeds and rows are redrawn."""
    difference = first - second
    draws = row_draws(difference, n_draws, seed) * seed_weights(len(difference), n_draws, seed)
    return estimate(difference.mean(), draws.sum(axis=1))


def bend_p(x: Sequence[float], y: np.ndarray, draws: np.ndarray) -> float:
    """p of the points' leaving their line by chance: y [n] at x [n], with bootstrap draws [n_draws, n] of y.

    The residual sum of squares of y is compared with that of the draws' noise about y, which is what would
    remain if the truth lay on the line.
    """
    design = np.column_stack([np.ones(len(y)), x])
    residual_maker = np.eye(len(y)) - design @ np.linalg.pinv(design)
    observed = ((residual_maker @ y) ** 2).sum()
    noise = (((draws - y) @ residual_maker) ** 2).sum(axis=1)
    return float(((noise >= observed).sum() + 1) / (len(draws) + 1))


def slope_draws(x: Sequence[float], draws: np.ndarray) -> np.ndarray:
    """The least-squares slope on x [n] of each row of draws [n_draws, n]."""
    centred = np.asarray(x, dtype=float) - np.mean(x)
    return draws @ centred / (centred**2).sum()


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def budgets(sizes: Collection[int]) -> list[dict[int, int]]:
    """The equal budgets {K: M} that a grid of sizes holds, largest first: {2: N, 3: 2N/3, 4: N/2}.

    A budget of 2N labelled responses is found where all three sizes are in the grid, up to rounding.
    """
    found = []
    for largest in sorted(sizes, reverse=True):
        budget = {2: largest}
        for ranking_len in (3, 4):
            near = [size for size in sizes if abs(ranking_len * size - 2 * largest) < ranking_len]
            if near:
                budget[ranking_len] = min(near, key=lambda size, k=ranking_len: abs(k * size - 2 * largest))
        if len(set(budget.values())) == 3:
            found.append(budget)
    return found


def decide_budget(low: float, high: float) -> str:
    """Verdict on one equal-budget pair from the interval of its difference (see the module's rules)."""
    if low > 0:
        return HELD
    return DID_NOT_HOLD if high < 0 else UNDECIDED


def decide_line(n_sizes: int, n_seeds: int, slope: Estimate, r2: float, bend: float) -> tuple[str, str]:
    """Verdict on one line of reward against D and the reason in words (see the module's rules)."""
    if n_sizes < MIN_SIZES:
        return UNDECIDED, f"{n_sizes} sizes, a line needs {MIN_SIZES}"
    if slope.high < 0:
        return DID_NOT_HOLD, "reward falls as D rises"
    if r2 < MIN_R2 and bend < LEVEL and n_seeds > 1:
        return DID_NOT_HOLD, "the points leave the line by more than prompts and seeds account for"
    if slope.low <= 0:
        return UNDECIDED, "the slope's interval includes zero"
    if r2 < MIN_R2:
        return UNDECIDED, f"reward rises with D, but the line explains less than {MIN_R2:.0%}"
    return HELD, f"reward rises with D and the line explains {r2:.0%}"


def combine(verdicts: Collection[str]) -> str:
    """Verdict on a claim from its cases: held in all, did not hold in at least one, or undecided."""
    if DID_NOT_HOLD in verdicts:
        return DID_NOT_HOLD
    return HELD if verdicts and set(verdicts) == {HELD} else UNDECIDED
