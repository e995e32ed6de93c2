"""Draws the study's figures from the paper's published numbers or from result files.

    cd pics
    python figures.py --paper            the paper's Figure 4, its MSEs and lines, and what its numbers can carry
    python figures.py --results DIR      the same four panels from our result files
    python figures.py --budgets DIR      rewards at equal budget
    python figures.py --fixed_size DIR   rewards of equal-size subsets selected for low and high D
    python figures.py --intro            ways to spend one annotation budget

Each writes one figure to --output (default: NAME.png in runs/figures/ under STUDY_ROOT). The file name sets the format:
PNG, SVG (.svg) or SVG for a narrow window (_narrow.svg). The same input gives the same bytes.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import (
    InputError,
    check_settings,
    check_text,
    check_unused,
    parse_settings,
    run,
    setting,
    study_root,
)
from data_preprocess.outputs import check_opening, check_output_file
from eval_hh.analysis.chosen_prompts import fixed_size_pairs
from eval_hh.analysis.contrasts import comparisons
from eval_hh.analysis.paper_numbers import paper_evidence
from eval_hh.analysis.results import load_results
from pics.draw_chosen_prompts import draw_chosen
from pics.draw_intro import draw_intro
from pics.draw_rewards import draw_budgets, draw_panels
from pics.figure_data import error_note, line_summary, paper_overlay, paper_points, result_facets, result_points
from pics.style import OPENINGS, PNG

# By flag, the name of its picture in runs/figures.
OF_RESULTS = {"results": "diversity", "budgets": "quantitative", "fixed_size": "fixed_size"}
FIGURES = {"paper": "paper", "intro": "intro", **OF_RESULTS}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure, and where it goes."""

    paper: bool = setting("the paper's Figure 4 from its published numbers", default=False)
    results: Path | None = setting("the four panels from a folder of result files", metavar="DIR", default=None)
    budgets: Path | None = setting("rewards at equal budget from a folder of result files", metavar="DIR", default=None)
    fixed_size: Path | None = setting(
        "rewards against D at one M from a folder of result files", metavar="DIR", default=None
    )
    intro: bool = setting("the diagram of ways to spend one annotation budget", default=False)
    profile: str | None = setting("draw this profile's files (default: the most common one)", check_text, default=None)
    compare_paper: bool = setting("with --results: also draw the paper's points", default=False)
    output: Path | None = setting("PNG or SVG file to write (default: a PNG in runs/figures)", default=None)

    def __post_init__(self) -> None:
        check_settings(self)
        given = [flag for flag in FIGURES if getattr(self, flag)]
        if len(given) != 1:
            found = " and ".join(f"--{flag}" for flag in given) or "none"
            raise InputError(f"--{', --'.join(FIGURES)}: {found} (expected one of them)")
        unused = [*(() if given[0] in OF_RESULTS else ("profile",)), *(() if self.results else ("compare_paper",))]
        check_unused(self, f"--{given[0]}", unused)
        check_output_file("output", self.path, {flag: [getattr(self, flag)] for flag in OF_RESULTS})
        check_opening(self.path, OPENINGS.get(self.path.suffix, PNG))

    @property
    def kind(self) -> str:
        return next(name for flag, name in FIGURES.items() if getattr(self, flag))

    @property
    def path(self) -> Path:
        return self.output or study_root() / "runs" / "figures" / f"{self.kind}.png"


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(Figure, argv, __doc__)
    if config.intro:
        draw_intro(config.path)
    elif config.paper:
        draw_panels(paper_points(), config.path)
        print("\n".join([*line_summary(paper_points()), *paper_evidence()]))
    else:
        folder = config.results or config.budgets or config.fixed_size
        draw_results(config.kind, folder, config.path, config.profile, config.compare_paper)
    print(f"Written to {config.path}")


def draw_results(name: str, folder: Path, output: Path, profile: str | None, compare_paper: bool) -> None:
    """Draws one figure from a folder of result files. Raises InputError if there is nothing to draw."""
    results = load_results(folder, profile)
    warnings = results.warnings
    if not results.random:
        raise InputError("; ".join([f"{folder}: no result file to draw", *warnings]))
    if name == "diversity":
        points = result_points(results)
        overlay = paper_overlay(results) if compare_paper else []
        draw_panels(points, output, error_note(results), overlay)
        print("\n".join(line_summary(points)))
        if compare_paper and not overlay:
            warnings = [*warnings, f"the paper's figure has no points for profile {results.first.profile}"]
    elif name == "quantitative":
        draw_budgets(result_facets(results), output, error_note(results))
    else:
        draw_chosen(comparisons(results, fixed_size_pairs(results)), "high against low D at one M", output)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
