"""All findings on a study's results, computed once for the report and the figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError
from data_preprocess.files import without_nan
from eval_hh.analysis.chosen_prompts import addition_pairs, enlarged_pairs, fixed_size_pairs, strategy_pairs
from eval_hh.analysis.contrasts import Comparison, comparisons
from eval_hh.analysis.equal_budget import budget_pairs
from eval_hh.analysis.joint_fit import JointFit, joint_fits
from eval_hh.analysis.judgements import Judged, load_judgements
from eval_hh.analysis.lines_on_d import LineTest, line_tests
from eval_hh.analysis.means import model_entries
from eval_hh.analysis.paper_numbers import paper_table
from eval_hh.analysis.results import Results
from eval_hh.analysis.verdicts import Verdict, verdicts
from eval_hh.reporting.table1 import Table1, table1


@dataclass(frozen=True)
class Findings:
    """The results, with the table, tests and verdicts computed from them."""

    results: Results
    table: Table1
    equal_budget: list[Comparison]
    lines: list[LineTest]
    joint: list[JointFit]
    fixed_size: list[Comparison]
    strategies: list[Comparison]
    augmentations: list[Comparison]
    judged: list[Judged]
    verdicts: list[Verdict]
    warnings: list[str]  # on files left out, and on what cannot be compared


def analyse(results: Results, compare_paper: bool = False, folder: Path | None = None) -> Findings:
    """Computes table, tests and verdicts. Raises InputError without a cell of a random subset.

    Args:
        results: the cells.
        compare_paper: whether to look up the paper's values.
        folder: of result files, whose judged comparisons belong to the report; None: there are none.
    """
    warnings = list(results.warnings)
    if not results.random:
        raise InputError("; ".join(["no result file to report on (of a random subset)", *warnings]))
    profile = results.first.profile
    paper = paper_table(profile) if compare_paper else {}
    if compare_paper and not paper:
        warnings.append(f"the paper has no values for profile {profile}")
    additions = [*addition_pairs(results), *enlarged_pairs(results)]
    additions.sort(key=lambda pair: (pair[0].algorithm, pair[0].ranking_len))
    return Findings(
        results,
        table1(results, paper),
        comparisons(results, budget_pairs(results), tuple(results.pools)),
        line_tests(results),
        joint_fits(results),
        comparisons(results, fixed_size_pairs(results), tuple(results.pools)),
        comparisons(results, strategy_pairs(results)),
        comparisons(results, additions),
        load_judgements(folder, results.first.world, warnings) if folder else [],
        verdicts(results),
        warnings,
    )


def as_json(found: Findings) -> dict[str, Any]:
    """Returns the findings as JSON values, rewards from 0 to 1, nan as null.

    Returns:
        verdicts: [{claim, verdict, primary, details}]; contrasts: by question, each with its difference, interval, p
        and Holm p; lines: per algorithm and K the fits on D, M and log M; joint: coefficients of measures of
        diversity; judged: win rates minus one half, by judge and pair; models: means and half-widths of 95% intervals
        by name and pool, of models of no run; spans: by pool, the ceiling minus the base model and minus
        the floor; warnings.
    """
    contrasts = {
        "equal_budget": found.equal_budget, "d_at_fixed_size": found.fixed_size, "strategies": found.strategies,
        "augmentation": found.augmentations,
    }  # fmt: skip
    return {
        "verdicts": [without_nan(asdict(one)) for one in found.verdicts],
        "contrasts": {name: [without_nan(asdict(one)) for one in rows] for name, rows in contrasts.items()},
        "lines": [without_nan(asdict(one)) for one in found.lines],
        "joint": [without_nan(asdict(one)) for one in found.joint],
        "judged": [without_nan(asdict(one)) for one in found.judged],
        "models": {
            name: {pool: asdict(entry) for pool, entry in entries.items()}
            for name, entries in model_entries(found.results, scale=1.0).items()
        },
        "spans": {pool: asdict(scale)["spans"] for pool, scale in found.table.scales.items()},
        "warnings": list(found.warnings),
    }
