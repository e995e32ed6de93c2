"""The study's statistics on plain arrays: contrasts over replicates, line fits, tests of a curve, Holm's correction.

eval_hh/analysis/ applies them to cells and decides from them whether a claim held; eval_hh/calibrate.py measures how
often each is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05
EQUAL_COST = 0.05  # share of labelled responses by which budgets may differ and still cost the same
ROUNDING = 1e-12  # relative difference that float arithmetic can cause between equal numbers
QUANTILES = 400  # of a sample's standard deviation, over which a power is averaged; its error is about 0.0001
CHUNK = 1 << 22  # resampled values held at a time; limits a bootstrap's memory to about 100 MB


@dataclass(frozen=True)
class Line:
    """A least-squares line y = slope * x + intercept over n points."""

    slope: float
    intercept: float
    mse: float  # mean squared residual in the sample (divided by n, as the paper's figure does)
    r2: float  # 1 - residual / total sum of squares; 0 if y is constant
    loo_mse: float  # leave-one-out mean squared error; nan with fewer than 3 points

    def aic(self, n: int) -> float:
        """Returns Akaike's criterion, up to a constant, of a line over n points: n log(mse) + 2 x 3 parameters."""
        return n * float(np.log(self.mse)) + 6


@dataclass(frozen=True)
class Prediction:
    """A predicted value with its standard error and its 95% interval from Student's t."""

    value: float
    error: float  # standard error of the prediction
    df: float  # degrees of freedom of `error`
    low: float
    high: float


@dataclass(frozen=True)
class Contrast:
    """A mean difference over replicates with its 95% interval from Student's t and two-sided p-value against zero."""

    difference: float
    low: float
    high: float
    p: float
    df: float  # degrees of freedom
    n_replicates: int

    @property
    def spread(self) -> float:
        """The standard deviation of the difference over replicates."""
        return (self.high - self.low) / 2 / t_half_width(1.0, self.df) * self.n_replicates**0.5


def t_half_width(error: float | np.ndarray, df: float) -> float | np.ndarray:
    """Returns half of Student's 95% interval about an estimate with this standard error on `df` degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 1 - LEVEL / 2)) * error


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
    return over_replicates(paired_differences(a.mean(axis=1), b.mean(axis=1)))


def paired_differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns first - second of mean rewards [replicates], 0 where they differ by no more than rounding."""
    rounding = ROUNDING * max(np.abs(first).max(), np.abs(second).max())
    differences = first - second
    return np.where(np.abs(differences) <= rounding, 0.0, differences)


def over_replicates(effects: Sequence[float]) -> Contrast:
    """Returns the mean of one effect per replicate [R], R >= 2: mean +- t(R - 1) s / sqrt(R), s the standard deviation.

    With zero variance the interval is the mean itself, and p is 0, or 1 if the mean is 0. ValueError for R < 2.
    """
    from scipy.special import stdtr

    effects = np.asarray(effects, dtype=float)
    n = len(effects)
    if n < 2:
        raise ValueError(f"{n} replicates (expected two or more: one says nothing of how replicates differ)")
    mean, df = float(effects.mean()), n - 1
    if np.ptp(effects) <= ROUNDING * np.abs(effects).max():
        return Contrast(mean, mean, mean, float(mean == 0), df, n)
    error = float(effects.std(ddof=1)) / n**0.5
    half = t_half_width(error, df)
    return Contrast(mean, mean - half, mean + half, float(2 * stdtr(df, -abs(mean) / error)), df, n)


def replicates_for(
    effect: float, spread: float, margin: float = 0.0, power: float = 0.8, most: int = 1000
) -> int | None:
    """Returns the fewest replicates that decide with probability `power`; None if above `most`.

    They decide if the interval of the difference excludes zero on the side of the effect, or lies within `margin` of
    zero (`decision_power`).

    Args:
        effect: the true difference.
        spread: standard deviation over replicates of the difference.
        margin: 0 or above, like `effect` in units of the difference.

    Raises:
        ValueError: without a margin, an effect of zero.
    """
    if not effect and not margin:
        raise ValueError("effect 0 and no margin (expected one of them above 0)")
    if not spread:
        return 2
    return next((n for n in range(2, most + 1) if decision_power(effect / spread, margin / spread, n) >= power), None)


def decision_power(effect: float, margin: float, n_replicates: int) -> float:
    """Returns the probability that a paired t interval excludes zero on the effect's side, or lies within the margin.

    With s^2 = chi2(R - 1) / (R - 1) and half-width h = t(1 - 0.05 / 2, R - 1) s / sqrt(R), the mean m, normal around
    the effect with variance 1 / R and independent of s, decides if m > h or |m| < margin - h. Its probability given s
    is averaged over quantiles of s. Without a margin this is the power of the noncentral t (Cohen, Statistical Power
    Analysis, 2nd ed., chapter 2).

    Args:
        effect, margin: in standard deviations of the difference over replicates; the effect's sign does not matter.
    """
    from scipy.special import chdtri, ndtr

    df, scale = n_replicates - 1, n_replicates**0.5
    s = np.sqrt(chdtri(df, (np.arange(QUANTILES) + 0.5) / QUANTILES) / df)
    half = t_half_width(s, df) / scale
    within = np.maximum(margin - half, 0)
    above, below = np.minimum(within, half), -within  # beyond `half` the interval excludes zero
    below_mean = [ndtr((bound - abs(effect)) * scale) for bound in (half, above, below)]
    return float((1 - below_mean[0] + below_mean[1] - below_mean[2]).mean())


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """Fits y [n] on x [n] by ordinary least squares. Raises ValueError with fewer than two distinct x."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(np.unique(x)) < 2:
        raise ValueError("a line needs at least two different x")
    centred = x - x.mean()
    spread = (centred**2).sum()
    slope = y @ centred / spread
    residual = y - y.mean() - slope * centred
    left, total = (residual**2).sum(), ((y - y.mean()) ** 2).sum()
    # The leave-one-out residual is residual / (1 - leverage).
    free = 1 - 1 / len(x) - centred**2 / spread
    loo = ((residual / free) ** 2).mean() if (free > 1e-9).all() else np.nan
    r2 = 1 - left / total if total > 0 else 0.0
    return Line(*map(float, (slope, y.mean() - slope * x.mean(), left / len(x), r2, loo)))


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
    half = t_half_width(error, df)
    return Prediction(value, error, df, value - half, value + half)


def average_mse(lines: Collection[Line]) -> float:
    """Returns the paper's MSE of a panel: in-sample per line, averaged over the lines (one per K)."""
    return float(np.mean([line.mse for line in lines]))


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


def lack_of_fit(x: Sequence[float], y: np.ndarray) -> float:
    """Returns the p-value of a deviation of the mean of y [R, n] from a line on x [n], n >= 3.

    Hotelling's one-sample T-squared test that the n - 2 contrasts between the values of a replicate that vanish on
    every line on x have mean zero over the R replicates: (R - q) / (q (R - 1)) T2 is distributed as F(q, R - q), with
    q = n - 2 (Anderson, An Introduction to Multivariate Statistical Analysis, section 5.2). The replicates supply the
    pure error, with whatever correlation the nested subsets of one draw have. nan with R <= q.
    """
    from scipy.linalg import null_space
    from scipy.special import fdtrc

    y = np.asarray(y, dtype=float)
    values = y @ null_space(np.stack([np.ones(len(x)), np.asarray(x, dtype=float)]))
    n, q = values.shape
    if n <= q:
        return float("nan")
    mean, centred = values.mean(axis=0), values - values.mean(axis=0)
    tiny = ROUNDING * max(1.0, float(np.abs(y).max()))
    if np.abs(centred).max() <= tiny:
        return float(np.abs(mean).max() <= tiny)
    t2 = n * (n - 1) * mean @ np.linalg.pinv(centred.T @ centred) @ mean
    return float(fdtrc(q, n - q, (n - q) / (q * (n - 1)) * t2))


def cluster_coefficients(design: np.ndarray, y: np.ndarray, clusters: Sequence[int]) -> list[Contrast]:
    """Returns least-squares coefficients of y [n] on design [n, p], with intervals that allow for clusters [n].

    The rows of one cluster (a replicate) may depend on each other. Standard errors are the jackknife over the R
    clusters (CV3 of MacKinnon, Nielsen and Webb, 2023), with Student's t(R - 1).

    Raises ValueError if there are fewer than three clusters, or if without one of them the design loses rank.
    """
    from scipy.special import stdtr

    design, y, clusters = np.asarray(design, dtype=float), np.asarray(y, dtype=float), np.asarray(clusters)
    names = np.unique(clusters)
    n = len(names)
    if n < 3:
        raise ValueError(f"{n} replicates (expected three or more)")
    kept = [np.ones(len(y), dtype=bool), *(clusters != name for name in names)]
    if any(np.linalg.matrix_rank(design[rows]) < design.shape[1] for rows in kept):
        raise ValueError(f"{len(y)} rows do not tell {design.shape[1]} predictors apart")
    value, *without = (np.linalg.lstsq(design[rows], y[rows], rcond=None)[0] for rows in kept)
    errors = ((n - 1) / n * ((np.stack(without) - value) ** 2).sum(axis=0)) ** 0.5
    found = []
    for one, error in zip(value, errors, strict=True):
        half = t_half_width(error, n - 1)
        p = float(2 * stdtr(n - 1, -abs(one) / error)) if error else float(one == 0)
        found.append(Contrast(float(one), float(one - half), float(one + half), p, n - 1, n))
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns Holm's step-down adjusted p-values, in the order given; nan, no test, stays nan and is not counted."""
    tested = [index for index, p in enumerate(p_values) if p == p]
    adjusted, largest = [float("nan")] * len(p_values), 0.0
    for rank, index in enumerate(sorted(tested, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(tested) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def budgets(sizes: Collection[int]) -> list[dict[int, int]]:
    """Returns the equal budgets {K: M} in a grid of sizes, largest first: {2: N, 3: 2N/3, 4: N/2}, up to rounding.

    Rounding may change a budget by at most one twentieth. If no budget has all three in the grid, those of
    {2: N, 4: N/2} are returned.
    """
    found = []
    for largest in sorted(sizes, reverse=True):
        budget = {2: largest}
        for ranking_len in (3, 4):
            most = min(ranking_len - 1, EQUAL_COST * 2 * largest)
            near = [size for size in sizes if abs(ranking_len * size - 2 * largest) <= most]
            if near:
                budget[ranking_len] = min(near, key=lambda size, k=ranking_len: abs(k * size - 2 * largest))
        if 4 in budget and len(set(budget.values())) == len(budget):
            found.append(budget)
    return [budget for budget in found if 3 in budget] or found
