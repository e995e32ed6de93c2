"""Rewards at equal budget: more responses to fewer prompts against fewer responses to more prompts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from eval_hh.analysis.results import Results
from eval_hh.analysis.rules import NO_VERDICT, decide_pair
from eval_hh.cells import POOLS, Setting
from eval_hh.estimates import Estimate, budgets, holm_corrected

# Equal-budget pairs as K of (more responses, more prompts); the first pair decides the paper's claim.
PAIRS = ((4, 2), (3, 2), (4, 3))


@dataclass(frozen=True)
class Comparison:
    """One equal-budget pair of an algorithm in a pool; `difference` is more responses minus more prompts."""

    pool: str
    more_responses: Setting
    more_prompts: Setting
    n_seeds: int
    difference: Estimate
    holm_p: float  # p of `difference`, Holm-corrected over all pairs
    verdict: str

    @property
    def algorithm(self) -> str:
        return self.more_responses.algorithm


def comparisons(results: Results) -> list[Comparison]:
    """Returns all equal-budget pairs of random subsets with a common seed, by algorithm and pool, Holm-corrected."""
    found = []
    for algorithm in results.values_of("algorithm"):
        for pool in POOLS:
            for budget in budgets(results.values_of("num_prompts")):
                for ranking_lens in PAIRS:
                    pair = [Setting(algorithm, k, budget[k]) for k in ranking_lens]
                    seeds = results.seeds(*pair)
                    if seeds:
                        difference = results.bootstrap(pool).difference(*pair, seeds)
                        found.append(Comparison(pool, *pair, len(seeds), difference, difference.p, NO_VERDICT))
    return [replace(one, verdict=decide_pair(one.difference, one.holm_p, one.n_seeds)) for one in holm_corrected(found)]
