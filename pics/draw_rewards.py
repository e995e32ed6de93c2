"""Figures of rewards: the panels of the paper's Figure 4, and rewards at equal budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_preprocess.command import InputError
from eval_hh.estimates import Line, average_mse
from eval_hh.markup import REWARD
from pics.figure_data import Facet, Points, scientific
from pics.style import (
    COLOURS,
    GREY,
    MARKERS,
    NAME_SIZE,
    is_narrow,
    legend_entries,
    name_places,
    new_panels,
    share_y,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REWARD_PANELS = {0: ("a", "PRO", "M"), 2: ("c", "PRO", "D"), 3: ("d", "SFT", "D")}  # by position; (b) has no reward


def draw_panels(points: list[Points], path: Path, note: str = "", overlay: Sequence[Points] = ()) -> None:
    """Draws the four panels of the paper's Figure 4.

    Args:
        points: the data to draw.
        path: the file to write.
        note: text below the panels.
        overlay: other points (the paper's), drawn hollow and pale with dotted lines.
    """
    with new_panels(path, 4, 2, (5, 3.9), note) as (figure, axes):
        share_y([axes[place] for place in REWARD_PANELS])
        for place, (panel, algorithm, predictor) in REWARD_PANELS.items():
            _reward_panel(axes[place], points, panel, algorithm, predictor)
            _overlay(axes[place], overlay, algorithm, predictor)
        _diversity_panel(axes[1], points)
        handles = dict(zip(*reversed(legend_entries(axes)), strict=True))
        # With an overlay, one legend column is ours and one the paper's.
        labels = sorted(handles, key=lambda label: (label.endswith("paper"), label))
        columns = 2 if overlay or is_narrow(path) else 3
        entries = [handles[label] for label in labels]
        figure.legend(entries, labels, loc="outside upper center", ncols=columns, handletextpad=0.3)


def _reward_panel(axes: Axes, points: list[Points], panel: str, algorithm: str, predictor: str) -> None:
    lines, points = [], [one for one in points if one.algorithm == algorithm]
    for one in points:
        x = np.array(one.predictor(predictor), dtype=float)
        has_bars = any(one.error)
        # Offset by K, so that the error bars of one size do not overlap.
        aside = 0.011 * (one.ranking_len - 3) * np.ptp(x) if has_bars else 0.0
        axes.errorbar(
            x + aside, 100 * np.array(one.reward), yerr=100 * np.array(one.error) if has_bars else None,
            fmt=MARKERS[one.ranking_len], color=COLOURS[one.ranking_len], capsize=2.5, markersize=5, elinewidth=1,
            label=f"K = {one.ranking_len} responses",
        )  # fmt: skip
        line = one.line(predictor)
        if line:
            _draw_line(axes, line, x, color=COLOURS[one.ranking_len], linewidth=1.3, alpha=0.8)
            lines.append(line)
    if not axes.has_data():
        axes.text(0.5, 0.5, "no results", ha="center", transform=axes.transAxes, color=GREY)
    # On its own line, so that the title fits a narrow figure.
    fitted = f"\nMSE of the lines {scientific(average_mse(lines))}" if lines else ""
    title = f"({panel}) {algorithm}: reward against {predictor}{fitted}"
    axes.set_ylabel("mean reward × 100 (Global)")
    _name_x(axes, predictor)
    sizes = {f"M = {size:,}": score for one in points for size, score in zip(one.sizes, one.diversity, strict=True)}
    if predictor == "D" and sizes:
        name_places(axes, sizes, title)
    else:
        axes.set_title(title, loc="left")


def _overlay(axes: Axes, points: Sequence[Points], algorithm: str, predictor: str) -> None:
    for one in (one for one in points if one.algorithm == algorithm):
        x, style = one.predictor(predictor), {"color": COLOURS[one.ranking_len], "alpha": 0.45}
        marker, label = MARKERS[one.ranking_len], f"K = {one.ranking_len}, paper"
        axes.plot(x, 100 * np.array(one.reward), marker, markerfacecolor="none", label=label, **style)
        _draw_line(axes, one.line(predictor), x, linestyle=":", linewidth=1.2, **style)


def _draw_line(axes: Axes, line: Line, x: Sequence[float], **style: object) -> None:
    ends = np.array([min(x), max(x)])
    axes.plot(ends, 100 * (line.slope * ends + line.intercept), **style)


def _diversity_panel(axes: Axes, points: list[Points]) -> None:
    # Subsets of one size hold the same prompts for every K and algorithm, so their points coincide.
    pairs = sorted({pair for one in points for pair in zip(one.sizes, one.diversity, strict=True)})
    if pairs:
        axes.plot(*zip(*pairs, strict=True), color=GREY, marker="D", markersize=5, linewidth=1)
    axes.set_title("(b) prompt diversity against M", loc="left")
    axes.set_ylabel("prompt diversity D")
    _name_x(axes, "M")


def _name_x(axes: Axes, predictor: str) -> None:
    from matplotlib.ticker import StrMethodFormatter

    if predictor == "M":
        axes.set_xlabel("prompts M")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_xlim(left=0)
    else:
        axes.set_xlabel("prompt diversity D")


def draw_budgets(facets: list[Facet], path: Path, note: str = "") -> None:
    """Draws the rewards of the equal-budget cells as points with error bars, one panel per facet.

    Raises InputError without facets.
    """
    if not facets:
        raise InputError("no equal budget in these results: the sizes N, 2N/3 and N/2 are needed")
    # Facets are sorted by algorithm, then budget; with several budgets, each has a column.
    columns = len(facets) if len(facets) <= 2 else len(facets) // 2
    with new_panels(path, len(facets), columns, (5, 4), note) as (_, panels):
        share_y(panels)
        for panel, facet in zip(panels, facets, strict=True):
            _budget_panel(panel, facet)


def _budget_panel(axes: Axes, facet: Facet) -> None:
    labelled = set()
    for place, shapes in enumerate(facet.entries.values()):
        for (ranking_len, size), (value, error) in shapes.items():
            x, label = place + 0.3 * (ranking_len - 3), f"K = {ranking_len}, M = {size:,}"
            axes.errorbar(
                x, value, yerr=error, fmt=MARKERS[ranking_len], color=COLOURS[ranking_len], capsize=3, markersize=7,
                label=label if label not in labelled else None,
            )  # fmt: skip
            top = (x, value + error)
            axes.annotate(f"{value:{REWARD}}", top, (0, 4), textcoords="offset points", ha="center", fontsize=NAME_SIZE)
            labelled.add(label)
    axes.set_xticks(range(len(facet.entries)), facet.entries)
    axes.set_ylabel("mean reward × 100")
    axes.grid(axis="x", visible=False)
    axes.margins(x=0.12, y=0.15)
    axes.set_title(facet.title, loc="left")
    spacing = {"handletextpad": 0.1, "columnspacing": 0.8}
    axes.legend(fontsize=NAME_SIZE, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1), **spacing)
