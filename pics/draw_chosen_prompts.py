"""Figures of the prompt selection experiments: D varied at one size, strategies, and enlarged subsets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_preprocess.command import InputError
from eval_hh.analysis.contrasts import Choice, Contrast
from eval_hh.analysis.d_at_fixed_size import FixedSizeTest
from pics.style import COLOURS, MARKERS, legend_entries, name_places, new_panels, share_y

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_fixed_size(tests: Sequence[FixedSizeTest], path: Path) -> None:
    """Draws reward against D at one M, one panel per algorithm, and saves it to `path`.

    Raises InputError if no low, random and high D were run.
    """
    if not tests:
        raise InputError("no subsets of low and high D in these results (reproduce.py --fixed_size runs them)")
    note = (
        "Bars: standard deviation over seeds. Dotted: what the line on D through random subsets would have it be.\n"
        "One draw of each, alike in length but not in kind of prompt: a difference need not come from D."
    )
    _draw_by_algorithm(tests, _fixed_size_panel, "reward against D at one M", note, path)


def draw_chosen(found: Sequence[Contrast], title: str, path: Path) -> None:
    """Draws reward against D of the compared sets of prompts, one panel per algorithm, and saves it to `path`.

    Markers of random prompts, the baseline, are hollow. Raises InputError if there is nothing to compare.
    """
    if not found:
        raise InputError("no prompts chosen by strategies or by augment.py in these results (reproduce.py runs them)")
    bars = "Bars: standard deviation over seeds. " if max(one.n_seeds for one in found) > 1 else ""
    _draw_by_algorithm(found, _chosen_panel, title, f"{bars}Hollow: random prompts.", path)


def _draw_by_algorithm(
    found: Sequence, panel: Callable[[Axes, Sequence], dict[str, float]], title: str, note: str, path: Path
) -> None:
    """Draws one panel per algorithm; `panel` draws the findings about it and returns {subset name: D}."""
    algorithms = sorted({one.algorithm for one in found})
    with new_panels(path, len(algorithms), len(algorithms), (5.4, 4.6), note) as (figure, panels):
        share_y(panels)
        for axes, algorithm in zip(panels, algorithms, strict=True):
            names = panel(axes, [one for one in found if one.algorithm == algorithm])
            name_places(axes, names, f"{algorithm}: {title}")
            axes.margins(y=0.1)
            axes.set_xlabel("prompt diversity D")
            axes.set_ylabel("mean reward × 100 (Global)")
        figure.legend(*legend_entries(panels), loc="outside upper center", ncols=2)


def _fixed_size_panel(axes: Axes, tests: Sequence[FixedSizeTest]) -> dict[str, float]:
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
    return dict(zip(("low", "random", "high"), (choice.diversity for choice in tests[0].choices), strict=True))


def _chosen_panel(axes: Axes, found: Sequence[Contrast]) -> dict[str, float]:
    sizes = {choice.num_prompts for one in found for choice in (one.first, one.second)}
    suffix = "" if len(sizes) > 1 else f", M = {next(iter(sizes)):,}"
    named = defaultdict(list)
    spread = np.ptp([choice.diversity for one in found for choice in (one.first, one.second)])
    for ranking_len in sorted({one.ranking_len for one in found}):
        pairs = [(one.first, one.second) for one in found if one.ranking_len == ranking_len]
        choices = {(choice.num_prompts, choice.selection): choice for pair in pairs for choice in pair}
        for choice in choices.values():
            name = choice.selection.replace("augment_", "+ ").replace("_matched", "")
            named[name + (f", M = {choice.num_prompts:,}" if len(sizes) > 1 else "")].append(choice.diversity)
            # Offset by K, so that the error bars of one subset do not overlap.
            _point(axes, choice, ranking_len, choice.diversity + 0.008 * (ranking_len - 3) * spread)
        axes.plot([], [], MARKERS[ranking_len], color=COLOURS[ranking_len], label=f"K = {ranking_len}{suffix}")
    # Subsets of one name have about the same D for every K: they differ only in prompts with too few responses.
    return {name: float(np.mean(values)) for name, values in named.items()}


def _point(axes: Axes, choice: Choice, ranking_len: int, x: float) -> None:
    colour = COLOURS[ranking_len]
    fill = "white" if choice.selection.endswith("random") else colour
    bar = 100 * float(np.nan_to_num(choice.spread))
    marker = MARKERS[ranking_len]
    axes.errorbar(x, 100 * choice.reward, yerr=bar, fmt=marker, color=colour, markerfacecolor=fill, capsize=3)
