"""A Bayesian fit of reward on K and M to a pilot's cells, and what it says of the splits that a budget affords.

The reward of a model trained on M prompts with K responses each, in points of 100 x reward, is

    a + b x + c z + d x z + u[draw] + e,    x = log2(M) - the mean of the fitted cells,    z = log2(K) - log2(3),

u ~ N(0, tau^2) for each draw of prompts, e ~ N(0, sigma^2) for each cell. Given tau and sigma the posterior of (a, b,
c, d) is normal and known in closed form (Gelman et al., Bayesian Data Analysis, 3rd ed., sections 14.8 and 15.3); tau
and sigma, half-normal, are summed over a grid. tests/fixtures/pilot_posterior.json has the same by numpyro.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPREAD_SCALE = 5.0  # points, scale of the half-normal priors of tau and sigma; our studies have 2 to 5
LEVEL_PRIOR = (50.0, 50.0)  # mean and standard deviation of a: any level from 0 to 100 points
GRID = np.linspace(0.02, 3.5, 30) * SPREAD_SCALE  # midpoints of equal steps of tau and of sigma
N_SAMPLES = 20_000
CENTRE_K = 3
PRIOR_WIDTH = 3.0


@dataclass(frozen=True)
class Prior:
    """Independent normal priors of b, c and d: points per doubling of M, of K, and of both."""

    mean: np.ndarray  # [3]
    sd: np.ndarray  # [3]
    source: str  # in words


@dataclass(frozen=True)
class PilotCells:
    """Evaluated cells: one entry per cell in each array."""

    ranking_lens: np.ndarray  # K [n]
    sizes: np.ndarray  # M [n]
    draws: np.ndarray  # [n], equal for cells of one draw of prompts
    rewards: np.ndarray  # [n], points of 100 x reward


def design(ranking_lens: Sequence[float], sizes: Sequence[float], centre: float) -> np.ndarray:
    """Returns the rows (1, x, z, x z) [n, 4]; `centre` is the log2(M) at which x is 0."""
    x, z = np.log2(sizes) - centre, np.log2(np.asarray(ranking_lens) / CENTRE_K)
    return np.column_stack([np.ones(len(x)), x, z, x * z])


def least_squares(ranking_lens: Sequence[float], sizes: Sequence[float], rewards: Sequence[float]) -> np.ndarray:
    """Returns (a, b, c, d) of a study's settings by ordinary least squares, x being 0 at their mean log2(M)."""
    rows = design(ranking_lens, sizes, float(np.mean(np.log2(sizes))))
    return np.linalg.lstsq(rows, np.asarray(rewards, dtype=float), rcond=None)[0]


def weak_prior(studies: dict[str, np.ndarray]) -> Prior:
    """Returns a prior from the (a, b, c, d) of other studies, by name, of which b, c and d are used.

    The mean is theirs. The standard deviation is PRIOR_WIDTH times their root mean square, so that it covers no effect,
    the opposite one and one of several times the size: another model, pool, reward and annotators may differ that much.
    """
    slopes = np.array(list(studies.values()))[:, 1:]
    return Prior(slopes.mean(axis=0), PRIOR_WIDTH * np.sqrt((slopes**2).mean(axis=0)), ", ".join(studies))


@dataclass(frozen=True)
class Posterior:
    """A mixture of normal distributions of (a, b, c, d), one for each (tau, sigma) of the grid.

    Attributes:
        centre: the log2(M) at which x is 0.
        weights: [g], of the grid's points.
        spreads: [g, 2], their tau and sigma.
        means: [g, 4].
        covariances: [g, 4, 4].
    """

    centre: float
    weights: np.ndarray
    spreads: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def samples(self, seed: int = 0) -> np.ndarray:
        """Returns samples of (a, b, c, d) [N_SAMPLES, 4]."""
        rng = np.random.default_rng(seed)
        which = rng.choice(len(self.weights), N_SAMPLES, p=self.weights)
        return self.means[which] + _normal(self.covariances, which, rng)

    def rewards(self, splits: Sequence[tuple[int, int]], coefficients: np.ndarray) -> np.ndarray:
        """Returns the expected reward over new draws and seeds of each (K, M) [n, splits] for each row [n, 4]."""
        return coefficients @ design(*zip(*splits, strict=True), self.centre).T

    def expected(self, splits: Sequence[tuple[int, int]]) -> np.ndarray:
        """Returns the posterior mean of the reward of each (K, M) [splits]."""
        return self.rewards(splits, self.weights[None, :] @ self.means)[0]


def _normal(covariances: np.ndarray, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a sample [n, 4] of N(0, covariances[i]) for each i in `which` [n]; they may be singular."""
    values, vectors = np.linalg.eigh(covariances)
    roots = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    return np.einsum("nij,nj->ni", roots[which], rng.standard_normal((len(which), covariances.shape[1])))


def fit(cells: PilotCells, prior: Prior) -> Posterior:
    """Returns the posterior of the reward's coefficients. Raises ValueError without cells."""
    if not len(cells.rewards):
        raise ValueError("no cells to fit")
    centre = float(np.mean(np.log2(cells.sizes)))
    rows = design(cells.ranking_lens, cells.sizes, centre)
    mean, precision = np.append(LEVEL_PRIOR[0], prior.mean), np.diag(np.append(LEVEL_PRIOR[1], prior.sd) ** -2.0)
    tau, sigma = (one.ravel() for one in np.meshgrid(GRID, GRID, indexing="ij"))
    noise = _noise(cells.draws, tau, sigma)
    weighed = np.linalg.solve(noise, np.broadcast_to(rows, (len(tau), *rows.shape)))  # [g, n, 4]
    posterior = precision + rows.T @ weighed
    covariances = np.linalg.inv(posterior)
    means = np.einsum("gij,gj->gi", covariances, precision @ mean + np.einsum("gni,n->gi", weighed, cells.rewards))
    residuals, moved = cells.rewards - means @ rows.T, means - mean
    misfit = np.einsum("gn,gn->g", residuals, np.linalg.solve(noise, residuals[..., None])[..., 0])
    misfit += np.einsum("gi,ij,gj->g", moved, precision, moved)
    evidence = -0.5 * (misfit + np.linalg.slogdet(noise)[1] + np.linalg.slogdet(posterior)[1])  # up to a constant
    log_weights = evidence - (tau**2 + sigma**2) / (2 * SPREAD_SCALE**2)
    weights = np.exp(log_weights - log_weights.max())
    return Posterior(centre, weights / weights.sum(), np.column_stack([tau, sigma]), means, covariances)


def _noise(draws: np.ndarray, tau: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Returns the covariance of cells about their expected rewards [g, n, n] for each tau and sigma [g]."""
    together = draws[:, None] == draws[None, :]
    return tau[:, None, None] ** 2 * together + sigma[:, None, None] ** 2 * np.eye(len(draws))


@dataclass(frozen=True)
class SplitOutlook:
    """What the posterior says of one split: points of 100 x reward."""

    reward: float  # expected, over new draws and seeds
    low: float  # 95% credible interval of that expectation
    high: float
    p_best: float  # probability that no other split of the budget is better
    regret: float  # expected loss against the best split, which is not known


def outlooks(posterior: Posterior, splits: Sequence[tuple[int, int]], seed: int = 0) -> list[SplitOutlook]:
    """Returns the outlook of each (K, M)."""
    rewards = posterior.rewards(splits, posterior.samples(seed))
    best = rewards.argmax(axis=1)
    lost = rewards.max(axis=1, keepdims=True) - rewards
    low, high = np.quantile(rewards, [0.025, 0.975], axis=0)
    return [
        SplitOutlook(float(one.mean()), *map(float, (low[i], high[i], (best == i).mean(), lost[:, i].mean())))
        for i, one in enumerate(rewards.T)
    ]


def expected_gain(
    posterior: Posterior,
    now: Sequence[tuple[int, int]],
    later: Sequence[tuple[int, int]],
    stage: Sequence[tuple[int, int, int]],
    seed: int = 0,
) -> float:
    """Returns the expected gain, in points, of one more pilot stage over deciding now; negative where it costs more.

    E[max over `later` of the mean that the stage's cells would leave] - max over `now` of today's mean: the expected
    value of sample information (Raiffa and Schlaifer, Applied Statistical Decision Theory, 1961) at the prices. What
    the stage would teach about tau and sigma is not counted.

    Args:
        posterior: the fit to the cells there are.
        now: the splits (K, M) that can be paid for today.
        later: those that can be paid for after the stage, whose labels are all at the largest K.
        stage: its cells (K, M, draw); the draws are new.
        seed: of the Monte Carlo estimate, whose standard error is below 0.1 points.
    """
    ranking_lens, sizes, draws = map(np.array, zip(*stage, strict=True))
    rows = design(ranking_lens, sizes, posterior.centre)
    across = posterior.covariances @ rows.T  # [g, 4, n]
    seen = rows @ across + _noise(draws, *posterior.spreads.T)
    learnt = across @ np.linalg.solve(seen, across.transpose(0, 2, 1))  # the variance that the stage removes
    rng = np.random.default_rng(seed)
    moves = _normal(learnt, rng.choice(len(learnt), N_SAMPLES, p=posterior.weights), rng)
    after = posterior.rewards(later, moves - moves.mean(axis=0)) + posterior.expected(later)
    return float(after.max(axis=1).mean() - posterior.expected(now).max())
