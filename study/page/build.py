"""Builds the page of a finished study from its report, figures, training logs and generated texts."""

from pathlib import Path

from eval_hh.analysis.results import Results
from pics.style import NARROW, is_narrow
from study.page.sample_answers import gather_samples
from study.page.training_logs import load_curves
from study.page.write import Made, Picture, write_page

# The figures that pics/ may hold, in the page's order: title and alternative text.
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
        "Mean rewards of cells trained on prompts chosen for a low and a high diversity D, a panel for each algorithm. "
        "The section on D at one number of prompts has the numbers.",
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
        "Three ways to spend an annotation budget",
        "A diagram of one budget of labelled responses, spent on more prompts with few responses each, on fewer "
        "prompts with more responses each, or in between.",
    ),
}


def build_page(
    folder: Path, root: Path, results: Results, report: str, title: str, made: Made | None = None
) -> tuple[Path, list[str]]:
    """Writes report.html into `folder`; returns its path and a line for each missing part.

    Args:
        folder: has the study's figures in pics/; the training curves are drawn into pics/curves/.
        root: the study's root, with logs/, checkpoints/ and eval_hh/inference_res/.
        results: with at least one cell of a random subset.
        report: the text of report.md.
        title: the page's heading.
        made: shown in the page's footer.
    """
    curves, warnings = draw_training(root, results, folder / "pics" / "curves")
    samples, lacking = gather_samples(root, results)
    path, warnings = folder / "report.html", warnings + lacking
    write_page(path, title, report, figures(folder / "pics"), curves, samples, made, warnings)
    return path, warnings


def figures(folder: Path) -> list[Picture]:
    """Returns the figures of a folder: those of FIGURES first, then the others by name."""
    found = {path.stem: path for path in sorted(folder.glob("*.svg")) if not is_narrow(path)}
    names = [name for name in FIGURES if name in found] + [name for name in found if name not in FIGURES]
    texts = {name: FIGURES.get(name, (name.replace("_", " "),) * 2) for name in names}
    return [Picture(found[name], title, alt) for name, (title, alt) in texts.items()]


def draw_training(root: Path, results: Results, folder: Path) -> tuple[list[Picture], list[str]]:
    """Draws one figure of training curves per algorithm into `folder`; returns them and warnings."""
    from pics.draw_training_curves import draw_curves

    curves, warnings = load_curves(root, results)
    pictures = []
    for algorithm in sorted({curve.algorithm for curve in curves}):
        group = [curve for curve in curves if curve.algorithm == algorithm]
        name = f"curves_{algorithm.lower()}"
        for ending in ("", NARROW):
            draw_curves(group, folder / f"{name}{ending}.svg")
        logged = "SFT loss, ranking accuracy" if any(len(curve.order_steps) for curve in group) else "SFT loss"
        title = f"{algorithm}: {logged} and dev reward by step"
        alt = f"{title}, a line for each of {len(group)} cells and a column of panels for each number of responses K."
        caption = f"One line for each of {len(group)} cells; stronger for more prompts, all seeds alike."
        pictures.append(Picture(folder / f"{name}.svg", title, alt, caption))
    return pictures, warnings
