"""The study's page, put together from what a finished study leaves.

Library.
"""

from collections.abc import Sequence
from pathlib import Path

from study.page.sample_answers import gather_samples
from study.page.training_logs import load_curves
from study.page.write import Picture, write_page

# The figures that pics/ may hold, in the page's order: title, and what those read who do not see it.
FIGURES = {
    "quantitative": (
        "Rewards at equal budget",
        "Mean rewards with error bars of the cells that cost the same, by pool of test files and number of responses "
        "K. Table 1 has the numbers, marked.",
    ),
    "diversity": (
        "Reward against prompts and their diversity",
        "Four panels: PRO's reward against the number of prompts M, prompt diversity D against M, and the rewards of "
        "PRO and of SFT against D, with a line for each number of responses K. Table 1 has the numbers.",
    ),
    "fixed_size": (
        "D varied at one number of prompts",
        "Mean rewards of cells trained on prompts chosen for a low, a random and a high diversity D, a panel for each "
        "algorithm. The section on D at one number of prompts has the numbers.",
    ),
    "strategies": (
        "Prompts chosen by strategies",
        "Mean rewards against diversity D of cells trained on prompts chosen by each strategy and at random, a panel "
        "for each algorithm. The section on prompts chosen by a strategy has the numbers.",
    ),
    "augmentation": (
        "Subsets enlarged by models",
        "Mean rewards against diversity D of a random subset, of the same with random prompts added, and with those "
        "added that raise D, a panel for each algorithm. The section on enlarged subsets has the numbers.",
    ),
    "intro": (
        "Two ways to spend an annotation budget",
        "A diagram of one budget of labelled responses, spent on more prompts with few responses each, or on fewer "
        "prompts with more responses each.",
    ),
}


def build_page(
    folder: Path, root: Path, cells: Sequence[dict], report: str, title: str, note: str = ""
) -> tuple[Path, list[str]]:
    """Writes report.html into `folder`; returns its path and what is lacking in it, a line each.

    Args:
        folder: of the study's outcome, with its figures in pics/; the pictures of curves go to pics/curves/.
        root: under which the cells were run, with logs/, checkpoints/ and eval_hh/inference_res/.
        cells: loaded result files, at least one of a random subset.
        report: report.md's text.
        title: the page's heading.
        note: a paragraph below it.
    """
    curves, warnings = draw_training(root, cells, folder / "pics" / "curves")
    samples, lacking = gather_samples(root, cells)
    path, warnings = folder / "report.html", warnings + lacking
    write_page(path, title, report, figures(folder / "pics"), curves, samples, note, warnings)
    return path, warnings


def figures(folder: Path) -> list[Picture]:
    """The pictures of a folder: those known above first, then any others by name."""
    found = {path.stem: path for path in sorted(folder.glob("*.png"))}
    names = [name for name in FIGURES if name in found] + [name for name in found if name not in FIGURES]
    told = {name: FIGURES.get(name, (name.replace("_", " "),) * 2) for name in names}
    return [Picture(found[name], title, alt) for name, (title, alt) in told.items()]


def draw_training(root: Path, cells: Sequence[dict], folder: Path) -> tuple[list[Picture], list[str]]:
    """Draws the training curves, a picture for each algorithm, into `folder`; returns them, and what is lacking."""
    from pics.draw_training_curves import draw_curves

    curves, warnings = load_curves(root, cells)
    pictures = []
    for algorithm in sorted({curve.algorithm for curve in curves}):
        of_it = [curve for curve in curves if curve.algorithm == algorithm]
        path = folder / f"{algorithm.lower()}.png"
        draw_curves(of_it, path)
        title = f"{algorithm}: SFT loss and dev reward by step"
        alt = f"{title}, a line for each of {len(of_it)} cells and a column of panels for each number of responses K."
        caption = f"{len(of_it)} cells, a line each; darker lines are cells of more prompts, and seeds are alike."
        pictures.append(Picture(path, title, alt, caption))
    return pictures, warnings
