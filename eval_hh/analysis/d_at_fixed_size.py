"""The experiment that the paper leaves out: D varied at one number of prompts, by choosing the prompts.

Library. In the paper's subsets D is a function of M, so that a line on D cannot be told from one on log M. Here some
cells are trained on prompts chosen for a low or a high D, as many and on average as long as the random ones
(data_preprocess/selection.py), and the question is whether reward follows D. The sets are drawn once and not matched by
kind of prompt, so a difference need not come from D.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from data_preprocess.subsets import RANDOM
from eval_hh.analysis.contrasts import Choice, choice_of, varied
from eval_hh.analysis.equal_budget import PoolBootstrap, Setting
from eval_hh.estimates import Estimate, coefficient_draws, estimate, fit_line, holm

# Selections of data_preprocess/selection.py, in the order of their D; chosen prompts are as long as all on average.
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
    expected: float  # that difference by the random subsets' line on D; nan below two sizes
    extrapolated: bool  # whether low or high D lies outside the D that this line was fitted on
    beyond_size: Estimate | None  # D's coefficient beside log M's, over all subsets; None where it cannot be told
    holm_p: float  # of `difference`, over all tests


def fixed_size_tests(cells: list[dict]) -> list[FixedSizeTest]:
    """A test for every algorithm, K and M at which low, random and high D were run with a common seed, and have D."""
    settings = {setting: seeds for setting, seeds in varied(cells).items() if setting[3] in SELECTIONS}
    shapes = [setting[:3] for setting in settings if setting[3] == TREATED]
    shapes = [shape for shape in shapes if (*shape, RANDOM) in settings and (*shape, CONTROL) in settings]
    if not shapes:
        return []
    bootstrap = PoolBootstrap(settings, "Global")
    tests = [_test(bootstrap, shape) for shape in shapes if bootstrap.common_seeds(_at(shape))]
    corrected = holm([one.difference.p for one in tests])
    return [replace(one, holm_p=p) for one, p in zip(tests, corrected, strict=True)]


def _at(shape: Setting) -> list[tuple]:
    return [(*shape, selection) for selection in SELECTIONS]


def _test(bootstrap: PoolBootstrap, shape: Setting) -> FixedSizeTest:
    seeds = bootstrap.common_seeds(_at(shape))
    means, draws = bootstrap.means(_at(shape), seeds)
    choices = tuple(choice_of(bootstrap, setting, seeds) for setting in _at(shape))
    difference = estimate(means[2] - means[0], draws[:, 2] - draws[:, 0])
    slope, fitted_on, beyond = _laws(bootstrap, shape, seeds)
    return FixedSizeTest(
        *shape,
        n_seeds=len(seeds),
        choices=choices,
        difference=difference,
        expected=slope * (choices[2].diversity - choices[0].diversity),
        extrapolated=not all(min(fitted_on) <= choice.diversity <= max(fitted_on) for choice in choices),
        beyond_size=beyond,
        holm_p=difference.p,
    )


def _laws(bootstrap: PoolBootstrap, shape: Setting, seeds: list[int]) -> tuple[float, list[float], Estimate | None]:
    """The random subsets' slope on D and the D's it was fitted on, and D's coefficient beside log M's over all."""
    of_line = [setting for setting in bootstrap.settings if setting[:2] == shape[:2]]
    of_line = [setting for setting in of_line if set(seeds) <= set(bootstrap.settings[setting])]
    random = [setting for setting in of_line if setting[3] == RANDOM]
    scores = [_diversity(bootstrap, setting) for setting in random]
    if len(set(scores)) < 2:
        return float("nan"), scores, None
    means, _ = bootstrap.means(random, seeds)
    slope = fit_line(scores, means).slope
    means, draws = bootstrap.means(of_line, seeds)
    predictors = [np.log([setting[2] for setting in of_line]), [_diversity(bootstrap, one) for one in of_line]]
    try:
        value = coefficient_draws(predictors, means[None])[0, 1]
    except ValueError:  # no D is off the random subsets' line of D on log M
        return slope, scores, None
    return slope, scores, estimate(value, coefficient_draws(predictors, draws)[:, 1])


def _diversity(bootstrap: PoolBootstrap, setting: tuple) -> float:
    return next(iter(bootstrap.settings[setting].values()))["diversity"]["score"]
