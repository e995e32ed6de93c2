"""eval_hh/analysis/: made-up grids with known effects get the verdicts, differences and lines that they should."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from data_preprocess.command import InputError
from eval_hh.analysis.equal_budget import comparisons
from eval_hh.analysis.lines_on_d import line_tests
from eval_hh.analysis.rules import DID_NOT_HOLD, HELD, NO_VERDICT, UNDECIDED
from eval_hh.analysis.verdicts import NOT_TESTED, verdicts
from eval_hh.cells import POOLS, Setting
from eval_hh.estimates import estimate, fit_line, holm, row_draws, seed_weights
from tests.made_up import SIZES, diversity, make_cell, make_grid, results_of

FEW_ROWS = {"harmless_base": 30, "helpful_base": 20, "helpful_online": 20, "helpful_rejection": 30}


def reward_of(slope: float, per_response: float):
    """Global reward linear in D, and in K at a rate that decides the equal-budget pairs."""
    return lambda algorithm, k, size, seed: 0.3 + slope * diversity(size) + per_response * k


def claims_of(cells: list[dict]) -> list[str]:
    results = results_of(cells)
    return [one.verdict for one in verdicts(comparisons(results), line_tests(results))]


def test_more_responses_can_hold_and_a_line_on_d_cannot():
    """Rewards that are linear in D are as good as linear in log M, so that no fit speaks for D."""
    cells = make_grid(reward_of(0.01, 0.03), seeds=(42, 43, 44))
    assert claims_of(cells) == [HELD, UNDECIDED, NOT_TESTED, NOT_TESTED]


@pytest.mark.parametrize("seeds", [(42,), (42, 43)])
@pytest.mark.parametrize("reward", [reward_of(0.01, 0.03), reward_of(-0.005, -0.02), reward_of(0.0, 0.0)])
def test_fewer_than_three_seeds_give_no_verdict(reward, seeds):
    cells = make_grid(reward, seeds=seeds)
    assert claims_of(cells) == [NO_VERDICT, NO_VERDICT, NOT_TESTED, NOT_TESTED]
    assert {one.verdict for one in [*comparisons(results_of(cells)), *line_tests(results_of(cells))]} == {NO_VERDICT}


def test_a_run_in_which_neither_claim_holds():
    cells = make_grid(reward_of(-0.005, -0.02), seeds=(42, 43, 44))
    assert claims_of(cells) == [DID_NOT_HOLD, DID_NOT_HOLD, NOT_TESTED, NOT_TESTED]


def test_a_run_that_decides_nothing():
    cells = make_grid(reward_of(0.0, 0.0), seeds=(42, 43, 44), noise=0.1)
    # Equal means, so every interval is about zero: nothing may be read off them.
    assert claims_of(cells)[:2] == [UNDECIDED, UNDECIDED]


def test_reward_that_rises_and_falls_again_is_no_line():
    # A hump without any slope on D: its least-squares slope is taken off.
    scores = [diversity(size) for size in SIZES]
    hump = np.array([0.4, 0.6, 0.6, 0.4])
    hump = dict(zip(SIZES, hump - np.polyfit(scores, hump, 1)[0] * (scores - np.mean(scores)), strict=True))
    cells = make_grid(lambda algorithm, k, size, seed: hump[size], seeds=(42, 43, 44))
    assert {test.verdict for test in line_tests(results_of(cells))} == {DID_NOT_HOLD}


def test_algorithms_that_disagree_leave_the_claim_undecided_and_are_named():
    cells = make_grid(
        lambda algorithm, k, size, seed: 0.3 + 0.01 * diversity(size) + (0.03 if algorithm == "PRO" else -0.03) * k,
        seeds=(42, 43, 44),
    )
    claim = verdicts(comparisons(results_of(cells)), line_tests(results_of(cells)))[0]
    assert claim.verdict == UNDECIDED
    assert [detail.split(" (")[0] for detail in claim.details] == [
        "PRO, K=4 M=1500 against K=2 M=3000: held",
        "SFT, K=4 M=1500 against K=2 M=3000: did not hold",
    ]


def test_the_verdict_is_on_the_global_pool_and_on_four_against_two():
    compared = comparisons(results_of(make_grid(reward_of(0.01, 0.03), seeds=(42, 43, 44))))
    turned = [
        one
        if one.pool == "Global" and one.more_responses.ranking_len - one.more_prompts.ranking_len == 2
        else replace(one, verdict=DID_NOT_HOLD)
        for one in compared
    ]
    assert verdicts(turned, [])[0].verdict == HELD
    assert len(verdicts(turned, [])[0].details) == 2


def test_the_difference_of_a_pair_is_the_paired_bootstraps():
    """By the definition: test prompts and seeds of the differences are redrawn."""
    results = results_of(make_grid(reward_of(0.01, 0.03), algorithms=("PRO",), seeds=(42, 43, 44)))
    found = {(one.pool, one.more_responses, one.more_prompts): one for one in comparisons(results)}
    assert len(found) == 3 * 3
    pair = Setting("PRO", 4, 1500), Setting("PRO", 2, 3000)
    for pool in POOLS:
        one = found[pool, *pair]
        first, second = (results.rewards(setting, (42, 43, 44), pool) for setting in pair)
        expected = estimate(0, (row_draws(first - second) * seed_weights(3)).sum(axis=1))
        assert one.difference.value == pytest.approx((first - second).mean())
        assert one.difference.low == pytest.approx(expected.low)
        assert one.difference.high == pytest.approx(expected.high)
        assert one.n_seeds == 3
    assert found["Global", *pair].difference.value == pytest.approx(0.06 + 0.01 * (diversity(1500) - diversity(3000)))


def test_holm_runs_over_the_whole_table():
    found = comparisons(results_of(make_grid(reward_of(0.01, 0.012), noise=0.1)))
    assert len(found) == 2 * 3 * 3
    assert [one.holm_p for one in found] == holm([one.difference.p for one in found])


def test_pairs_use_the_seeds_that_both_have_and_skip_without_one():
    cells = make_grid(reward_of(0.01, 0.03), algorithms=("SFT",), seeds=(42, 43))
    kept = [
        cell
        for cell in cells
        if not (cell["ranking_len"], cell["num_prompts"], cell["seed"]) == (4, 1500, 42)
        and not (cell["ranking_len"], cell["num_prompts"]) == (3, 2000)
    ]
    found = [one for one in comparisons(results_of(kept)) if one.pool == "Global"]
    assert [(one.more_responses, one.more_prompts, one.n_seeds) for one in found] == [
        (Setting("SFT", 4, 1500), Setting("SFT", 2, 3000), 1)
    ]


def test_lines_are_fitted_to_the_mean_over_prompts_and_seeds():
    cells = make_grid(
        lambda algorithm, k, size, seed: 0.2 + 0.01 * diversity(size) + 0.02 * (seed - 43), seeds=(42, 44)
    )
    test = line_tests(results_of(cells))[0]
    assert (test.algorithm, test.ranking_len, test.n_sizes, test.n_seeds) == ("PRO", 2, 4, 2)
    assert test.fits["D"].line.slope == pytest.approx(0.01)
    assert test.fits["D"].line.intercept == pytest.approx(0.2)
    assert test.fits["log M"].line.slope == pytest.approx(0.024)  # D = 12 + 2.4 log(M / 1500)
    assert test.fits["M"].line.r2 < test.fits["D"].line.r2 == pytest.approx(1)
    assert test.fits["D"].slope.low < 0.01 < test.fits["D"].slope.high


def test_left_out_errors_are_those_of_the_line_through_the_other_sizes():
    """D here bends away from log M."""
    scores = {size: 10 + (size / 1500) ** 0.5 for size in SIZES}

    def reward(algorithm, k, size, seed):
        return 0.2 * scores[size] - 1.8

    cells = make_grid(reward, algorithms=("SFT",), seeds=(42, 43), noise=0.002)
    for cell in cells:
        cell["diversity"]["score"] = scores[cell["num_prompts"]]
    for test in line_tests(results_of(cells)):
        for name, x in (("D", list(scores.values())), ("log M", list(np.log(SIZES)))):
            y = [reward("SFT", 2, size, 42) for size in SIZES]
            left_out = []
            for i in range(4):
                line = fit_line(x[:i] + x[i + 1 :], y[:i] + y[i + 1 :])
                left_out.append((line.slope * x[i] + line.intercept - y[i]) ** 2)
            assert test.fits[name].line.loo_mse == pytest.approx(np.mean(left_out), abs=1e-9)
            low, high = test.fits[name].loo_mse
            assert 0 <= low <= test.fits[name].line.loo_mse <= high


def test_fewer_than_three_sizes_decide_nothing():
    cells = make_grid(reward_of(0.01, 0.03), sizes=(1500, 3000), seeds=(42, 43, 44))
    assert {test.verdict for test in line_tests(results_of(cells))} == {UNDECIDED}
    single = line_tests(results_of(make_grid(reward_of(0.01, 0.03), sizes=(1500,), seeds=(42, 43, 44))))
    assert {(test.verdict, len(test.fits)) for test in single} == {(NO_VERDICT, 0)}


def test_settings_without_a_usable_d_are_left_out_of_the_lines_and_named():
    cells = make_grid(reward_of(0.01, 0.03), algorithms=("PRO",), seeds=(42, 43))
    cells[0]["diversity"] = None  # K=2 M=1500
    cells[2]["diversity"]["score"] += 1  # K=2 M=2000, one of two seeds
    cells[4]["diversity"]["tokenizer"] = cells[5]["diversity"]["tokenizer"] = "other"  # K=2 M=3000
    results = results_of(cells)
    assert len(results.diversity) == 9 and Setting("PRO", 2, 6000) in results.diversity
    assert [warning.split("; excluded")[0] for warning in results.warnings] == [
        "PRO K=2 M=1500: no D recorded",
        "PRO K=2 M=2000: D differs between seeds",
        "PRO K=2 M=3000: D computed with a tokenizer other than toy",
    ]
    assert [test.n_sizes for test in line_tests(results)] == [1, 4, 4]
    assert len(comparisons(results)) == 9  # the rewards themselves are as good as any


def test_no_cells_no_claims():
    assert comparisons(results_of([])) == [] == line_tests(results_of([]))
    assert [one.verdict for one in verdicts([], [])][:2] == [NO_VERDICT, NO_VERDICT]


def test_chosen_subsets_take_no_part():
    cells = make_grid(reward_of(0.01, 0.03))
    chosen = [{**copy.deepcopy(cell), "selection": "max_diversity"} for cell in cells]
    assert results_of(cells + chosen).random == results_of(cells).settings


def test_what_must_not_be_mixed_is_refused():
    cells = make_grid(reward_of(0.01, 0.03))
    with pytest.raises(InputError, match="2 different worlds: abc, def"):
        results_of([*cells, {**make_cell("PRO", 2, 1500, 43, 0.5), "world": "def"}])
    with pytest.raises(InputError, match="duplicate cell: PRO K=2 M=1500 seed=42"):
        results_of([*cells, make_cell("PRO", 2, 1500, 42, 0.5)])
    with pytest.raises(InputError, match="same test rows"):
        results_of([*cells, make_cell("PRO", 2, 1500, 43, 0.5, rows=FEW_ROWS)]).bootstrap("Global")
