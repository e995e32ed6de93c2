"""Everything that is found out about a set of cells, once, for the report and the pictures.

Library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_preprocess.command import InputError
from eval_hh.analysis.chosen_prompts import augmentation_contrasts, strategy_contrasts
from eval_hh.analysis.contrasts import Contrast
from eval_hh.analysis.d_at_fixed_size import FixedSizeTest, fixed_size_tests
from eval_hh.analysis.equal_budget import Comparison, LineTest, PoolBootstrap, comparisons, grid, line_tests
from eval_hh.analysis.means import paper_table
from eval_hh.cells import POOLS
from eval_hh.reporting.table1 import Table1, table1


@dataclass(frozen=True)
class Analysis:
    """The table and the tests of a run."""

    table: Table1
    compared: list[Comparison]
    tested: list[LineTest]
    varied: list[FixedSizeTest]
    strategies: list[Contrast]
    augmentations: list[Contrast]
    warnings: tuple[str, ...]  # of files left out, and of what cannot be compared


def analyse(cells: list[dict], warnings: Sequence[str] = (), compare_paper: bool = False) -> Analysis:
    """Table and tests of these cells. Raises InputError without a random subset's cell and where worlds are mixed."""
    settings = grid(cells)
    if not settings:
        raise InputError("; ".join(["no result file to report on (of a random subset)", *warnings]))
    paper = paper_table(cells[0]["profile"]) if compare_paper else {}
    if compare_paper and not paper:
        warnings = [*warnings, f"the paper has no values for profile {cells[0]['profile']}"]
    bootstraps = {pool: PoolBootstrap(settings, pool) for pool in POOLS}
    return Analysis(
        table=table1(cells, paper),
        compared=comparisons(cells, bootstraps),
        tested=line_tests(cells, bootstraps["Global"]),
        varied=fixed_size_tests(cells),
        strategies=strategy_contrasts(cells),
        augmentations=augmentation_contrasts(cells),
        warnings=tuple(warnings),
    )
