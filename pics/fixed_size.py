"""Drawing of the experiment that varies D at one number of prompts.

Library.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_preprocess.files import InputError
from eval_hh.fixed_size import FixedSizeTest
from pics.drawing import COLOURS, GREY, MARKERS, STYLE, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_fixed_size(tests: Sequence[FixedSizeTest], path: Path) -> None:
    """Reward against D at one M, a panel per algorithm, as a PNG at `path`.

    Raises InputError where no low, random and high D were run.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    if not tests:
        raise InputError("no subsets of low and high D in these results (reproduce.py --fixed_size runs them)")
    algorithms = sorted({one.algorithm for one in tests})
    with rc_context(STYLE):
        figure = Figure(figsize=(5 * len(algorithms), 4.2), layout="constrained")
        for panel, algorithm in zip(figure.subplots(1, len(algorithms), squeeze=False)[0], algorithms, strict=True):
            _panel(panel, [one for one in tests if one.algorithm == algorithm])
        figure.supxlabel(
            "Bars: standard deviation over seeds. Dotted: what the line on D through random subsets of other sizes "
            "would have it be.",
            fontsize=9,
            color=GREY,
        )
        save_figure(figure, path)


def _panel(axes: Axes, tests: Sequence[FixedSizeTest]) -> None:
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
    axes.set_title(f"{tests[0].algorithm}: reward against D at one M", loc="left")
    axes.set_xlabel("prompt diversity D")
    axes.set_ylabel("mean reward × 100 (Global)")
    axes.margins(y=0.2)
    axes.legend()
