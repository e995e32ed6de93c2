"""The study's table, its equal-budget comparisons and a verdict on each of the paper's claims.

    cd eval_hh; python report.py [--results DIR] [--profile NAME] [--output DIR] [--compare_paper] [--json]

Reads result files (default: eval_hh/results/ under STUDY_ROOT) and what judge.py made of them, prints Markdown and
writes report.md and table1.tex (LaTeX) into --output (default: runs/report/ under STUDY_ROOT). With --json, prints the
verdicts, contrasts and lines as one JSON object and writes nothing. Needs no GPU, network or torch.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import check_settings, check_text, parse_settings, run, setting, study_root
from eval_hh.analysis.results import load_results
from eval_hh.reporting.findings import analyse, as_json
from eval_hh.reporting.sections import check_report, write_report


@dataclass(frozen=True, kw_only=True)
class Report:
    """What to report on, and where to write it."""

    results: Path | None = setting("folder of result files (default: eval_hh/results)", default=None)
    output: Path | None = setting("folder for report.md and table1.tex (default: runs/report)", default=None)
    profile: str | None = setting("report on this profile (default: the most common one)", check_text, default=None)
    compare_paper: bool = setting("show the paper's value beside ours", default=False)
    json: bool = setting("print verdicts, contrasts and lines as one JSON object, and write nothing", default=False)

    def __post_init__(self) -> None:
        check_settings(self)


def main(argv: list[str] | None = None) -> None:
    config = parse_settings(Report, argv, __doc__)
    results = config.results or study_root() / "eval_hh" / "results"
    output = config.output or study_root() / "runs" / "report"
    if config.json:
        found = analyse(load_results(results, config.profile), folder=results)
        print(json.dumps(as_json(found), ensure_ascii=False, indent=1))
        return
    check_report(output)
    print(write_report(output, analyse(load_results(results, config.profile), config.compare_paper, results)))
    print(f"Written to {output / 'report.md'}")


if __name__ == "__main__":
    run(main)
