"""The pictures of the experiments with chosen prompts: D varied at one size, strategies, and enlarged subsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_preprocess.command import InputError
from eval_hh.analysis.contrasts import Choice, Contrast
from eval_hh.analysis.d_at_fixed_size import FixedSizeTest
from pics.style import COLOURS, GREY, MARKERS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_fixed_size(tests: Sequence[FixedSizeTest], path: Path) -> None:
    """Reward against D at one M, a panel per algorithm, as a PNG at `path`.

    Raises InputError where no low, random and high D were run.
    """
    if not tests:
        raise InputError("no subsets of low and high D in these results (reproduce.py --fixed_size runs them)")
    note = (
        "Bars: standard deviation over seeds. Dotted: what the line on D through random subsets would have it be.\n"
        "One draw of each, alike in length but not in kind of prompt: a difference need not come from D."
    )
    _draw_by_algorithm(tests, _fixed_size_panel, "reward against D at one M", note, (5, 4.2), path)


def draw_chosen(found: Sequence[Contrast], title: str, path: Path) -> None:
    """Reward against D of the compared choices of prompts, a panel per algorithm, as a PNG at `path`.

    Random prompts, which the others are compared with, are hollow.

    Raises InputError where there is nothing to compare.
    """
    if not found:
        raise InputError("no prompts chosen by strategies or by augment.py in these results (reproduce.py runs them)")
    bars = "Bars: standard deviation over seeds. " if max(one.n_seeds for one in found) > 1 else ""
    _draw_by_algorithm(found, _chosen_panel, title, f"{bars}Hollow: random prompts.", (5.6, 4.6), path)


def _draw_by_algorithm(
    found: Sequence,
    panel: Callable[[Axes, Sequence], None],
    title: str,
    note: str,
    size: tuple[float, float],
    path: Path,
) -> None:
    """A panel of `size` inches for each algorithm, drawn by `panel` from the findings about it."""
    algorithms = sorted({one.algorithm for one in found})
    with new_figure(path, (size[0] * len(algorithms), size[1]), note) as figure:
        for axes, algorithm in zip(figure.subplots(1, len(algorithms), squeeze=False)[0], algorithms, strict=True):
            panel(axes, [one for one in found if one.algorithm == algorithm])
            axes.set_title(f"{algorithm}: {title}", loc="left")
            axes.set_xlabel("prompt diversity D")
            axes.set_ylabel("mean reward × 100 (Global)")


def _fixed_size_panel(axes: Axes, tests: Sequence[FixedSizeTest]) -> None:
    for one in tests:
        x = np.array([choice.diversity for choice in one.choices])
        y = 100 * np.array([choice.reward for choice in one.choices])
        bars = 100 * np.nan_to_num([choice.spread for choice in one.choices])
        colour, label = COLOURS[one.ranking_len], f"K = {one.ranking_len}, M = {one.num_prompts:,}"
        axes.errorbar(x, y, yerr=bars, fmt=f"{MARKERS[one.ranking_len]}-", color=colour, capsize=3, label=label)
        ends = x[[0, -1]]
        # Through the random subset's point, so that only the slope is compared.
        slope = 100 * one.expected / (x[-1] - x[0])
        axes.plot(ends, y[1] + slope * (ends - x[1]), ":", color=colour, linewidth=1.3)
    names = ("low", "random", "high")
    for choice, name in zip(tests[0].choices, names, strict=True):
        axes.annotate(name, (choice.diversity, 0.02), xycoords=("data", "axes fraction"), ha="center", color=GREY)
    axes.margins(y=0.2)
    axes.legend()


def _chosen_panel(axes: Axes, found: Sequence[Contrast]) -> None:
    sizes = {choice.num_prompts for one in found for choice in (one.first, one.second)}
    for ranking_len in sorted({one.ranking_len for one in found}):
        pairs = [(one.first, one.second) for one in found if one.ranking_len == ranking_len]
        choices = {(choice.num_prompts, choice.selection): choice for pair in pairs for choice in pair}
        for number, choice in enumerate(sorted(choices.values(), key=lambda choice: choice.diversity)):
            name = choice.selection.replace("augment_", "+ ").replace("_matched", "")
            name += f", M = {choice.num_prompts:,}" if len(sizes) > 1 else ""
            # Above and below in turn, so that neighbours' names do not overlap.
            _point(axes, choice, ranking_len, name, above=number % 2 == 0)
        suffix = "" if len(sizes) > 1 else f", M = {next(iter(sizes)):,}"
        axes.plot([], [], MARKERS[ranking_len], color=COLOURS[ranking_len], label=f"K = {ranking_len}{suffix}")
    axes.margins(x=0.2, y=0.15)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def _point(axes: Axes, choice: Choice, ranking_len: int, name: str, above: bool) -> None:
    x, y, colour = choice.diversity, 100 * choice.reward, COLOURS[ranking_len]
    fill = "white" if choice.selection.endswith("random") else colour
    bar = 100 * float(np.nan_to_num(choice.spread))
    axes.errorbar(x, y, yerr=bar, fmt=MARKERS[ranking_len], color=colour, markerfacecolor=fill, capsize=3)
    end, away, side = (y + bar, 4, "bottom") if above else (y - bar, -4, "top")
    axes.annotate(name, (x, end), (0, away), textcoords="offset points", ha="center", va=side, fontsize=8, color=GREY)
