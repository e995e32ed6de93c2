"""The study's statistics on plain arrays: line fits, paired bootstrap, t intervals and Holm's correction.

eval_hh/analysis/ applies them to cells and decides from them whether a claim held.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

N_DRAWS = 4000
LEVEL = 0.05
ROUNDING = 1e-12  # relative difference that float arithmetic can cause between equal numbers
CHUNK = 1 << 22  # resampled values held at a time; limits a bootstrap's memory to about 100 MB


@dataclass(frozen=True)
class Line:
    """A least-squares line y = slope * x + intercept over n points."""

    slope: float
    intercept: float
    mse: float  # mean squared residual in the sample (divided by n, as the paper's figure does)
    r2: float  # 1 - residual / total sum of squares; 0 if y is constant
    loo_mse: float  # leave-one-out mean squared error; nan with fewer than 3 points


@dataclass(frozen=True)
class Prediction:
    """A predicted value with its standard error and its 95% interval from Student's t."""

    value: float
    error: float  # standard error of the prediction
    df: float  # degrees of freedom of `error`
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A value with its bootstrap 95% interval and two-sided p-value against zero."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Contrast:
    """A mean difference over replicates with its 95% interval from Student's t and two-sided p-value against zero."""

    difference: float
    low: float
    high: float
    p: float
    df: float  # degrees of freedom
    n_replicates: int


def contrast(a: np.ndarray, b: np.ndarray) -> Contrast:
    """Returns the mean reward of cell `a` minus that of cell `b`, paired by replicate.

    A replicate is a new draw of the training subsets with a new training seed. The unit is its mean over the test
    prompts: the interval covers new draws and seeds on these test prompts.

    Args:
        a, b: rewards [replicates, test prompts]; row r of both is replicate r.

    Raises:
        ValueError: not two dimensions, unequal shapes, fewer than two replicates, no prompts, or a non-finite value.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"rewards of shapes {a.shape} and {b.shape} (expected [replicates, test prompts] for both)")
    if not a.size:
        raise ValueError(f"rewards of shape {a.shape} (expected a test prompt)")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a reward is not finite")
    effects = (a - b).mean(axis=1)
    rounding = ROUNDING * max(np.abs(a).max(), np.abs(b).max())
    return over_replicates(np.where(np.abs(effects) <= rounding, 0.0, effects))


def over_replicates(effects: Sequence[float]) -> Contrast:
    """Returns the mean of one effect per replicate [R], R >= 2: mean +- t(R - 1) s / sqrt(R), s the standard deviation.

    With zero variance the interval is the mean itself, and p is 0, or 1 if the mean is 0. ValueError for R < 2.
    """
    from scipy.special import stdtr, stdtrit

    effects = np.asarray(effects, dtype=float)
    n = len(effects)
    if n < 2:
        raise ValueError(f"{n} replicates (expected two or more: one says nothing of how replicates differ)")
    mean, df = float(effects.mean()), n - 1
    if np.ptp(effects) <= ROUNDING * np.abs(effects).max():
        return Contrast(mean, mean, mean, float(mean == 0), df, n)
    error = float(effects.std(ddof=1)) / n**0.5
    half = float(stdtrit(df, 1 - LEVEL / 2)) * error
    return Contrast(mean, mean - half, mean + half, float(2 * stdtr(df, -abs(mean) / error)), df, n)


def replicates_for(effect: float, spread: float, power: float = 0.8, most: int = 1000) -> int | None:
    """Returns the fewest replicates whose interval lies above zero with probability `power`; None if above `most`.

    The power of the paired t test is 1 - F(t(1 - 0.05 / 2, R - 1)), F of the noncentral t with R - 1 degrees of freedom
    and noncentrality effect / spread * sqrt(R) (Cohen, Statistical Power Analysis, 2nd ed., chapter 2).

    Args:
        effect: the true difference, above 0.
        spread: standard deviation over replicates of the difference.
    """
    from scipy.special import nctdtr, stdtrit

    if not effect > 0:
        raise ValueError(f"effect {effect} (expected one above 0)")
    for n in range(2, most + 1):
        if not spread or 1 - nctdtr(n - 1, effect / spread * n**0.5, stdtrit(n - 1, 1 - LEVEL / 2)) >= power:
            return n
    return None


def fit_lines(x: Sequence[float], y: np.ndarray) -> dict[str, np.ndarray]:
    """Fits each row of y [draws, n] on x [n] by ordinary least squares; returns Line's fields by name, each [draws].

    Raises ValueError with fewer than two distinct x.
    """
    x = np.asarray(x, dtype=float)
    if len(np.unique(x)) < 2:
        raise ValueError("a line needs at least two different x")
    centred = x - x.mean()
    spread = (centred**2).sum()
    means = y.mean(axis=1)
    slope = y @ centred / spread
    residual = y - means[:, None] - slope[:, None] * centred
    total = ((y - means[:, None]) ** 2).sum(axis=1)
    left = (residual**2).sum(axis=1)
    # The leave-one-out residual is residual / (1 - leverage).
    free = 1 - 1 / len(x) - centred**2 / spread
    loo = ((residual / free) ** 2).mean(axis=1) if (free > 1e-9).all() else np.full(len(y), np.nan)
    r2 = np.where(total > 0, 1 - left / np.where(total > 0, total, 1), 0.0)
    return {"slope": slope, "intercept": means - slope * x.mean(), "mse": left / len(x), "r2": r2, "loo_mse": loo}


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """Fits y [n] on x [n] by ordinary least squares. Raises ValueError with fewer than two distinct x."""
    fitted = fit_lines(x, np.asarray([y], dtype=float))
    return Line(**{name: float(values[0]) for name, values in fitted.items()})


def predict_point(x: Sequence[float], y: Sequence[float], at: float) -> Prediction:
    """Predicts one further point at x = `at` from the least-squares line of y [n] on x [n].

    value +- t(n - 2) s sqrt(1 + 1/n + (at - mean x)^2 / Sxx), s^2 the sum of squared residuals over n - 2
    (Montgomery, Peck and Vining, Introduction to Linear Regression Analysis, "Prediction of new observations").
    The residuals cover everything that moves a point off the line: seeds, test prompts and nonlinearity.

    Raises ValueError with fewer than three points or two distinct x.
    """
    if len(x) < 3:
        raise ValueError(f"{len(x)} points leave no residual to judge a line by")
    line, centred = fit_line(x, y), np.asarray(x, dtype=float) - np.mean(x)
    variance = line.mse * len(x) / (len(x) - 2)
    spread = 1 + 1 / len(x) + (at - np.mean(x)) ** 2 / (centred**2).sum()
    return _prediction(line.slope * at + line.intercept, float(variance * spread) ** 0.5, len(x) - 2)


def prediction_difference(first: Prediction, second: Prediction) -> Prediction:
    """Returns first - second of two lines with independent errors, with Satterthwaite's (1946) degrees of freedom."""
    parts = [(one.error**2, one.df) for one in (first, second)]
    variance = sum(part for part, _ in parts)
    below = sum(part**2 / df for part, df in parts)
    df = variance**2 / below if below else min(first.df, second.df)
    return _prediction(first.value - second.value, variance**0.5, df)


def _prediction(value: float, error: float, df: float) -> Prediction:
    from scipy.special import stdtrit

    half = float(stdtrit(df, 1 - LEVEL / 2)) * error
    return Prediction(value, error, df, value - half, value + half)


def average_mse(lines: Collection[Line]) -> float:
    """Returns the paper's MSE of a panel: in-sample per line, averaged over the lines (one per K)."""
    return float(np.mean([line.mse for line in lines]))


def row_draws(rewards: np.ndarray, n_draws: int = N_DRAWS, seed: int = 0) -> np.ndarray:
    """Returns bootstrap means [n_draws, cells] of rewards [cells, rows]; each draw takes rows with replacement.

    All cells share the rows of a draw, so differences between columns are paired over test prompts.
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
    """Returns bootstrap weights [n_draws, n_seeds], how often a draw takes each seed; each row sums to 1.

    A draw takes n_seeds - 1 of the n_seeds with replacement: with so few seeds, taking n_seeds would make the variance
    of the mean too small by the factor (n_seeds - 1) / n_seeds; this makes it unbiased. A single seed is always taken:
    the interval is then over test prompts only.
    """
    if n_seeds == 1:
        return np.ones((n_draws, 1))
    # Not the stream of row_draws, else the draws of seeds and rows would be correlated.
    rng = np.random.default_rng([seed, n_seeds])
    return rng.multinomial(n_seeds - 1, np.full(n_seeds, 1 / n_seeds), size=n_draws) / (n_seeds - 1)


def estimate(value: float, draws: np.ndarray) -> Estimate:
    """Returns percentile interval and two-sided p from bootstrap draws [n_draws]; p is at least 2 / (n_draws + 1)."""
    low, high = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2])
    side = min((draws <= 0).sum(), (draws >= 0).sum())
    return Estimate(float(value), float(low), float(high), float(min(1.0, 2 * (side + 1) / (len(draws) + 1))))


def bootstrap_interval(
    values: Sequence[float], level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of the mean of `values` [n].

    Args:
        values: one number per test prompt.
        level: the coverage of the interval.
        n_resamples: number of resamples of n values with replacement.
        seed: of the draws.
    """
    values = np.asarray(values, dtype=float)
    generator = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    step = max(1, CHUNK // len(values))
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        rows = generator.integers(0, len(values), (size, len(values)))
        means[start : start + size] = values[rows].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bend_p(x: Sequence[float], y: np.ndarray, draws: np.ndarray) -> float:
    """Returns the p-value of a deviation from a line: y [n] at x [n], with bootstrap draws [n_draws, n] of y.

    Compares the residual sum of squares of y with that of the draws' noise about y, which would remain if the true
    relation were a line.
    """
    design = np.column_stack([np.ones(len(y)), x])
    residual_maker = np.eye(len(y)) - design @ np.linalg.pinv(design)
    observed = ((residual_maker @ y) ** 2).sum()
    noise = (((draws - y) @ residual_maker) ** 2).sum(axis=1)
    return float(((noise >= observed).sum() + 1) / (len(draws) + 1))


def error_interval(value: float, draws: np.ndarray) -> tuple[float, float]:
    """Returns the 95% interval of a mean squared error, from its value in bootstrap draws [n_draws].

    The noise of a draw raises each draw's error by about the same amount, so the draws are shifted to centre on the
    value itself. Clipped at zero.
    """
    low, high = np.quantile(draws - draws.mean() + value, [LEVEL / 2, 1 - LEVEL / 2])
    return max(0.0, float(low)), max(0.0, float(high))


def coefficient_draws(predictors: Sequence[Sequence[float]], draws: np.ndarray) -> np.ndarray:
    """Returns least-squares coefficients [n_draws, p] of rows of draws [n_draws, n] on p predictors [n] and a constant.

    Raises ValueError if the predictors are collinear.
    """
    design = np.column_stack([*predictors, np.ones(draws.shape[1])])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError(f"{len(design)} points do not tell {len(predictors)} predictors apart")
    return (draws @ np.linalg.pinv(design).T)[:, :-1]


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns Holm's step-down adjusted p-values, in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def holm_corrected(found: Sequence[Any]) -> list[Any]:
    """Returns the findings, dataclasses with `difference` and `holm_p`, with `holm_p` corrected over all of them."""
    corrected = holm([one.difference.p for one in found])
    return [replace(one, holm_p=p) for one, p in zip(found, corrected, strict=True)]


def budgets(sizes: Collection[int]) -> list[dict[int, int]]:
    """Returns the equal budgets {K: M} in a grid of sizes, largest first: {2: N, 3: 2N/3, 4: N/2}.

    A budget of 2N labelled responses needs all three sizes in the grid, up to rounding.
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
