"""What a study comes to: report, table for LaTeX and pictures, made from its result files.

Library.
"""

from collections.abc import Sequence
from pathlib import Path


def write_outcome(folder: Path, results: Sequence[Path], compare_paper: bool = False) -> str:
    """Writes report.md, table1.tex and pics/ into `folder` and returns the report's text.

    Args:
        folder: is made where it is not there.
        results: result files; what is missing or does not belong is named in the report and left out.
        compare_paper: put the paper's values beside ours.
    """
    from eval_hh.cells import load_cells
    from eval_hh.fixed_size import fixed_size_tests
    from eval_hh.report_text import write_report
    from pics.drawing import draw_budgets, draw_intro, draw_panels
    from pics.fixed_size import draw_fixed_size
    from pics.points import cell_facets, cell_points, error_note, paper_overlay

    cells, warnings = load_cells(results)
    text = write_report(folder, cells, warnings, compare_paper)
    pictures, note = folder / "pics", error_note(cells)
    draw_panels(cell_points(cells)[0], pictures / "diversity.png", note, paper_overlay(cells) if compare_paper else [])
    draw_intro(pictures / "intro.png")
    facets, varied = cell_facets(cells), fixed_size_tests(cells)
    if facets:
        draw_budgets(facets, pictures / "quantitative.png", note)
    if varied:
        draw_fixed_size(varied, pictures / "fixed_size.png")
    return text
