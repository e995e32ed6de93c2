"""Draws the study's figures from the paper's published numbers or from result files.

    cd pics
    python figures.py --paper            the paper's Figure 4, its MSEs and lines, and what its numbers can carry
    python figures.py --results DIR      the same four panels from our result files (pics/diversity.png)
    python figures.py --budgets DIR      rewards at equal budget (pics/quantitative.png)
    python figures.py --fixed_size DIR   rewards of equal-size subsets selected for low and high D
    python figures.py --intro            ways to spend one annotation budget (pics/intro.png)

Each writes one figure to --output (default: NAME.png in runs/figures/ under STUDY_ROOT). The file name sets the format:
PNG, SVG (.svg) or SVG for a narrow window (_narrow.svg). The same input gives the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import InputError, OneLineParser, check_flags, check_text, run, study_root
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


def main(argv: list[str] | None = None) -> None:
    parser = OneLineParser(description="Draw one of the study's figures.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--paper", action="store_true", help="the paper's Figure 4 from its published numbers")
    what.add_argument("--results", type=Path, help="the four panels from a folder of result files")
    what.add_argument("--budgets", type=Path, help="rewards at equal budget from a folder of result files")
    what.add_argument("--fixed_size", type=Path, help="rewards against D at one M from a folder of result files")
    what.add_argument("--intro", action="store_true", help="the diagram of ways to spend one annotation budget")
    parser.add_argument("--profile", help="draw this profile's files (default: the most common one)")
    parser.add_argument("--compare_paper", action="store_true", help="with --results: also draw the paper's points")
    parser.add_argument("--output", type=Path, help="PNG or SVG file to write (default: a PNG in runs/figures)")
    args = parser.parse_args(argv)
    folders = {"diversity": args.results, "quantitative": args.budgets, "fixed_size": args.fixed_size}
    names = {"paper": args.paper, "intro": args.intro, **folders}
    name = next(name for name, given in names.items() if given)
    output = args.output or study_root() / "runs" / "figures" / f"{name}.png"
    check_flags(vars(args), {"profile": check_text})
    read = {flag: [getattr(args, flag)] for flag in ("results", "budgets", "fixed_size")}
    check_output_file("output", output, read)
    check_opening(output, OPENINGS.get(output.suffix, PNG))
    if args.intro:
        draw_intro(output)
    elif args.paper:
        draw_panels(paper_points(), output)
        print("\n".join([*line_summary(paper_points()), *paper_evidence()]))
    else:
        draw_results(name, folders[name], output, args.profile, args.compare_paper)
    print(f"Written to {output}")


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
