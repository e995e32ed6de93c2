"""The study's pictures, drawn from the paper's published numbers or from result files by the same functions.

    cd pics
    python figures.py --paper            the paper's Figure 4, its three MSEs and its lines
    python figures.py --results DIR      the same four panels from our result files (pics/diversity.png)
    python figures.py --budgets DIR      rewards at equal budget (pics/quantitative.png)
    python figures.py --intro            two ways to spend an annotation budget (pics/intro.png)

Each writes one PNG to --output (default: in runs/figures/ under STUDY_ROOT). The same input gives the same
bytes. Drawing itself is in pics/drawing.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.files import InputError, run, study_root
from eval_hh.cells import POOLS, load_cells
from eval_hh.claims import diversity_of, grid
from eval_hh.law import average_mse, budgets
from eval_hh.summary import paper_results, table
from pics.drawing import Facet, Points, draw_budgets, draw_intro, draw_panels, scientific


def paper_points() -> list[Points]:
    """The points of the paper's Figure 4."""
    figure = paper_results()["figure4"]
    sizes, scores = tuple(figure["num_prompts"]), tuple(figure["diversity"])
    return [
        Points(algorithm, int(ranking_len), sizes, scores, tuple(rewards), (0.0,) * len(sizes))
        for algorithm, by_length in figure["reward"].items()
        for ranking_len, rewards in by_length.items()
    ]


def cell_points(cells: list[dict]) -> tuple[list[Points], list[str]]:
    """The same points from result files (Global), and a warning for each setting left out for want of D."""
    scores, warnings = diversity_of(cells)
    entries = table(cells, pools=("Global",))
    points = []
    for algorithm, ranking_len in sorted({setting[:2] for setting in scores}):
        settings = [setting for setting in scores if setting[:2] == (algorithm, ranking_len)]
        rows = [entries["Global", setting] for setting in settings]
        points.append(
            Points(
                algorithm,
                ranking_len,
                tuple(setting[2] for setting in settings),
                tuple(scores[setting] for setting in settings),
                tuple(row.mean / 100 for row in rows),
                tuple(row.spread / 100 for row in rows),
            )
        )
    return points, warnings


def error_note(cells: list[dict]) -> str:
    """What the error bars of a picture of these cells show, in words."""
    counts = {len(seeds) for seeds in grid(cells).values()}
    if counts == {1}:
        return (
            "Bars: 95% interval over test prompts; 1 seed: no spread over seeds.\n"
            "All points share the test prompts, so differences are known better than the bars suggest."
        )
    if 1 in counts:
        return "Bars: standard deviation over seeds; where there is one seed, 95% interval over test prompts."
    return f"Bars: standard deviation over {' or '.join(map(str, sorted(counts)))} seeds."


def line_summary(points: list[Points]) -> list[str]:
    """One text line per panel (a), (c), (d): the MSE averaged over its lines, then each line."""
    summary = []
    for panel, algorithm, predictor in (("a", "PRO", "M"), ("c", "PRO", "D"), ("d", "SFT", "D")):
        lines = {
            one.ranking_len: one.line(predictor)
            for one in points
            if one.algorithm == algorithm and one.line(predictor)
        }
        if not lines:
            summary.append(f"({panel}) {algorithm} reward on {predictor}: no line (fewer than two sizes)")
            continue
        mse = scientific(average_mse(lines.values()))
        summary.append(f"({panel}) {algorithm} reward on {predictor}: MSE {mse}")
        summary += [
            f"    K={ranking_len}: reward = {line.slope:.3g} {predictor} + {line.intercept:.4f}, "
            f"R2 {line.r2:.3f}"
            for ranking_len, line in lines.items()
        ]
    return summary


def cell_facets(cells: list[dict]) -> list[Facet]:
    """The equal-budget chart of result files: a facet per algorithm and budget, all pools."""
    entries = table(cells)
    facets = []
    for algorithm in sorted({setting[0] for setting in grid(cells)}):
        for budget in budgets({setting[2] for setting in grid(cells)}):
            by_pool: dict = {}
            for pool in POOLS:
                for shape in budget.items():
                    entry = entries.get((pool, (algorithm, *shape)))
                    if entry:
                        by_pool.setdefault(pool, {})[shape] = (entry.mean, entry.spread)
            facets.append(Facet(f"{algorithm}, {2 * budget[2]:,} labelled responses", by_pool))
    return facets


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw one of the study's pictures.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--paper", action="store_true", help="the paper's Figure 4 from its published numbers")
    what.add_argument("--results", type=Path, help="the four panels from a folder of result files")
    what.add_argument("--budgets", type=Path, help="rewards at equal budget from a folder of result files")
    what.add_argument("--intro", action="store_true", help="the diagram of the two ways to spend a budget")
    parser.add_argument("--output", type=Path, help="the PNG to write (default: in runs/figures)")
    args = parser.parse_args(argv)
    names = {
        "paper": args.paper,
        "diversity": args.results,
        "quantitative": args.budgets,
        "intro": args.intro,
    }
    name = next(name for name, given in names.items() if given)
    output = args.output or study_root() / "runs" / "figures" / f"{name}.png"
    if args.intro:
        draw_intro(output)
    elif args.paper:
        draw_panels(paper_points(), output)
        print("\n".join(line_summary(paper_points())))
    else:
        _draw_results(args.results or args.budgets, output, panels=args.results is not None)
    print(f"Written to {output}")


def _draw_results(folder: Path, output: Path, panels: bool) -> None:
    cells, warnings = load_cells(folder)
    if not grid(cells):
        raise InputError("; ".join([f"{folder}: no result file to draw", *warnings]))
    if panels:
        points, left_out = cell_points(cells)
        draw_panels(points, output, error_note(cells))
        print("\n".join(line_summary(points)))
        warnings = warnings + left_out
    else:
        draw_budgets(cell_facets(cells), output, error_note(cells))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
