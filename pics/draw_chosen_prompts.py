"""Figures of the prompt selection experiments: D varied at one size, strategies, and enlarged subsets."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_preprocess.command import InputError
from eval_hh.analysis.contrasts import Comparison, Side
from eval_hh.cells import Setting
from pics.style import COLOURS, MARKERS, legend_entries, name_places, new_panels, share_y

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_chosen(found: Sequence[Comparison], title: str, path: Path) -> None:
    """Draws reward against D of the compared sets of prompts (Global), one panel per algorithm, and saves it to `path`.

    Markers of random prompts, the baseline, are hollow. Raises InputError if there is nothing to compare.
    """
    found = [one for one in found if one.pool == "Global"]
    if not found:
        raise InputError("no such comparison in these results (reproduce.py --fixed_size, --strategies, --augment)")
    notes = []
    if max(one.difference.n_replicates for one in found) > 1:
        one_draw = any(one.one_draw for one in found)
        notes.append(
            f"Bars: standard deviation over {'seeds of one draw of the subsets' if one_draw else 'replicates'}."
        )
    if any(_is_random(side) for one in found for side in (one.first, one.second)):
        notes.append("Hollow: random prompts.")
    _draw_by_algorithm(found, title, " ".join(notes), path)


def _draw_by_algorithm(found: Sequence[Comparison], title: str, note: str, path: Path) -> None:
    algorithms = sorted({one.algorithm for one in found})
    with new_panels(path, len(algorithms), len(algorithms), (5.4, 4.6), note) as (figure, panels):
        share_y(panels)
        for axes, algorithm in zip(panels, algorithms, strict=True):
            names = _panel(axes, [one for one in found if one.algorithm == algorithm])
            name_places(axes, names, f"{algorithm}: {title}")
            axes.margins(y=0.1)
            axes.set_xlabel("prompt diversity D")
            axes.set_ylabel("mean reward × 100 (Global)")
        figure.legend(*legend_entries(panels), loc="outside upper center", ncols=2)


def _panel(axes: Axes, found: Sequence[Comparison]) -> dict[str, float]:
    """Draws the comparisons of one algorithm; returns {subset name: D}."""
    both = [side for one in found for side in (one.first, one.second)]
    sizes = {side.setting.num_prompts for side in both}
    suffix = "" if len(sizes) > 1 else f", M = {next(iter(sizes)):,}"
    named = defaultdict(list)
    spread = np.ptp([side.diversity for side in both])
    for ranking_len in sorted({side.setting.ranking_len for side in both}):
        sides = {side.setting: side for side in both if side.setting.ranking_len == ranking_len}
        for setting, side in sides.items():
            named[_name(setting) + (f", M = {setting.num_prompts:,}" if len(sizes) > 1 else "")].append(side.diversity)
            # Offset by K, so that the error bars of one subset do not overlap.
            _point(axes, side, side.diversity + 0.008 * (ranking_len - 3) * spread)
        axes.plot([], [], MARKERS[ranking_len], color=COLOURS[ranking_len], label=f"K = {ranking_len}{suffix}")
    # Subsets of one name have about the same D for every K: they differ only in prompts with too few responses.
    return {name: float(np.mean(values)) for name, values in named.items()}


def _name(setting: Setting) -> str:
    """Returns a selection's name without what all of a figure's selections share."""
    return re.sub("_(matched|kind|half)", "", setting.selection).replace("augment_", "+ ")


def _is_random(side: Side) -> bool:
    return side.setting.selection.endswith("random")


def _point(axes: Axes, side: Side, x: float) -> None:
    ranking_len = side.setting.ranking_len
    colour, marker = COLOURS[ranking_len], MARKERS[ranking_len]
    fill = "white" if _is_random(side) else colour
    bar = 100 * float(np.nan_to_num(side.spread))
    axes.errorbar(x, 100 * side.reward, yerr=bar, fmt=marker, color=colour, markerfacecolor=fill, capsize=3)
