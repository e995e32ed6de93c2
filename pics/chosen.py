"""Drawing of the experiments with chosen prompts: strategies at one number of prompts, and enlarged subsets.

Library.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_preprocess.files import InputError
from eval_hh.choices import Choice, Contrast
from pics.drawing import COLOURS, GREY, MARKERS, STYLE, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_chosen(found: Sequence[Contrast], title: str, path: Path) -> None:
    """Reward against D of every choice of prompts that is compared, a panel per algorithm, as a PNG at `path`.

    What others are compared with is hollow.

    Raises InputError where there is nothing to compare.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    if not found:
        raise InputError("no prompts chosen by strategies or by augment.py in these results (reproduce.py runs them)")
    algorithms = sorted({one.algorithm for one in found})
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6 * len(algorithms), 4.6), layout="constrained")
        for panel, algorithm in zip(figure.subplots(1, len(algorithms), squeeze=False)[0], algorithms, strict=True):
            _panel(panel, [one for one in found if one.algorithm == algorithm])
            panel.set_title(f"{algorithm}: {title}", loc="left")
        bars = "Bars: standard deviation over seeds. " if max(one.n_seeds for one in found) > 1 else ""
        figure.supxlabel(f"{bars}Hollow: random prompts.", fontsize=9, color=GREY)
        save_figure(figure, path)


def _panel(axes: Axes, found: Sequence[Contrast]) -> None:
    sizes = {choice.num_prompts for one in found for choice in (one.first, one.second)}
    for ranking_len in sorted({one.ranking_len for one in found}):
        pairs = [(one.first, one.second) for one in found if one.ranking_len == ranking_len]
        choices = {(choice.num_prompts, choice.selection): choice for pair in pairs for choice in pair}
        for number, choice in enumerate(sorted(choices.values(), key=lambda choice: choice.diversity)):
            name = choice.selection.replace("augment_", "+ ").replace("_matched", "")
            name += f", M = {choice.num_prompts:,}" if len(sizes) > 1 else ""
            # Neighbours' names, above and below in turn, do not run into one another.
            _point(axes, choice, ranking_len, name, above=number % 2 == 0)
        suffix = "" if len(sizes) > 1 else f", M = {next(iter(sizes)):,}"
        axes.plot([], [], MARKERS[ranking_len], color=COLOURS[ranking_len], label=f"K = {ranking_len}{suffix}")
    axes.set_xlabel("prompt diversity D")
    axes.set_ylabel("mean reward × 100 (Global)")
    axes.margins(x=0.2, y=0.15)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def _point(axes: Axes, choice: Choice, ranking_len: int, name: str, above: bool) -> None:
    x, y, colour = choice.diversity, 100 * choice.reward, COLOURS[ranking_len]
    fill = "white" if choice.selection.endswith("random") else colour
    bar = 100 * float(np.nan_to_num(choice.spread))
    axes.errorbar(x, y, yerr=bar, fmt=MARKERS[ranking_len], color=colour, markerfacecolor=fill, capsize=3)
    end, away, side = (y + bar, 4, "bottom") if above else (y - bar, -4, "top")
    axes.annotate(name, (x, end), (0, away), textcoords="offset points", ha="center", va=side, fontsize=8, color=GREY)
