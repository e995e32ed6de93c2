"""The diagram of one annotation budget spent in three ways."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pics.style import COLOURS, GREY, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_intro(path: Path) -> None:
    """A diagram of one annotation budget spent on more prompts or on more responses, as a PNG at `path`."""
    with new_figure(path, (10, 4.9), layout=None) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 100), ylim=(0, 49))
        axes.set_axis_off()
        title = "One annotation budget: 12 labelled responses"
        axes.text(50, 45.2, title, ha="center", fontsize=15, weight="bold")
        _allocation(axes, 17, 2, 6, "more prompts")
        _allocation(axes, 49, 3, 4, "in between")
        _allocation(axes, 82, 4, 3, "more responses")
        caption = "A square is one labelled response, darker where the annotators rank it higher."
        axes.text(50, 1.6, caption, ha="center", fontsize=10, color=GREY)


def _allocation(axes: Axes, middle: float, ranking_len: int, num_prompts: int, name: str) -> None:
    """One way to spend the budget: a row per prompt, a square per response, darker for a better rank."""
    from matplotlib.patches import FancyBboxPatch

    def box(x: float, y: float, width: float, alpha: float, colour: str) -> None:
        shape = "round,pad=0,rounding_size=0.6"
        patch = FancyBboxPatch((x, y), width, 3.4, boxstyle=shape, facecolor=colour, alpha=alpha, linewidth=0)
        axes.add_patch(patch)

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
