"""eval_hh/analysis/equal_budget.py and contrasts.py: pairs of equal cost, compared by replicate."""

import pytest
import scipy.stats

from eval_hh.analysis.contrasts import comparisons
from eval_hh.analysis.equal_budget import budget_pairs
from eval_hh.analysis.rules import HELD, NO_VERDICT, UNDECIDED
from eval_hh.cells import POOLS, Setting
from eval_hh.estimates import contrast, holm
from tests.made_up import diversity, make_grid, results_of


def rising(algorithm, k, size, seed):
    return 0.3 + 0.01 * diversity(size) + 0.03 * k + 0.002 * (seed - 43) * (k - 2)


def test_pairs_of_equal_cost():
    pairs = budget_pairs(results_of(make_grid(rising, algorithms=("PRO",))))
    assert pairs == [
        (Setting("PRO", 4, 1500), Setting("PRO", 2, 3000)),
        (Setting("PRO", 3, 2000), Setting("PRO", 2, 3000)),
        (Setting("PRO", 4, 1500), Setting("PRO", 3, 2000)),
    ]


def test_a_grid_without_the_middle_size_still_has_its_pair():
    pairs = budget_pairs(results_of(make_grid(rising, algorithms=("PRO",), sizes=(1500, 3000))))
    assert pairs == [(Setting("PRO", 4, 1500), Setting("PRO", 2, 3000))]


def test_a_difference_is_the_paired_t_test_of_the_replicates_means():
    results = results_of(make_grid(rising, algorithms=("PRO",), seeds=(42, 43, 44, 46), draws=True))
    found = {
        (one.pool, one.first.setting, one.second.setting): one
        for one in comparisons(results, budget_pairs(results), tuple(POOLS))
    }
    assert len(found) == 3 * 3
    pair = Setting("PRO", 4, 1500), Setting("PRO", 2, 3000)
    for pool in POOLS:
        one, units = found[pool, *pair], results.units(*pair)
        first, second = (results.rewards(setting, units, pool) for setting in pair)
        expected = scipy.stats.ttest_rel(first.mean(axis=1), second.mean(axis=1))
        interval = expected.confidence_interval(0.95)
        assert (one.difference.low, one.difference.high) == pytest.approx((interval.low, interval.high))
        assert one.difference.p == pytest.approx(expected.pvalue)
        assert one.difference.difference == pytest.approx(contrast(first, second).difference)
        assert one.first.reward == pytest.approx(first.mean())
        assert one.first.spread == pytest.approx(first.mean(axis=1).std(ddof=1))


def test_holm_runs_over_the_whole_table_and_gives_the_words():
    results = results_of(make_grid(rising, seeds=(42, 43, 44), draws=True))
    found = comparisons(results, budget_pairs(results), tuple(POOLS))
    assert len(found) == 2 * 3 * 3
    assert [one.holm_p for one in found] == holm([one.difference.p for one in found])
    assert all(one.verdict == (HELD if one.holm_p < 0.05 else UNDECIDED) for one in found)
    one_draw = comparisons(results_of(make_grid(rising, seeds=(42, 43, 44))), budget_pairs(results))
    assert {(one.verdict, one.one_draw) for one in one_draw} == {(NO_VERDICT, True)}


def test_pairs_use_the_replicates_that_both_have_and_skip_without_one():
    cells = make_grid(rising, algorithms=("SFT",), seeds=(42, 43), draws=True)
    kept = [
        cell
        for cell in cells
        if not (cell["ranking_len"], cell["num_prompts"], cell["seed"]) == (4, 1500, 42)
        and not (cell["ranking_len"], cell["num_prompts"]) == (3, 2000)
    ]
    results = results_of(kept)
    (one,) = comparisons(results, budget_pairs(results))
    assert (one.first.setting, one.second.setting) == (Setting("SFT", 4, 1500), Setting("SFT", 2, 3000))
    assert one.difference.n_replicates == 1 and one.difference.low != one.difference.low  # no interval
    assert one.verdict == NO_VERDICT and one.holm_p != one.holm_p
