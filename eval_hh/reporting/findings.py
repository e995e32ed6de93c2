"""All findings on a study's results, computed once for the report and the figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.files import without_nan
from eval_hh.analysis.chosen_prompts import augmentation_contrasts, strategy_contrasts
from eval_hh.analysis.contrasts import Contrast
from eval_hh.analysis.d_at_fixed_size import FixedSizeTest, fixed_size_tests
from eval_hh.analysis.equal_budget import Comparison, comparisons
from eval_hh.analysis.lines_on_d import LineTest, line_tests
from eval_hh.analysis.paper_numbers import paper_table
from eval_hh.analysis.results import Results
from eval_hh.analysis.verdicts import Verdict, verdicts
from eval_hh.reporting.table1 import Table1, table1


@dataclass(frozen=True)
class Findings:
    """The results, with the table, tests and verdicts computed from them."""

    results: Results
    table: Table1
    compared: list[Comparison]
    tested: list[LineTest]
    varied: list[FixedSizeTest]
    strategies: list[Contrast]
    augmentations: list[Contrast]
    claims: list[Verdict]
    warnings: list[str]  # on files left out, and on what cannot be compared


def analyse(results: Results, compare_paper: bool = False) -> Findings:
    """Computes table, tests and verdicts. Raises InputError without a cell of a random subset."""
    warnings = results.warnings
    if not results.random:
        raise InputError("; ".join(["no result file to report on (of a random subset)", *warnings]))
    profile = results.first.profile
    paper = paper_table(profile) if compare_paper else {}
    if compare_paper and not paper:
        warnings = [*warnings, f"the paper has no values for profile {profile}"]
    compared, tested, varied = comparisons(results), line_tests(results), fixed_size_tests(results)
    augmented = augmentation_contrasts(results)
    claims = verdicts(compared, tested, varied, augmented)
    table = table1(results, paper)
    return Findings(results, table, compared, tested, varied, strategy_contrasts(results), augmented, claims, warnings)


def as_json(found: Findings) -> dict[str, Any]:
    """Returns the findings as JSON values, rewards from 0 to 1, nan as null.

    Returns:
        verdicts: [{claim, verdict, details}]; contrasts: by question, each with its difference, interval, p and Holm p;
        lines: per algorithm and K the fits on D, M and log M; warnings.
    """
    contrasts = {
        "equal_budget": found.compared, "d_at_fixed_size": found.varied, "strategies": found.strategies,
        "augmentation": found.augmentations,
    }  # fmt: skip
    return {
        "verdicts": [asdict(one) for one in found.claims],
        "contrasts": {name: [without_nan(asdict(one)) for one in rows] for name, rows in contrasts.items()},
        "lines": [without_nan(asdict(one)) for one in found.tested],
        "warnings": list(found.warnings),
    }
