"""What a study comes to: report, table for LaTeX, pictures and a page to look at, made from its result files.

Library.
"""

import sys
from collections.abc import Sequence
from pathlib import Path


def show_outcome(folder: Path, root: Path, title: str, results: Sequence[Path], compare_paper: bool = False) -> None:
    """Writes report.md, table1.tex, pics/ and report.html into `folder` and prints the report.

    Args:
        folder: is made where it is not there.
        root: under which the cells were run; the page shows their logs and texts.
        title: the page's heading.
        results: result files; what is missing or does not belong is named in the report and left out.
        compare_paper: put the paper's values beside ours.
    """
    from eval_hh.cells import load_cells
    from eval_hh.claims import grid
    from eval_hh.report_text import write_report
    from study.look import write_look

    cells, warnings = load_cells(results)
    if not grid(cells):
        print("no report yet: it needs a cell of a random subset", *warnings, sep="\n")
        return
    text = write_report(folder, cells, warnings, compare_paper)
    draw_pictures(folder / "pics", cells, compare_paper)
    for lacking in write_look(folder, root, cells, text, title)[1]:
        print(f"warning: {lacking}", file=sys.stderr)
    print(text)
    print(f"written to {folder}: report.html (open it in a browser), report.md, table1.tex, pics/")


def draw_pictures(folder: Path, cells: list[dict], compare_paper: bool) -> None:
    """Every picture that these cells have points for."""
    from eval_hh.additions import augmentation_contrasts, strategy_contrasts
    from eval_hh.fixed_size import fixed_size_tests
    from pics.chosen import draw_chosen
    from pics.drawing import draw_budgets, draw_intro, draw_panels
    from pics.fixed_size import draw_fixed_size
    from pics.points import cell_facets, cell_points, error_note, paper_overlay

    note, overlay = error_note(cells), paper_overlay(cells) if compare_paper else []
    draw_panels(cell_points(cells)[0], folder / "diversity.png", note, overlay)
    draw_intro(folder / "intro.png")
    facets, varied = cell_facets(cells), fixed_size_tests(cells)
    if facets:
        draw_budgets(facets, folder / "quantitative.png", note)
    if varied:
        draw_fixed_size(varied, folder / "fixed_size.png")
    for name, title, found in (
        ("strategies", "prompts chosen by strategies", strategy_contrasts(cells)),
        ("augmentation", "subsets enlarged by models", augmentation_contrasts(cells)),
    ):
        if found:
            draw_chosen(found, title, folder / f"{name}.png")
