"""The study's table, its equal-budget comparisons and a verdict on each of the paper's claims.

    cd eval_hh; python report.py [--results DIR] [--profile NAME] [--output DIR] [--compare_paper]

reads result files (default: eval_hh/results/ under STUDY_ROOT), prints Markdown and writes report.md and, for LaTeX,
table1.tex into --output (default: runs/report/ under STUDY_ROOT). Needs no GPU, no network and no torch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import check_flags, check_text, run, study_root
from data_preprocess.outputs import check_opening, check_output_file
from eval_hh.analysis.results import load_results
from eval_hh.reporting.findings import analyse
from eval_hh.reporting.sections import write_report

OPENINGS = {"report.md": "# Results", "table1.tex": "% Written by"}  # of the files written: others of these names stay


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Table, comparisons and verdicts from result files.")
    parser.add_argument("--results", type=Path, help="folder of result files (default: eval_hh/results)")
    parser.add_argument("--output", type=Path, help="folder for report.md and table1.tex (default: runs/report)")
    parser.add_argument("--profile", help="report on this profile's files (default: the commonest profile)")
    parser.add_argument("--compare_paper", action="store_true", help="put the paper's value beside ours")
    args = parser.parse_args(argv)
    check_flags(vars(args), {"profile": check_text})
    results = args.results or study_root() / "eval_hh" / "results"
    output = args.output or study_root() / "runs" / "report"
    for name, opening in OPENINGS.items():
        check_output_file("output", output / name, {})
        check_opening(output / name, opening)
    print(write_report(output, analyse(load_results(results, args.profile), args.compare_paper)))
    print(f"Written to {output / 'report.md'}")


if __name__ == "__main__":
    run(main)
