"""Figure of training curves: SFT loss, ranking accuracy (where it was logged) and dev reward by step, for each K."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_preprocess.subsets import RANDOM
from pics.style import COLOURS, GREY, is_narrow, new_panels, share_y

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARE = 20  # losses are smoothed by a running mean over 1/SHARE of the steps: single batches are too noisy
POINTS = 100  # maximum number of points drawn per loss
FAINTEST = 0.35  # opacity of the smallest size: pale on a light background, dim on a dark one
# First word of a subset's selection -> line style and legend label.
DASHES = {RANDOM: ("-", ""), "low": (":", "chosen for low D"), "max": ("--", "chosen for high D")}
OTHERWISE = ("-.", "chosen otherwise")


def _nothing() -> np.ndarray:
    return np.empty(0)


@dataclass(frozen=True, eq=False)
class TrainingCurve:
    """The training log of one cell; an array is empty if its file is missing."""

    algorithm: str
    ranking_len: int
    num_prompts: int
    seed: int
    selection: str  # of the subset, such as "random" or "max_d_matched"
    steps: np.ndarray  # int [steps]
    sft_loss: np.ndarray  # nats per response [steps]
    dev_steps: np.ndarray  # int [checkpoints]
    dev_reward: np.ndarray  # mean score of the dev prompts, 0 to 1 [checkpoints]
    order_steps: np.ndarray = field(
        default_factory=_nothing
    )  # int [steps with a ranking]; SFT and older logs have none
    ranking_accuracy: np.ndarray = field(
        default_factory=_nothing
    )  # share of rankings whose best response scores highest [the same steps]


def running_mean(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (steps, means): the running means of values [steps], thinned to at most POINTS.

    The window is 1/SHARE of the run. The first mean is that of the first full window; the last step is always kept.
    """
    if not len(values):
        return steps, values
    window = max(1, len(values) // SHARE)
    means = np.convolve(values, np.full(window, 1 / window), mode="valid")
    stride = -(-len(means) // POINTS)
    kept = slice((len(means) - 1) % stride, None, stride)
    return steps[window - 1 :][kept], means[kept]


def draw_curves(curves: Sequence[TrainingCurve], path: Path) -> None:
    """Draws one algorithm's curves and saves them to `path`: a row for each quantity logged, one column per K.

    Each cell is a line: more opaque for more prompts, dotted or dashed if they are not random. Seeds look alike.
    """
    lengths = sorted({curve.ranking_len for curve in curves})
    sizes = sorted({curve.num_prompts for curve in curves})
    each_step = ["loss"] + ["ranking accuracy"] * any(len(curve.ranking_accuracy) for curve in curves)
    smoothed = " and ".join(each_step).capitalize()
    note = f"{smoothed}: mean over the last 1/{SHARE} of the steps. Large dot: the checkpoint of the best dev reward."
    names = ["SFT loss, nats per response", *["ranking accuracy, %"] * (len(each_step) - 1), "dev reward × 100"]
    size, n = (max(3.3, 8 / len(lengths)), 3.1), len(lengths)
    with new_panels(path, len(names) * n, n, size, note) as (figure, panels):
        rows = [panels[row * n : (row + 1) * n] for row in range(len(names))]
        for row in rows:
            share_y(row)
        rows[0][0].set_yscale("log")
        for column, ranking_len in zip(zip(*rows, strict=True), lengths, strict=True):
            for curve in (curve for curve in curves if curve.ranking_len == ranking_len):
                _draw(column, curve, sizes)
            for panel, what in zip(column, names, strict=True):
                panel.set_title(f"K = {ranking_len} responses", loc="left")
                panel.set_xlabel("step")
                panel.set_ylabel(what)
        _plain_ticks(rows[0])
        columns = 2 if is_narrow(path) else 4
        figure.legend(handles=_legend(curves, sizes), loc="outside upper center", ncols=columns)


def _draw(panels: Sequence[Axes], curve: TrainingCurve, sizes: list[int]) -> None:
    """Draws a cell: the first panel is that of the loss, the last that of the dev reward."""
    strength = opacity(sizes.index(curve.num_prompts), len(sizes))
    look = {"color": COLOURS[curve.ranking_len], "alpha": strength}
    line = {**look, "linestyle": _dash(curve.selection)[0], "linewidth": 1}
    panels[0].plot(*running_mean(curve.steps, curve.sft_loss), **line)
    if len(curve.ranking_accuracy):
        panels[1].plot(*running_mean(curve.order_steps, 100 * curve.ranking_accuracy), **line)
    rewards = 100 * curve.dev_reward
    panels[-1].plot(curve.dev_steps, rewards, marker="o", markersize=2, **line)
    if len(rewards):
        best = int(np.argmax(rewards))  # the first on ties, as in the trainer
        panels[-1].plot(curve.dev_steps[best], rewards[best], marker="o", markersize=4.5, **look)


def opacity(place: int, number: int) -> float:
    """Returns the opacity of the size at `place` (0 is the smallest) among `number`; the largest is opaque."""
    return 1 - (1 - FAINTEST) * (1 - place / (number - 1)) if number > 1 else 1.0


def _dash(selection: str) -> tuple[str, str]:
    return DASHES.get(selection.split("_")[0], OTHERWISE)


def _plain_ticks(panels: Sequence[Axes]) -> None:
    """Writes the ticks of a logarithmic axis as plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for panel in panels:
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())


def _legend(curves: Sequence[TrainingCurve], sizes: list[int]) -> list:
    """Returns handles: an opacity for each size, which holds for all colours, then a line style for each selection."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color="black", alpha=opacity(place, len(sizes)), label=f"M = {size:,}")
        for place, size in enumerate(sizes)
    ]
    chosen = sorted({_dash(curve.selection) for curve in curves} - {DASHES[RANDOM]})
    return handles + [Line2D([], [], color=GREY, linestyle=dash, label=label) for dash, label in chosen]
