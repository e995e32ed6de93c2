"""Drawing of the study's pictures, from points and facets that pics/points.py gathers.

Library. Every picture is a PNG, and the same input gives the same bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_preprocess.command import InputError
from data_preprocess.files import atomic_write
from eval_hh.law import Line, average_mse, fit_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#555555"
# By K, Okabe and Ito's colours, told apart by colour-blind readers, and a marker each for print in grey; the study has
# K = 2, 3, 4, and results of other data may have any.
COLOURS = defaultdict(
    lambda: GREY, {2: "#0072B2", 3: "#E69F00", 4: "#009E73", 5: "#CC79A7", 6: "#D55E00", 7: "#56B4E9"}
)
MARKERS = defaultdict(lambda: "D", {2: "o", 3: "s", 4: "^", 5: "v", 6: "P", 7: "X"})
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.dpi": 150,
    "text.parse_math": False,  # a name with "$" is a name
}


@dataclass(frozen=True)
class Points:
    """Mean rewards (0 to 1) of one algorithm and K over its sizes, with D; error 0 draws no bar."""

    algorithm: str
    ranking_len: int
    sizes: tuple[int, ...]
    diversity: tuple[float, ...]
    reward: tuple[float, ...]
    error: tuple[float, ...]

    def line(self, predictor: str) -> Line | None:
        """The least-squares line of reward on "M" or "D", or None below two sizes."""
        x = self.sizes if predictor == "M" else self.diversity
        return fit_line(x, self.reward) if len(set(x)) > 1 else None


@dataclass(frozen=True)
class Facet:
    """One panel of the equal-budget chart: (value, error) x 100 by pool and shape (K, M)."""

    title: str
    entries: dict[str, dict[tuple[int, int], tuple[float, float]]]


def scientific(value: float) -> str:
    """Two digits, as the paper prints its MSEs: 1.2e-4."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def draw_panels(points: list[Points], path: Path, note: str = "", overlay: Sequence[Points] = ()) -> None:
    """The four panels of the paper's Figure 4 as a PNG at `path`.

    Args:
        points: what is shown.
        path: of the PNG.
        note: stands below the panels.
        overlay: other points, the paper's, shown hollow and light with a dotted line.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(10, 7.4), layout="constrained")
        axes = figure.subplots(2, 2).ravel()
        _reward_panel(axes[0], points, "a", "PRO", "M")
        _diversity_panel(axes[1], points)
        _reward_panel(axes[2], points, "c", "PRO", "D")
        _reward_panel(axes[3], points, "d", "SFT", "D")
        if overlay:
            for panel, algorithm, predictor in ((0, "PRO", "M"), (2, "PRO", "D"), (3, "SFT", "D")):
                _overlay(axes[panel], overlay, algorithm, predictor)
        handles = {
            label: handle
            for panel in axes
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        # With an overlay, one column is ours and one the paper's.
        labels = sorted(handles, key=lambda label: (label.endswith("paper"), label))
        entries = [handles[label] for label in labels]
        figure.legend(entries, labels, loc="outside upper center", ncols=2 if overlay else 3, handletextpad=0.3)
        if note:
            figure.supxlabel(note, fontsize=9, color=GREY)
        save_figure(figure, path)


def _reward_panel(axes: Axes, points: list[Points], panel: str, algorithm: str, predictor: str) -> None:
    lines = []
    for one in (one for one in points if one.algorithm == algorithm):
        x = np.array(one.sizes if predictor == "M" else one.diversity, dtype=float)
        # A small step aside by K keeps the error bars of one size from lying on one another.
        aside = 0.006 * (one.ranking_len - 3) * np.ptp(x) if any(one.error) else 0.0
        colour = COLOURS[one.ranking_len]
        error = 100 * np.array(one.error) if any(one.error) else None
        axes.errorbar(
            x + aside,
            100 * np.array(one.reward),
            yerr=error,
            fmt=MARKERS[one.ranking_len],
            color=colour,
            capsize=2.5,
            markersize=6,
            elinewidth=1,
            label=f"K = {one.ranking_len} responses",
        )
        line = one.line(predictor)
        if line:
            ends = np.array([x.min(), x.max()])
            axes.plot(
                ends, 100 * (line.slope * ends + line.intercept), color=colour, linewidth=1.3, alpha=0.8
            )
            lines.append(line)
    if not axes.has_data():
        axes.text(0.5, 0.5, "no results", ha="center", transform=axes.transAxes, color=GREY)
    fitted = f", MSE of the lines {scientific(average_mse(lines))}" if lines else ""
    axes.set_title(f"({panel}) {algorithm}: reward against {predictor}{fitted}", loc="left")
    axes.set_ylabel("mean reward × 100 (Global)")
    _name_x(axes, predictor)


def _overlay(axes: Axes, points: Sequence[Points], algorithm: str, predictor: str) -> None:
    for one in (one for one in points if one.algorithm == algorithm):
        x = one.sizes if predictor == "M" else one.diversity
        colour, label = COLOURS[one.ranking_len], f"K = {one.ranking_len}, paper"
        marker, reward = MARKERS[one.ranking_len], 100 * np.array(one.reward)
        axes.plot(x, reward, marker, color=colour, markerfacecolor="none", alpha=0.45, label=label)
        ends = np.array([min(x), max(x)])
        line = one.line(predictor)
        axes.plot(ends, 100 * (line.slope * ends + line.intercept), ":", color=colour, linewidth=1.2, alpha=0.45)


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
    """Rewards of the equal-budget cells as dots with intervals, a facet each, as a PNG at `path`."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    if not facets:
        raise InputError("no equal budget in these results: the sizes N, 2N/3 and N/2 are needed")
    with rc_context(STYLE):
        # Facets come by algorithm, then budget: with more than one budget each has a column and its own scale.
        columns = len(facets) if len(facets) <= 2 else len(facets) // 2
        rows = -(-len(facets) // columns)
        figure = Figure(figsize=(5 * columns, 4 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey="col" if rows > 1 else True).ravel()
        for panel, facet in zip(axes, facets, strict=False):
            _budget_panel(panel, facet)
        for panel in axes[::columns]:
            panel.set_ylabel("mean reward × 100")
        for panel in axes[len(facets) :]:
            panel.set_axis_off()
        if note:
            figure.supxlabel(note, fontsize=9, color=GREY)
        save_figure(figure, path)


def _budget_panel(axes: Axes, facet: Facet) -> None:
    labelled = set()
    for place, shapes in enumerate(facet.entries.values()):
        for (ranking_len, size), (value, error) in shapes.items():
            x = place + 0.26 * (ranking_len - 3)
            label = f"K = {ranking_len}, M = {size:,}"
            axes.errorbar(
                x,
                value,
                yerr=error,
                fmt=MARKERS[ranking_len],
                color=COLOURS[ranking_len],
                capsize=3,
                markersize=7,
                label=label if label not in labelled else None,
            )
            axes.annotate(
                f"{value:.1f}",
                (x, value + error),
                (0, 4),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
            labelled.add(label)
    axes.set_xticks(range(len(facet.entries)), facet.entries)
    axes.grid(axis="x", visible=False)
    axes.margins(x=0.12, y=0.15)
    axes.set_title(facet.title, loc="left")
    axes.legend(
        fontsize=9,
        handletextpad=0.2,
        columnspacing=1.2,
        ncols=3,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.1),
    )


def draw_intro(path: Path) -> None:
    """A diagram of one annotation budget spent on more prompts or on more responses, as a PNG at `path`."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(10, 4.9))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 100), ylim=(0, 49))
        axes.set_axis_off()
        axes.text(
            50, 45.2, "One annotation budget: 12 labelled responses", ha="center", fontsize=15, weight="bold"
        )
        for middle, ranking_len, num_prompts, name in (
            (17, 2, 6, "more prompts"),
            (49, 3, 4, "in between"),
            (82, 4, 3, "more responses"),
        ):
            _allocation(axes, middle, ranking_len, num_prompts, name)
        caption = "A square is one labelled response, darker where the annotators rank it higher."
        axes.text(50, 1.6, caption, ha="center", fontsize=10, color=GREY)
        save_figure(figure, path)


def _allocation(axes: Axes, middle: float, ranking_len: int, num_prompts: int, name: str) -> None:
    """One way to spend the budget: a row per prompt, a square per response, darker for a better rank."""
    from matplotlib.patches import FancyBboxPatch

    def box(x: float, y: float, width: float, alpha: float, colour: str) -> None:
        shape = "round,pad=0,rounding_size=0.6"
        axes.add_patch(
            FancyBboxPatch((x, y), width, 3.4, boxstyle=shape, facecolor=colour, alpha=alpha, linewidth=0)
        )

    colour = COLOURS[ranking_len]
    left = middle - (11.5 + 4.3 * ranking_len) / 2
    axes.text(middle, 39.6, name, ha="center", fontsize=13, color=colour, weight="bold")
    for row in range(num_prompts):
        y = 33.2 - 4.6 * row
        box(left, y, 11, 1.0, "#E4E4E4")
        axes.text(left + 5.5, y + 1.6, f"prompt {row + 1}", ha="center", va="center", fontsize=9.5)
        for rank in range(ranking_len):
            box(left + 12.2 + 4.3 * rank, y, 3.6, 1 - 0.8 * rank / ranking_len, colour)
    caption = f"K = {ranking_len} responses × M = {num_prompts} prompts"
    axes.text(middle, 5.6, caption, ha="center", fontsize=11)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG at `path`, the same bytes for the same figure."""
    # Without the "Software" entry the file does not name a matplotlib version.
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", metadata={"Software": None})
