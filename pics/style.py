"""The style of all pictures, and how they are saved: the same figure gives the same bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from data_preprocess.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY = "#555555"
# By K: Okabe and Ito's colours, which colour-blind readers can tell apart, and markers for print in grey. The study has
# K = 2, 3, 4; results of other data may have any.
COLOURS = defaultdict(
    lambda: GREY, {2: "#0072B2", 3: "#E69F00", 4: "#009E73", 5: "#CC79A7", 6: "#D55E00", 7: "#56B4E9"}
)
MARKERS = defaultdict(lambda: "D", {2: "o", 3: "s", 4: "^", 5: "v", 6: "P", 7: "X"})
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.dpi": 150,
    "text.parse_math": False,  # a name with "$" is a name
}


@contextmanager
def new_figure(
    path: Path, size: tuple[float, float], note: str = "", layout: str | None = "constrained"
) -> Iterator[Figure]:
    """A figure of `size` inches to draw on, with `note` below it; a PNG at `path` when the block ends."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=size, layout=layout)
        yield figure
        if note:
            figure.supxlabel(note, fontsize=9, color=GREY)
        save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG at `path`, the same bytes for the same figure."""
    # Without the "Software" entry the file does not name a matplotlib version.
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", metadata={"Software": None})
