"""Made-up studies whose truth is known, to measure how often the analysis is wrong (eval_hh/calibrate.py).

A simulated cell has one test prompt, whose reward is the cell's true mean plus the errors of its draw and of its
training seed. Everything after that is the code that analyses real cells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from data_preprocess.ranking import SEED
from data_preprocess.subsets import AUGMENT_DIVERSE, AUGMENT_RANDOM
from eval_hh.analysis.chosen_prompts import HIGH_D, LOW_D
from eval_hh.analysis.equal_budget import RANKING_LENS
from eval_hh.analysis.lines_on_d import excess, rival_curves
from eval_hh.analysis.results import Results
from eval_hh.cells import ALGORITHMS, Replicate, Setting
from eval_hh.estimates import budgets, replicates_for

ALL_K, CHOSEN_K = (2, 3, 4), (2, 4)
LINEAR = "linear in D"
SHARED = 0.5  # share of a draw's variance that all cells of one size have in common; the rest is each cell's own


@dataclass(frozen=True)
class Truth:
    """What is true in a simulated study; rewards from 0 to 1."""

    effect: float  # of claims 1, 3 and 4
    curve: str = LINEAR  # of mean reward over the sizes: LINEAR, or a name of lines_on_d.rival_curves
    rise: float = 0.15  # of that curve from the smallest to the largest size


@dataclass(frozen=True)
class Design:
    """What a simulated study runs, and how its errors are drawn; standard deviations of a cell's mean reward."""

    sizes: tuple[int, ...]
    scores: tuple[float, ...]  # D of each size
    seed_sd: float  # of training seeds
    draw_sd: float  # of draws of the subset
    residuals: tuple[float, ...] = ()  # standardised errors to draw from; empty: the normal distribution

    @cached_property
    def settings(self) -> list[Setting]:
        """All cells of a replicate: the grid of random subsets, and the two sets of claims 3 and of 4."""
        chosen = (LOW_D, HIGH_D, AUGMENT_RANDOM, AUGMENT_DIVERSE)
        grid = [Setting(a, k, size) for a in ALGORITHMS for k in ALL_K for size in self.sizes]
        return grid + [Setting(a, k, self.sizes[0], name) for a in ALGORITHMS for k in CHOSEN_K for name in chosen]

    def means(self, truth: Truth) -> np.ndarray:
        """Returns the true mean reward of each setting [settings]."""
        shapes = {LINEAR: np.asarray(self.scores), **rival_curves(self.scores, self.sizes)}
        curve = shapes[truth.curve]
        height = dict(zip(self.sizes, truth.rise * (curve - curve.min()) / np.ptp(curve), strict=True))
        (more, fewer), budget = RANKING_LENS[0], budgets(self.sizes)[0]
        # More responses raise all sizes alike, so that the equal-budget difference is the effect.
        per_response = (truth.effect + height[budget[fewer]] - height[budget[more]]) / (more - fewer)
        treated = (HIGH_D, AUGMENT_DIVERSE)
        return np.array([
            0.4 + height[one.num_prompts] + per_response * (one.ranking_len - fewer)
            + truth.effect * (one.selection in treated)
            for one in self.settings
        ])  # fmt: skip

    def errors(self, rng: np.random.Generator, n_replicates: int) -> np.ndarray:
        """Returns errors of mean rewards [replicates, settings].

        The draw's error at M prompts is a mean over its M nested prompts, scaled to `draw_sd` at every M: two sizes
        M < N correlate by sqrt(M / N). Half of its variance is shared by all cells of a size.
        """
        columns = {size: index for index, size in enumerate(self.sizes)}
        at = [columns[one.num_prompts] for one in self.settings]
        steps = np.sqrt(np.diff([0, *self.sizes]))
        # One path over the sizes that all cells share (0), and one for each algorithm, K and selection.
        names = {(one.algorithm, one.ranking_len, one.selection): None for one in self.settings}
        line = {name: number for number, name in enumerate(names, start=1)}
        own = [line[one.algorithm, one.ranking_len, one.selection] for one in self.settings]
        shape = (n_replicates, 1 + len(line), len(self.sizes))
        paths = np.cumsum(self._unit(rng, shape) * steps, axis=2) / np.sqrt(self.sizes)
        draw = SHARED**0.5 * paths[:, 0, at] + (1 - SHARED) ** 0.5 * paths[:, own, at]
        return self.draw_sd * draw + self.seed_sd * self._unit(rng, (n_replicates, len(self.settings)))

    def replicates_to_tell(self, slope: float) -> int | None:
        """Returns the fewest replicates that tell a line of this slope on D from every rival curve; None above 1000.

        With 80% power for each curve (estimates.replicates_for), from the spread of the line's excess over it, where
        rewards are averaged over the algorithms and K of the grid.
        """
        sizes, n = np.array(self.sizes, dtype=float), len(ALGORITHMS) * len(ALL_K)
        nested = np.sqrt(np.minimum.outer(sizes, sizes) / np.maximum.outer(sizes, sizes))
        covariance = self.draw_sd**2 * (SHARED + (1 - SHARED) / n) * nested + self.seed_sd**2 / n * np.eye(len(sizes))
        weights = [excess(self.scores, curve) for curve in rival_curves(self.scores, self.sizes).values()]
        if not all(one.any() for one in weights):
            return None
        needed = [replicates_for(slope, float(one @ covariance @ one) ** 0.5) for one in weights]
        return None if None in needed else max(needed)

    def with_larger_size(self, factor: int) -> Design:
        """Returns the design with one more size, `factor` times the largest, and D there by a power law of M."""
        power, constant = np.polyfit(np.log(self.sizes), np.log(self.scores), 1)
        size = factor * max(self.sizes)
        score = float(np.exp(power * np.log(size) + constant))
        return replace(self, sizes=(*self.sizes, size), scores=(*self.scores, score))

    def _unit(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Returns errors of mean 0 and variance 1."""
        return rng.choice(self.residuals, shape) if self.residuals else rng.standard_normal(shape)

    def study(self, truth: Truth, rng: np.random.Generator, n_replicates: int) -> Results:
        """Returns the results of one simulated study."""
        rewards = self.means(truth) + self.errors(rng, n_replicates)
        scores = dict(zip(self.sizes, self.scores, strict=True))
        cells = []
        for column, setting in enumerate(self.settings):
            record = {"score": scores[setting.num_prompts], "total": 1, "samples": 1, "tokenizer": "simulated"}
            for number in range(n_replicates):
                replicate = Replicate(SEED + number, SEED + number)
                cells.append(SimulatedCell(setting, replicate, rewards[number, column], record))
        return Results(cells)


@dataclass(frozen=True)
class SimulatedCell:
    """What the analysis uses of a CellResult."""

    setting: Setting
    replicate: Replicate
    reward: float
    diversity: dict[str, Any]
    world: str = "simulated"
    git: str | None = None
    base_prompts: int = 1

    def values(self, pool: str, field: str = "reward") -> np.ndarray:
        return np.array([self.reward])


def standardised_residuals(results: Results) -> tuple[float, ...]:
    """Returns the deviations of replicates' Global mean rewards from their setting's mean, of all settings, variance 1.

    Each is divided by its expected size, sd sqrt(1 - 1 / R), so that settings of any spread and R count alike.
    """
    found: list[float] = []
    for setting in results.settings:
        units = results.units(setting)
        if len(units) > 2:
            means = results.mean_rewards(setting, units)
            found += ((means - means.mean()) / (1 - 1 / len(units)) ** 0.5).tolist()
    values = np.array(found)
    return tuple(((values - values.mean()) / values.std()).tolist()) if found else ()
