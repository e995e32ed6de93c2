"""The experiment missing from the paper: subsets of one size selected for low, random and high D.

In the paper's subsets D is a function of M, so a line on D cannot be distinguished from one on log M. Here some cells
are trained on prompts selected for low or high D, equal in number and in average length to the random ones
(data_preprocess/selection.py), to test whether reward follows D. The subsets are drawn once and not matched by kind of
prompt, so a difference may have causes other than D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_preprocess.subsets import RANDOM
from eval_hh.analysis.contrasts import Choice, choice_of
from eval_hh.analysis.results import Results
from eval_hh.cells import Setting
from eval_hh.estimates import Estimate, coefficient_draws, estimate, fit_line, holm_corrected

# Selections of data_preprocess/selection.py by increasing D, matched in average prompt length.
CONTROL, TREATED = "low_d_matched", "max_d_matched"
SELECTIONS = (CONTROL, RANDOM, TREATED)


@dataclass(frozen=True)
class FixedSizeTest:
    """Low, random and high D at one M, for one algorithm and K; rewards of the Global pool."""

    algorithm: str
    ranking_len: int
    num_prompts: int
    n_seeds: int
    choices: tuple[Choice, ...]  # low, random, high
    difference: Estimate  # reward at high D minus at low D
    expected: float  # that difference as the random subsets' line on D predicts it; nan with fewer than two sizes
    extrapolated: bool  # whether low or high D is outside that line's fitted range
    beyond_size: Estimate | None  # D's coefficient in the fit on log M and D over all subsets; None if not identifiable
    holm_p: float  # p of `difference`, Holm-corrected over all tests


def fixed_size_tests(results: Results) -> list[FixedSizeTest]:
    """Returns a test for each algorithm, K and M at which low, random and high D have D and a common seed."""
    tests = []
    for treated in (setting for setting in results.settings if setting.selection == TREATED):
        settings = [replace(treated, selection=selection) for selection in SELECTIONS]
        seeds = results.seeds(*settings)
        if seeds and all(setting in results.diversity for setting in settings):
            tests.append(_test(results, settings, seeds))
    return holm_corrected(tests)


def _test(results: Results, settings: Sequence[Setting], seeds: Sequence[int]) -> FixedSizeTest:
    low, _, high = settings
    difference = results.bootstrap("Global").difference(high, low, seeds)
    choices = tuple(choice_of(results, setting, seeds) for setting in settings)
    slope, fitted_on, beyond = _lines(results, high, seeds)
    return FixedSizeTest(
        high.algorithm,
        high.ranking_len,
        high.num_prompts,
        n_seeds=len(seeds),
        choices=choices,
        difference=difference,
        expected=slope * (choices[2].diversity - choices[0].diversity),
        extrapolated=not all(min(fitted_on) <= choice.diversity <= max(fitted_on) for choice in choices),
        beyond_size=beyond,
        holm_p=difference.p,
    )


def _lines(results: Results, one: Setting, seeds: Sequence[int]) -> tuple[float, list[float], Estimate | None]:
    """Returns the random subsets' slope on D, the D that it was fitted on, and the coefficient of D beside log M."""
    line = [
        setting
        for setting in results.settings
        if (setting.algorithm, setting.ranking_len) == (one.algorithm, one.ranking_len)
        and setting.selection in SELECTIONS
        and setting in results.diversity
        and set(seeds) <= set(results.seeds(setting))
    ]
    random = [setting for setting in line if setting.selection == RANDOM]
    scores = [results.diversity[setting] for setting in random]
    if len(set(scores)) < 2:
        return float("nan"), scores, None
    bootstrap = results.bootstrap("Global")
    slope = fit_line(scores, bootstrap.means(random, seeds)[0]).slope
    means, draws = bootstrap.means(line, seeds)
    predictors = [np.log([setting.num_prompts for setting in line]), [results.diversity[setting] for setting in line]]
    try:
        value = coefficient_draws(predictors, means[None])[0, 1]
    except ValueError:  # D and log M are collinear
        return slope, scores, None
    return slope, scores, estimate(value, coefficient_draws(predictors, draws)[:, 1])
