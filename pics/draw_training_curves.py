"""The picture of training curves: SFT loss and dev reward by step, a panel for each K."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pics.style import COLOURS, GREY, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARE = 20  # a loss is drawn as its running mean over 1/SHARE of the run's steps: single batches are too noisy
POINTS = 100  # most points drawn of one loss
PALEST = 0.65  # share of white in the colour of the smallest size
# Line styles of the selections: random prompts, and prompts chosen for low or high diversity.
DASHES = {"random": "-", "low": ":", "max": "--"}


@dataclass(frozen=True, eq=False)
class TrainingCurve:
    """The training log of one cell; an array is empty where its file is missing."""

    algorithm: str
    ranking_len: int
    num_prompts: int
    seed: int
    selection: str  # of the subset: "random", or what begins with low or max
    steps: np.ndarray  # int [steps]
    sft_loss: np.ndarray  # nats per response [steps]
    dev_steps: np.ndarray  # int [checkpoints]
    dev_reward: np.ndarray  # mean score of the dev prompts, 0 to 1 [checkpoints]


def running_mean(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(steps, means) of values [steps]: each the mean of the window of steps that ends there, at most POINTS of them.

    A window is 1/SHARE of the run, and there is no mean before the first full one. The last step is always there.
    """
    if not len(values):
        return steps, values
    window = max(1, len(values) // SHARE)
    means = np.convolve(values, np.full(window, 1 / window), mode="valid")
    stride = -(-len(means) // POINTS)
    kept = slice((len(means) - 1) % stride, None, stride)
    return steps[window - 1 :][kept], means[kept]


def draw_curves(curves: Sequence[TrainingCurve], path: Path) -> None:
    """One algorithm's curves as a PNG at `path`: loss above, dev reward below, a column for each K.

    Each cell is a line: darker for more prompts, dotted or dashed where the prompts are not random. Seeds look alike.
    """
    lengths = sorted({curve.ranking_len for curve in curves})
    sizes = sorted({curve.num_prompts for curve in curves})
    note = f"Loss: mean over the last 1/{SHARE} of the steps. Large dot: the checkpoint of the best dev reward."
    with new_figure(path, (1.2 + 3.3 * max(2, len(lengths)), 6.4), note) as figure:
        axes = figure.subplots(2, len(lengths), squeeze=False, sharex=True, sharey="row")
        for (loss_panel, reward_panel), ranking_len in zip(axes.T, lengths, strict=True):
            for curve in (curve for curve in curves if curve.ranking_len == ranking_len):
                _draw(loss_panel, reward_panel, curve, sizes)
            loss_panel.set_title(f"K = {ranking_len} responses", loc="left")
            reward_panel.set_xlabel("step")
        axes[0, 0].set_ylabel("SFT loss, nats per response")
        axes[1, 0].set_ylabel("dev reward × 100")
        axes[0, 0].set_yscale("log")
        _plain_ticks(axes[0])
        figure.legend(handles=_legend(curves, sizes), loc="outside upper center", ncols=6)


def _draw(loss_panel: Axes, reward_panel: Axes, curve: TrainingCurve, sizes: list[int]) -> None:
    colour = shade(COLOURS.get(curve.ranking_len, GREY), sizes.index(curve.num_prompts), len(sizes))
    style = {"color": colour, "linestyle": _dash(curve.selection), "linewidth": 1, "alpha": 0.9}
    loss_panel.plot(*running_mean(curve.steps, curve.sft_loss), **style)
    rewards = 100 * curve.dev_reward
    reward_panel.plot(curve.dev_steps, rewards, marker="o", markersize=2, **style)
    if len(rewards):
        best = int(np.argmax(rewards))  # the earliest of equals, as in the trainer
        reward_panel.plot(curve.dev_steps[best], rewards[best], marker="o", markersize=4.5, color=colour)


def shade(colour: str, place: int, number: int) -> tuple[float, ...]:
    """A colour for the place (0 is the smallest) of a size among `number`: palest first, the last as it is."""
    from matplotlib.colors import to_rgb

    white = PALEST * (1 - place / max(1, number - 1)) if number > 1 else 0.0
    return tuple(white + (1 - white) * part for part in to_rgb(colour))


def _dash(selection: str) -> str:
    return DASHES.get(selection.split("_")[0], "-.")


def _plain_ticks(panels: Sequence[Axes]) -> None:
    """Ticks of a logarithmic axis written as plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for panel in panels:
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())


def _legend(curves: Sequence[TrainingCurve], sizes: list[int]) -> list:
    """Handles: a shade of grey for each size, which holds for all colours, then a line style for each selection."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=shade("#222222", place, len(sizes)), label=f"M = {size:,}")
        for place, size in enumerate(sizes)
    ]
    chosen = sorted({curve.selection for curve in curves} - {"random"})
    return handles + [Line2D([], [], color=GREY, linestyle=_dash(name), label=name) for name in chosen]
