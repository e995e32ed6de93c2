"""The chart of a budget plan: predicted reward against budget, for each number of responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pics.style import COLOURS, MARKERS, new_figure


@dataclass(frozen=True)
class Curve:
    """Predicted rewards (0 to 1) of one K at increasing budgets; nan where there is no prediction."""

    ranking_len: int
    budgets: Sequence[float]
    rewards: Sequence[float]
    inside: Sequence[bool]  # whether D is in the fitted range


@dataclass(frozen=True)
class Mark:
    """One K's split of the plan: its cost, and the predicted reward (0 to 1) with its interval."""

    ranking_len: int
    cost: float
    reward: float
    low: float
    high: float


def draw_plan(curves: Sequence[Curve], marks: Sequence[Mark], unit: str, note: str, path: Path) -> None:
    """Draws the curves, dotted where extrapolated, with the plan's splits as marks, as a PNG at `path`.

    Args:
        curves: one per K.
        marks: at most one per K; shifted sideways in case they cost the same.
        unit: of the budget, on the axis.
        note: text below the chart.
        path: of the PNG.
    """
    from matplotlib.ticker import StrMethodFormatter

    with new_figure(path, (7, 4.6), note) as figure:
        axes = figure.subplots()
        for curve in curves:
            rewards, inside = 100 * np.array(curve.rewards), np.array(curve.inside)
            colour, label = COLOURS[curve.ranking_len], f"K = {curve.ranking_len} responses"
            axes.plot(curve.budgets, np.where(inside, rewards, np.nan), color=colour, linewidth=1.6, label=label)
            axes.plot(curve.budgets, np.where(inside, np.nan, rewards), ":", color=colour, linewidth=1.3)
        aside = 0.008 * max((budget for curve in curves for budget in curve.budgets), default=0.0)
        for mark in marks:
            bars = 100 * np.array([[mark.reward - mark.low], [mark.high - mark.reward]])
            axes.errorbar(
                mark.cost + aside * (mark.ranking_len - 3), 100 * mark.reward, yerr=bars, capsize=3, markersize=7,
                fmt=MARKERS[mark.ranking_len], color=COLOURS[mark.ranking_len],
            )  # fmt: skip
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_xlabel(f"budget ({unit})")
        axes.set_ylabel("predicted reward × 100")
        axes.legend()
