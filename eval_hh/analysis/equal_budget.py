"""The paper's claims tested on cells: equal-budget pairs and lines of reward on D.

Every interval and p of a pool comes from one bootstrap of its test prompts (PoolBootstrap), so that the pairs
and lines of a report are consistent with one another. Only randomly chosen subsets take part; those chosen by their
diversity are the business of eval_hh/analysis/d_at_fixed_size.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_preprocess.command import InputError
from data_preprocess.subsets import RANDOM
from eval_hh.analysis.rules import MIN_SIZES, NO_VERDICT, decide_line, decide_pair
from eval_hh.cells import POOLS, describe, pooled
from eval_hh.estimates import (
    Estimate,
    Line,
    bend_p,
    budgets,
    error_interval,
    estimate,
    fit_line,
    fit_lines,
    holm,
    row_draws,
    seed_weights,
)

# Equal-budget pairs as K of (more responses, more prompts); the first decides the paper's claim.
PAIRS = ((4, 2), (3, 2), (4, 3))
PREDICTORS = ("D", "M", "log M")
Setting = tuple[str, int, int]  # (algorithm, ranking_len K, num_prompts M)


@dataclass(frozen=True)
class Comparison:
    """One equal-budget pair of an algorithm in a pool; `difference` is more responses minus more prompts."""

    algorithm: str
    pool: str
    more_responses: tuple[int, int]  # (K, M)
    more_prompts: tuple[int, int]
    n_seeds: int
    difference: Estimate
    holm_p: float
    verdict: str


@dataclass(frozen=True)
class Fit:
    """A line of reward on one predictor with bootstrap 95% intervals."""

    line: Line
    slope: Estimate
    intercept: Estimate
    mse: tuple[float, float]  # interval of the in-sample error, see law.error_interval
    loo_mse: tuple[float, float]  # nan below three sizes


@dataclass(frozen=True)
class LineTest:
    """Global reward of one algorithm and K on D, on M and on log M, over the same points."""

    algorithm: str
    ranking_len: int
    n_sizes: int
    n_seeds: int
    fits: dict[str, Fit]  # by predictor; empty below two sizes
    verdict: str  # on the line on D
    reason: str


def grid(cells: list[dict]) -> dict[Setting, dict[int, dict]]:
    """The randomly chosen cells as {(algorithm, K, M): {seed: cell}}.

    Raises InputError where cells of two worlds are mixed or one cell is there twice.
    """
    worlds = sorted({str(cell["world"]) for cell in cells})
    if len(worlds) > 1:
        raise InputError(f"the result files come from {len(worlds)} different worlds: {', '.join(worlds)}")
    found: dict[Setting, dict[int, dict]] = {}
    for cell in cells:
        if cell["selection"] == RANDOM:
            setting = (cell["algorithm"], cell["ranking_len"], cell["num_prompts"])
            if found.setdefault(setting, {}).setdefault(cell["seed"], cell) is not cell:
                raise InputError(f"a cell is there twice: {describe(cell)}")
    return dict(sorted(found.items()))


def diversity_of(cells: list[dict]) -> tuple[dict[Setting, float], list[str]]:
    """D by setting, and a warning for every setting left out of the fits on D.

    Left out is a setting without D, with different D under different seeds, or with D counted by another
    tokenizer than most.
    """
    settings = grid(cells)
    counted = [cell["diversity"] for cell in cells if cell["diversity"] is not None]
    tokenizer = Counter(record["tokenizer"] for record in counted).most_common(1)[0][0] if counted else None
    scores, warnings = {}, []
    for (algorithm, ranking_len, num_prompts), seeds in settings.items():
        records = [cell["diversity"] for cell in seeds.values()]
        if None in records:
            why = "no D recorded"
        elif {record["tokenizer"] for record in records} != {tokenizer}:
            why = f"D counted by another tokenizer than {tokenizer}"
        elif len({record["score"] for record in records}) > 1:
            why = "D differs between seeds"
        else:
            scores[algorithm, ranking_len, num_prompts] = records[0]["score"]
            continue
        warnings.append(f"{algorithm} K={ranking_len} M={num_prompts}: {why}, left out of the fits on D")
    return scores, warnings


class PoolBootstrap:
    """Mean rewards of every cell in a pool and their joint bootstrap over the pool's test prompts.

    Args:
        settings: the cells as {setting: {seed: cell}}, as `grid` gives them.
        pool: of test files, a name in POOLS.
    """

    def __init__(self, settings: dict[tuple, dict[int, dict]], pool: str) -> None:
        self.settings = settings
        members = [(setting, seed, cell) for setting, seeds in settings.items() for seed, cell in seeds.items()]
        rewards = [pooled(cell, pool) for _, _, cell in members]
        if len({len(row) for row in rewards}) > 1:
            raise InputError(f"{pool}: the cells were not scored on the same test rows")
        stacked = np.stack(rewards)
        self._column = {(setting, seed): index for index, (setting, seed, _) in enumerate(members)}
        self._means = stacked.mean(axis=1)
        self._draws = row_draws(stacked)

    def common_seeds(self, settings: Sequence[tuple]) -> list[int]:
        """Seeds that every one of the settings was run with."""
        return sorted(set.intersection(*(set(self.settings[setting]) for setting in settings)))

    def means(self, settings: Sequence[tuple], seeds: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Mean rewards [settings] over the seeds, and their draws [n_draws, settings]."""
        columns = np.array([[self._column[setting, seed] for seed in seeds] for setting in settings])
        weights = seed_weights(len(seeds), len(self._draws))
        draws = (self._draws[:, columns] * weights[:, None, :]).sum(axis=2)
        return self._means[columns].mean(axis=1), draws


def comparisons(cells: list[dict], bootstraps: dict[str, PoolBootstrap] | None = None) -> list[Comparison]:
    """Every equal-budget pair in the cells, for each algorithm and pool, Holm-corrected over all of them.

    `bootstraps` are the pools where they have been drawn already. A pair without a common seed is left out.
    """
    settings = grid(cells)
    if not settings:
        return []
    bootstraps = bootstraps or {pool: PoolBootstrap(settings, pool) for pool in POOLS}
    found = []
    for algorithm in sorted({setting[0] for setting in settings}):
        for pool, bootstrap in bootstraps.items():
            for budget in budgets({setting[2] for setting in settings}):
                for more, fewer in PAIRS:
                    pair = [(algorithm, more, budget[more]), (algorithm, fewer, budget[fewer])]
                    seeds = bootstrap.common_seeds(pair) if all(one in settings for one in pair) else []
                    if seeds:
                        found.append(_compare(bootstrap, pool, pair, seeds))
    corrected = holm([comparison.difference.p for comparison in found])
    return [
        replace(one, holm_p=p, verdict=decide_pair(one.difference, p, one.n_seeds))
        for one, p in zip(found, corrected, strict=True)
    ]


def _compare(bootstrap: PoolBootstrap, pool: str, pair: list[Setting], seeds: list[int]) -> Comparison:
    means, draws = bootstrap.means(pair, seeds)
    difference = estimate(means[0] - means[1], draws[:, 0] - draws[:, 1])
    return Comparison(
        algorithm=pair[0][0],
        pool=pool,
        more_responses=pair[0][1:],
        more_prompts=pair[1][1:],
        n_seeds=len(seeds),
        difference=difference,
        holm_p=difference.p,
        verdict=NO_VERDICT,
    )


def line_tests(cells: list[dict], bootstrap: PoolBootstrap | None = None) -> list[LineTest]:
    """For each algorithm and K, the lines of Global reward on D, M and log M over settings that have D."""
    scores, _ = diversity_of(cells)
    if scores and bootstrap is None:
        bootstrap = PoolBootstrap(grid(cells), "Global")
    tests = []
    for algorithm, ranking_len in sorted({setting[:2] for setting in grid(cells)}):
        settings = [setting for setting in scores if setting[:2] == (algorithm, ranking_len)]
        seeds = bootstrap.common_seeds(settings) if settings else []
        if len({scores[setting] for setting in settings}) < 2 or not seeds:
            reason = f"{len(settings)} sizes with D and {len(seeds)} seeds common to them"
            tests.append(LineTest(algorithm, ranking_len, len(settings), len(seeds), {}, NO_VERDICT, reason))
            continue
        tests.append(_line_test(bootstrap, settings, [scores[setting] for setting in settings], seeds))
    return tests


def _line_test(
    bootstrap: PoolBootstrap, settings: list[Setting], scores: list[float], seeds: list[int]
) -> LineTest:
    means, draws = bootstrap.means(settings, seeds)
    sizes = [setting[2] for setting in settings]
    predictors = dict(zip(PREDICTORS, (scores, sizes, np.log(sizes)), strict=True))
    drawn = {name: fit_lines(x, draws) for name, x in predictors.items()}
    fits = {name: _fit(fit_line(x, means), drawn[name]) for name, x in predictors.items()}
    bend = bend_p(scores, means, draws) if len(sizes) >= MIN_SIZES else 1.0
    verdict, reason = decide_line(len(sizes), len(seeds), fits["D"].slope, fits["D"].line.r2, bend)
    algorithm, ranking_len = settings[0][:2]
    return LineTest(algorithm, ranking_len, len(sizes), len(seeds), fits, verdict, reason)


def _fit(line: Line, drawn: dict[str, np.ndarray]) -> Fit:
    return Fit(
        line,
        estimate(line.slope, drawn["slope"]),
        estimate(line.intercept, drawn["intercept"]),
        error_interval(line.mse, drawn["mse"]),
        error_interval(line.loo_mse, drawn["loo_mse"]),
    )
