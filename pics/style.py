"""Style, panel layout and saving of all figures; the same figure gives the same bytes.

The file name sets the variant: NAME.png for print, on white; NAME.svg for a web page, on a transparent background;
NAME_narrow.svg for a narrow window, with the panels below each other.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_preprocess.files import atomic_write

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class ByK(dict):
    """Maps each K to a value, and any other K to `other` without adding it."""

    def __init__(self, known: dict[int, str], other: str):
        super().__init__(known)
        self.other = other

    def __missing__(self, ranking_len: int) -> str:
        return self.other


LOOK = Path(__file__).parent  # holds page.css, the style of the HTML pages
GREY = "#555555"
GRID = "#E4E4E4"
# By K: the Okabe-Ito palette, which is safe for colour-blind readers, and markers for greyscale print. The study has
# K = 2, 3, 4; other data may have any K.
COLOURS = ByK({2: "#0072B2", 3: "#E69F00", 4: "#009E73", 5: "#CC79A7", 6: "#D55E00", 7: "#56B4E9"}, GREY)
MARKERS = ByK({2: "o", 3: "s", 4: "^", 5: "v", 6: "P", 7: "X"}, "D")
STYLE = {
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.dpi": 150,
    "text.parse_math": False,  # a "$" in a name is not math
    "svg.hashsalt": "",  # makes the ids in an SVG reproducible
}
NARROW = "_narrow"
NARROW_WIDTH = 4.3  # inches; at this width, 10 pt text on a phone is about as large as a page's small print
NAME_SIZE = 8  # font size in points of the names above a panel


def page_environment(folder: Path) -> Environment:
    """Returns what renders the templates of a folder, which may include page.css."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader([folder, LOOK]),
        autoescape=True,  # a response can be any text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def is_narrow(path: Path) -> bool:
    """Returns whether `path` names a figure for a narrow window."""
    return path.stem.endswith(NARROW)


@contextmanager
def new_figure(
    path: Path, size: tuple[float, float], note: str = "", layout: str | None = "constrained"
) -> Iterator[Figure]:
    """Yields a figure of `size` inches; saves it to `path`, with `note` below it, when the block ends."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=size, layout=layout)
        yield figure
        if note:
            figure.supxlabel(wrapped(note, size[0]), fontsize=9, color=GREY)
        save_figure(figure, path)


@contextmanager
def new_panels(
    path: Path, number: int, columns: int, size: tuple[float, float], note: str = ""
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yields a figure and its `number` panels of about `size` inches, in `columns`, or in one column if narrow."""
    columns, size = (1, (NARROW_WIDTH, size[1])) if is_narrow(path) else (columns, size)
    rows = -(-number // columns)
    with new_figure(path, (size[0] * columns, size[1] * rows), note) as figure:
        figure.get_layout_engine().set(h_pad=0.1)
        panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
        for empty in panels[number:]:
            empty.set_axis_off()
        yield figure, panels[:number]


def share_y(panels: Sequence[Axes]) -> None:
    """Shares one y axis between panels, so that heights can be compared; call it before drawing."""
    for panel in panels[1:]:
        panel.sharey(panels[0])


def legend_entries(panels: Sequence[Axes]) -> tuple[list, list[str]]:
    """Returns (handles, labels) of one legend for all panels, each label once."""
    found = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    return list(found.values()), list(found)


def wrapped(text: str, inches: float) -> str:
    """Wraps the lines of a text that are too long for a width at 9 points."""
    return "\n".join(textwrap.fill(line, max(20, int(13.5 * inches))) for line in text.split("\n"))


def name_places(axes: Axes, names: dict[str, float], title: str) -> None:
    """Writes names at values of x above a panel, below its title, and moves them apart where they would overlap.

    Args:
        axes: with all data drawn; its x range is set here.
        names: {name: x}, at least one.
        title: the panel's title.
    """
    places = sorted(names.items(), key=lambda item: item[1])
    x = np.array([value for _, value in places])
    margin = 0.07 * (np.ptp(x) or 1)
    axes.set_xlim(x[0] - margin, x[-1] + margin)
    beside = spread_out((x - x[0] + margin) / (x[-1] - x[0] + 2 * margin), gap=0.065)
    for (name, value), place in zip(places, beside, strict=True):
        axes.axvline(value, color=GREY, linewidth=0.6, linestyle=":", zorder=0.5)
        axes.annotate(
            name, (value, 1), (place, 1.06), ("data", "axes fraction"), "axes fraction", fontsize=NAME_SIZE, color=GREY,
            rotation=45, rotation_mode="anchor", ha="left", va="center",
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
    # A letter is about 0.6 of the font size wide, and the names are rotated by 45 degrees.
    height = 0.6 * NAME_SIZE * max(map(len, names)) * 0.71
    axes.set_title(title, loc="left", pad=height + 20)


def spread_out(places: Sequence[float], gap: float) -> list[float]:
    """Moves increasing positions in 0 to 1 so that neighbours are at least `gap` apart."""
    gap = min(gap, 1 / len(places))
    found = list(places)
    for index in range(1, len(found)):
        found[index] = max(found[index], found[index - 1] + gap)
    found[-1] = min(found[-1], 1.0)
    for index in reversed(range(len(found) - 1)):
        found[index] = min(found[index], found[index + 1] - gap)
    return found


PNG = b"\x89PNG\r\n\x1a\n"
# What a figure begins with, by the end of its name; any other end is a PNG, too.
OPENINGS = {".svg": '<?xml version="1.0" encoding="utf-8" standalone="no"?>\n<!DOCTYPE svg', ".png": PNG}


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure to `path` as PNG or SVG; the same figure gives the same bytes."""
    # Leaves out matplotlib's version and the date.
    how: dict[str, Any] = (
        {"format": "svg", "transparent": True, "metadata": {"Date": None, "Creator": None}}
        if path.suffix == ".svg"
        else {"format": "png", "metadata": {"Software": None}}
    )
    with atomic_write(path, "wb") as file:
        figure.savefig(file, **how)
