"""Lines of mean reward on D, on M and on log M, one per algorithm and K, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval_hh.analysis.results import Results
from eval_hh.analysis.rules import MIN_SIZES, NO_VERDICT, decide_line
from eval_hh.cells import Setting
from eval_hh.estimates import Estimate, Line, bend_p, error_interval, estimate, fit_line, fit_lines

PREDICTORS = ("D", "M", "log M")


@dataclass(frozen=True)
class Fit:
    """A line of reward on one predictor, with bootstrap 95% intervals."""

    line: Line
    slope: Estimate
    intercept: Estimate
    mse: tuple[float, float]  # interval of the in-sample error, see estimates.error_interval
    loo_mse: tuple[float, float]  # nan with fewer than three sizes


@dataclass(frozen=True)
class LineTest:
    """Lines of Global reward of one algorithm and K on D, M and log M, over the same points."""

    algorithm: str
    ranking_len: int
    n_sizes: int
    n_seeds: int
    fits: dict[str, Fit]  # by predictor; empty with fewer than two sizes
    verdict: str  # on the line on D
    reason: str


def line_tests(results: Results) -> list[LineTest]:
    """Returns, for each algorithm and K, the lines of Global reward on D, M and log M over random settings with D."""
    tests = []
    for line, settings in results.lines.items():
        seeds = results.seeds(*settings)
        if len({results.diversity[setting] for setting in settings}) < 2 or not seeds:
            reason = f"{len(settings)} sizes with D and {len(seeds)} seeds common to them"
            tests.append(LineTest(*line, len(settings), len(seeds), {}, NO_VERDICT, reason))
        else:
            tests.append(_line_test(results, settings, seeds))
    return tests


def _line_test(results: Results, settings: Sequence[Setting], seeds: Sequence[int]) -> LineTest:
    means, draws = results.bootstrap("Global").means(settings, seeds)
    sizes = [setting.num_prompts for setting in settings]
    scores = [results.diversity[setting] for setting in settings]
    predictors = dict(zip(PREDICTORS, (scores, sizes, np.log(sizes)), strict=True))
    fits = {name: _fit(fit_line(x, means), fit_lines(x, draws)) for name, x in predictors.items()}
    bend = bend_p(scores, means, draws) if len(sizes) >= MIN_SIZES else 1.0
    verdict, reason = decide_line(len(sizes), len(seeds), fits["D"].slope, fits["D"].line.r2, bend)
    first = settings[0]
    return LineTest(first.algorithm, first.ranking_len, len(sizes), len(seeds), fits, verdict, reason)


def _fit(line: Line, drawn: dict[str, np.ndarray]) -> Fit:
    return Fit(
        line,
        estimate(line.slope, drawn["slope"]),
        estimate(line.intercept, drawn["intercept"]),
        error_interval(line.mse, drawn["mse"]),
        error_interval(line.loo_mse, drawn["loo_mse"]),
    )
