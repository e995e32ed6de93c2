"""Rewards at equal budget: more responses to fewer prompts against fewer responses to more prompts (claim 1)."""

from __future__ import annotations

from eval_hh.analysis.contrasts import Pair
from eval_hh.analysis.results import Results
from eval_hh.cells import Setting
from eval_hh.estimates import budgets

# K of (more responses, more prompts); the first is the paper's claim.
RANKING_LENS = ((4, 2), (3, 2), (4, 3))


def budget_pairs(results: Results, ranking_lens: tuple[tuple[int, int], ...] = RANKING_LENS) -> list[Pair]:
    """Returns the pairs (more responses, more prompts) of random subsets that cost the same, those that were run."""
    pairs = []
    for algorithm in results.values_of("algorithm"):
        for budget in budgets(results.values_of("num_prompts")):
            for more, fewer in (lens for lens in ranking_lens if set(lens) <= set(budget)):
                pair = Setting(algorithm, more, budget[more]), Setting(algorithm, fewer, budget[fewer])
                pairs += [pair] * bool(results.replicates(*pair))
    return pairs
