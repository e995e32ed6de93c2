"""Makes the outputs of a study from its result files: report, LaTeX table, figures and HTML page."""

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from data_preprocess.outputs import check_opening, check_output_file

if TYPE_CHECKING:
    from eval_hh.analysis.results import Results
    from eval_hh.reporting.findings import Findings


# First lines of report.html; a file of that name that starts otherwise is not overwritten.
OPENING = (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta http-equiv="Content-Security-Policy" content="default-src'
)


def check_outputs(folder: Path) -> None:
    """Raises InputError, before any work, if `show_outcome` would overwrite a file that is not a study's."""
    from eval_hh.reporting.sections import check_report

    check_report(folder)
    check_output_file("output", folder / "report.html", {})
    check_opening(folder / "report.html", OPENING)


def show_outcome(
    folder: Path,
    root: Path,
    title: str,
    results: Sequence[Path],
    command: str,
    took: str,
    notes: Sequence[str] = (),
    compare_paper: bool = False,
) -> None:
    """Writes report.md, table1.tex, pics/ and report.html into `folder` and prints the report.

    Args:
        folder: created if missing.
        root: where the cells were run; the page shows their logs and texts.
        title: the page's heading.
        results: result files; missing or mismatched ones are named in the report and left out.
        command: the command that made them.
        took: how long that took, in words.
        notes: further sentences for the page's footer.
        compare_paper: show the paper's values beside ours.
    """
    from eval_hh.analysis.results import load_results
    from eval_hh.reporting.findings import analyse
    from eval_hh.reporting.sections import write_report
    from study.page.build import build_page
    from study.page.write import Made

    loaded = load_results(results)
    if not loaded.random:
        print("no report yet: it needs a cell of a random subset", *loaded.warnings, sep="\n")
        return
    found = analyse(loaded, compare_paper, root / "eval_hh" / "results")
    text = write_report(folder, found)
    draw_pictures(folder / "pics", found, compare_paper)
    made = Made(command, f"{date.today():%Y-%m-%d}", took, versions(loaded), notes)
    for lacking in build_page(folder, root, loaded, text, title, made)[1]:
        print(f"warning: {lacking}", file=sys.stderr)
    print(text)
    print(f"written to {folder}: report.html (open it in a browser), report.md, table1.tex, pics/")


def versions(results: "Results") -> dict[str, str]:
    """Returns {"commit" or library: its version in these results}; several are joined where they differ."""
    found: dict[str, set[str]] = {}
    for cell in results.cells:
        for name, version in {"commit": cell.git, **cell.versions}.items():
            found.setdefault(name, set()).add(str(version or "unknown"))
    return {name: " and ".join(sorted(several)) for name, several in found.items()}


def draw_pictures(folder: Path, found: "Findings", compare_paper: bool) -> None:
    """Draws every figure that the results have data for, as PNG and as SVG for wide and narrow windows."""
    from pics.draw_chosen_prompts import draw_chosen
    from pics.draw_intro import draw_intro
    from pics.draw_rewards import draw_budgets, draw_panels
    from pics.figure_data import error_note, paper_overlay, result_facets, result_points
    from pics.style import NARROW

    results = found.results
    note, overlay = error_note(results), paper_overlay(results) if compare_paper else []
    points, facets = result_points(results), result_facets(results)
    chosen = {
        "fixed_size": (found.fixed_size, "high against low D at one M"),
        "strategies": (found.strategies, "prompts chosen by strategies"),
        "augmentation": (found.augmentations, "subsets enlarged by models"),
    }
    for ending in (".png", ".svg", f"{NARROW}.svg"):
        draw_panels(points, folder / f"diversity{ending}", note, overlay)
        draw_intro(folder / f"intro{ending}")
        if facets:
            draw_budgets(facets, folder / f"quantitative{ending}", note)
        for name, (rows, title) in chosen.items():
            if rows:
                draw_chosen(rows, title, folder / f"{name}{ending}")
