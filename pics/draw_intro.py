"""Diagram of three ways to spend one annotation budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pics.style import COLOURS, GREY, GRID, is_narrow, new_figure, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WAYS = (("more prompts", 2, 6), ("in between", 3, 4), ("more responses", 4, 3))  # name, K, M
ROW, COLUMN = 4.6, 34  # height of a prompt, width of an allocation; 10 units per inch
HEAD, FOOT = 8.0, 6.0  # above and below the rows of an allocation
TITLE, CAPTION = 7.0, 5.0


def draw_intro(path: Path) -> None:
    """Draws one annotation budget spent on more prompts or on more responses, and saves it to `path`.

    The allocations stand side by side in frames of equal height, or below each other in a narrow figure.
    """
    narrow = is_narrow(path)
    heights = [HEAD + ROW * num_prompts + FOOT for _, _, num_prompts in WAYS]
    width, height = (43, sum(heights)) if narrow else (COLUMN * len(WAYS), max(heights))
    caption = wrapped("A square is one labelled response, the stronger its colour the higher its rank.", width / 10)
    below = CAPTION + 2 * caption.count("\n")
    total = TITLE + height + below
    with new_figure(path, (width / 10, total / 10), layout=None) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(0, total))
        axes.set_axis_off()
        title = f"One annotation budget:{chr(10) if narrow else ' '}12 labelled responses"
        axes.text(width / 2, total - 1.5, title, ha="center", va="top", fontsize=13 if narrow else 15, weight="bold")
        top = total - TITLE
        for place, (way, way_height) in enumerate(zip(WAYS, heights, strict=True)):
            if narrow:
                _allocation(axes, width / 2, top - sum(heights[:place]), way, way_height)
            else:
                _allocation(axes, COLUMN * (place + 0.5), top, way, height)
        axes.text(width / 2, 1.6, caption, ha="center", fontsize=10, color=GREY)


def _allocation(axes: Axes, middle: float, top: float, way: tuple[str, int, int], height: float) -> None:
    """Draws one allocation: a row per prompt, a square per response, paler for a lower rank.

    Its frame, of `height` below `top`, holds its name, its rows, and K and M.
    """
    from matplotlib.patches import FancyBboxPatch

    def box(x: float, y: float, width: float, height: float, **style: object) -> None:
        shape = "round,pad=0,rounding_size=0.6"
        axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, **style))

    name, ranking_len, num_prompts = way
    box(middle - COLUMN / 2 + 1, top - height + 0.5, COLUMN - 2, height - 1, fill=False, edgecolor=GRID)
    colour = COLOURS[ranking_len]
    left = middle - (11.6 + 4.3 * ranking_len) / 2
    axes.text(middle, top - 5, name, ha="center", fontsize=13, color=colour, weight="bold")
    for row in range(num_prompts):
        y = top - HEAD - ROW * (row + 1) + 0.6
        box(left, y, 11, 3.4, facecolor=GRID, linewidth=0)
        axes.text(left + 5.5, y + 1.6, f"prompt {row + 1}", ha="center", va="center", fontsize=9.5)
        for rank in range(ranking_len):
            strength = 1 - 0.8 * rank / ranking_len
            box(left + 12.2 + 4.3 * rank, y, 3.6, 3.4, facecolor=colour, alpha=strength, linewidth=0)
    caption = f"K = {ranking_len} responses × M = {num_prompts} prompts"
    axes.text(middle, top - height + 2.4, caption, ha="center", fontsize=11)
