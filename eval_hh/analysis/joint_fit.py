"""Do measures of diversity predict reward beyond the numbers of prompts and responses?

For each algorithm, reward is regressed on one measure, log M and a level for each K, over random subsets and subsets
selected for low and high D, each replicate with its own values. At one M a measure differs between draws and between
selections: only this can tell it from log M.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eval_hh.analysis.chosen_prompts import HIGH_D, LOW_D
from eval_hh.analysis.results import Results
from eval_hh.cells import Setting
from eval_hh.estimates import Contrast, cluster_coefficients, holm

# From a cell's diversity record. The responses are those that the run trains on: all K for PRO, the best for SFT.
MEASURES: dict[str, Callable[[dict[str, Any]], float]] = {
    "D of prompts": lambda record: record["score"],
    "distinct-2 of prompts": lambda record: record["unique"] / record["total"],
    "D of responses": lambda record: record["responses"]["score"],
    "distinct-2 of responses": lambda record: record["responses"]["unique"] / record["responses"]["total"],
}


@dataclass(frozen=True)
class JointFit:
    """The coefficient of one measure, standardised: reward per standard deviation of the measure."""

    algorithm: str
    measure: str
    n_cells: int
    coefficient: Contrast
    holm_p: float  # Holm-corrected over all fits


def joint_fits(results: Results) -> list[JointFit]:
    """Returns a fit for each algorithm and measure that the cells have and that is not a function of K and log M."""
    fits = []
    for algorithm in results.values_of("algorithm"):
        settings = [
            setting
            for setting in results.diversity
            if setting.algorithm == algorithm
            and (setting in results.random or setting.selection.startswith((LOW_D, HIGH_D)))
        ]
        for measure in MEASURES:
            fit = _fit(results, settings, measure)
            fits += [fit] * (fit is not None)
    corrected = holm([fit.coefficient.p for fit in fits])
    return [replace(fit, holm_p=p) for fit, p in zip(fits, corrected, strict=True)]


def _fit(results: Results, settings: list[Setting], measure: str) -> JointFit | None:
    rows = []
    for setting in settings:
        units = results.units(setting)
        if units.one_draw:
            return None
        rewards = results.mean_rewards(setting, units)
        for group, record, reward in zip(units.groups, results.records(setting, units), rewards, strict=True):
            if "responses" in measure and "responses" not in record:
                return None
            value = MEASURES[measure](record)
            rows.append((group[0].draw, setting.ranking_len, np.log(setting.num_prompts), value, reward))
    if not rows:
        return None
    draws, ranking_lens, log_sizes, values, rewards = map(np.array, zip(*rows, strict=True))
    if not values.std():
        return None
    levels = [ranking_lens == k for k in np.unique(ranking_lens)]
    design = np.column_stack([(values - values.mean()) / values.std(), log_sizes, *levels])
    try:
        coefficient = cluster_coefficients(design, rewards, draws)[0]
    except ValueError:  # too few draws, or the measure is a function of K and log M
        return None
    return JointFit(settings[0].algorithm, measure, len(rows), coefficient, coefficient.p)
