"""Is mean reward linear in prompt diversity D (claim 2)? Lines on D, M and log M over the sizes, and rival curves.

Replicates supply the pure error: a replicate's rewards at all sizes are one vector, and every statement is about linear
functions of these vectors, tested over replicates. Nothing is assumed about how the nested sizes of a draw depend on
each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval_hh.analysis.contrasts import effect_of
from eval_hh.analysis.results import Results
from eval_hh.analysis.rules import MARGIN, NO_VERDICT, decide_line
from eval_hh.cells import Setting
from eval_hh.estimates import Contrast, Line, fit_line, lack_of_fit

PREDICTORS = ("D", "M", "log M")
MIN_SIZES = 3
SATURATION = 3.0  # the saturating curve 1 - exp(-3 u), u from 0 to 1 over the range of D, ends 5% below its limit


@dataclass(frozen=True)
class Fit:
    """A line of mean reward on one predictor, over the sizes."""

    line: Line
    slope: Contrast  # of the line, over replicates
    deviation: float  # p of lack of fit (estimates.lack_of_fit); nan with too few sizes or replicates


@dataclass(frozen=True)
class LineTest:
    """Lines of Global reward of one algorithm and K, or averaged over several, over the same points."""

    name: str  # "PRO K=2", or what was averaged
    scores: tuple[float, ...]  # D of each size, the mean over replicates
    n_units: int
    one_draw: bool
    fits: dict[str, Fit]  # by predictor; empty with fewer than two sizes
    rivals: dict[str, Contrast]  # for each rival curve, the line's excess over it; empty with fewer than three sizes
    n_left_out: int = 0  # replicates that only some of the settings have

    def judge(self, margin: float = MARGIN) -> tuple[str, str]:
        """Returns the word on "reward is linear in D", and the reason (rules.decide_line)."""
        if self.one_draw or not self.fits:
            return NO_VERDICT, ""
        rise = max(self.scores) - min(self.scores)
        return decide_line(self.fits["D"].slope, rise, self.fits["D"].deviation, self.rivals, margin)


def rival_curves(scores: Sequence[float], sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns curves [sizes] that rise with D but are no line on it: log M, saturation and a step at half the range."""
    scores = np.asarray(scores, dtype=float)
    share = (scores - scores.min()) / np.ptp(scores)
    return {
        "log M": np.log(sizes),
        "saturation": 1 - np.exp(-SATURATION * share),
        "step": np.where(share > 0.5, 1.0, 0.0),
    }


def slope_weights(x: Sequence[float]) -> np.ndarray:
    """Returns the weights [n] with which values at x [n] give the least-squares slope."""
    centred = np.asarray(x, dtype=float) - np.mean(x)
    return centred / (centred**2).sum()


def excess(scores: Sequence[float], curve: np.ndarray) -> np.ndarray:
    """Returns weights [n] of the line's excess over a rival curve; zeros if the curve is itself a line on D.

    Scale the curve so that its least-squares slope on D is 1, and call what remains of it off the line its bend. The
    excess is the values' slope minus their projection on the bend, in units of the slope: it is the slope if the values
    lie on a line, and zero if they lie on the rival curve, whatever its rise.
    """
    slope = slope_weights(scores)
    scaled = curve / (slope @ curve)
    centred = np.asarray(scores, dtype=float) - np.mean(scores)
    bend = scaled - scaled.mean() - centred
    size = bend @ bend
    return slope - bend / size if size > 1e-9 * (centred @ centred) else np.zeros(len(scores))


def fit_lines(
    name: str, scores: Sequence[float], sizes: Sequence[int], rewards: np.ndarray, one_draw: bool
) -> LineTest:
    """Fits rewards [units, sizes] on D (`scores`, one per size), on M and on log M, and compares rival curves."""
    predictors = dict(zip(PREDICTORS, (scores, sizes, np.log(sizes)), strict=True))
    enough = len(sizes) >= MIN_SIZES
    fits = {
        of: Fit(
            fit_line(x, rewards.mean(axis=0)),
            effect_of(rewards @ slope_weights(x)),
            lack_of_fit(x, rewards) if enough else float("nan"),
        )
        for of, x in predictors.items()
    }
    curves = rival_curves(scores, sizes) if enough else {}
    rivals = {of: effect_of(rewards @ excess(scores, curve)) for of, curve in curves.items()}
    return LineTest(name, tuple(scores), len(rewards), one_draw, fits, rivals)


def line_tests(results: Results) -> list[LineTest]:
    """Returns, for each algorithm and K, the lines of Global reward over its random settings with D."""
    return [_test_of(results, f"{algorithm} K={k}", [line]) for (algorithm, k), line in results.lines.items()]


def mean_line_test(results: Results) -> LineTest | None:
    """Returns the test of claim 2: rewards averaged over algorithms and K, on the sizes that all of them have."""
    lines = [line for line in results.lines.values() if line]
    sizes = set.intersection(*({one.num_prompts for one in line} for line in lines)) if lines else set()
    if len(sizes) < 2:
        return None
    common = [[one for one in line if one.num_prompts in sizes] for line in lines]
    return _test_of(results, "the mean over algorithms and K", common)


def _test_of(results: Results, name: str, lines: Sequence[Sequence[Setting]]) -> LineTest:
    settings = [one for line in lines for one in line]
    units = results.units(*settings)
    sizes = [one.num_prompts for one in lines[0]]
    scores = [[[one["score"] for one in results.records(setting, units)] for setting in line] for line in lines]
    mean_scores = np.mean(scores, axis=(0, 2)).tolist() if units and sizes else []
    if len(set(mean_scores)) < 2:
        return LineTest(name, tuple(mean_scores), len(units), True, {}, {})
    rewards = np.mean([[results.mean_rewards(one, units) for one in line] for line in lines], axis=0).T
    return replace(
        fit_lines(name, mean_scores, sizes, rewards, units.one_draw), n_left_out=results.n_left_out(*settings)
    )
