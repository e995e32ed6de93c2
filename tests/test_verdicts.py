"""eval_hh/analysis/verdicts.py and rules.py: made-up studies with known effects get the words that they should."""

import math
import re

import numpy as np
import pytest
import scipy.stats

from data_preprocess.subsets import AUGMENT_DIVERSE, AUGMENT_RANDOM, AUGMENTATIONS, RANDOM
from eval_hh.analysis.chosen_prompts import HIGH_D, LOW_D
from eval_hh.analysis.equal_budget import budget_pairs
from eval_hh.analysis.rules import (
    DID_NOT_HOLD,
    HELD,
    MARGIN,
    NO_VERDICT,
    UNDECIDED,
    decide,
    decide_line,
    decide_row,
    needed,
)
from eval_hh.analysis.verdicts import NOT_TESTED, verdicts
from eval_hh.estimates import Contrast, over_replicates
from tests.made_up import SIZES, diversity, make_cell, make_grid, results_of

REPLICATES = (42, 43, 44, 45)
JITTER = {42: -0.003, 43: 0.001, 44: 0.004, 45: -0.002}  # sums to zero


def reward_of(slope: float, per_response: float):
    """Global reward linear in D, and in K at a rate that decides the equal-budget pairs; replicates differ a little."""
    return lambda algorithm, k, size, seed: (
        0.3 + slope * diversity(size) + per_response * k + JITTER[seed] * (k - 3) * (1 + size / 6000)
    )


def words(cells: list[dict]) -> list[str]:
    return [one.verdict for one in verdicts(results_of(cells))]


def contrast(low: float, high: float, n: int = 8) -> Contrast:
    return Contrast((low + high) / 2, low, high, 0.01, n - 1, n)


def test_the_rule_for_an_effect():
    assert decide(contrast(0.001, 0.02)) == HELD
    assert decide(contrast(0.001, 0.019)) == HELD  # within the margin, but above zero
    assert decide(contrast(-0.03, -0.001)) == DID_NOT_HOLD
    assert decide(contrast(-0.019, 0.019)) == DID_NOT_HOLD  # too small to matter
    assert decide(contrast(-0.019, MARGIN)) == UNDECIDED == decide(contrast(0.0, 0.03))
    assert decide(contrast(0.01, 0.02, n=2)) == NO_VERDICT


def test_the_rule_for_a_row_rests_on_its_corrected_p():
    above, below = contrast(0.01, 0.03), contrast(-0.03, -0.01)
    assert [decide_row(one, 0.049) for one in (above, below)] == [HELD, DID_NOT_HOLD]
    assert [decide_row(one, p) for one in (above, below) for p in (0.05, math.nan)] == [UNDECIDED] * 4
    assert decide_row(contrast(0.01, 0.03, n=2), 0.001) == NO_VERDICT


@pytest.mark.parametrize(
    ("slope", "deviation", "excess", "word", "reason"),
    [
        (contrast(0.02, 0.04), 0.5, contrast(0.01, 0.05), HELD, "every rival curve is excluded"),
        (contrast(0.02, 0.04), 0.5, contrast(-0.01, 0.05), UNDECIDED, "fit as well: log M"),
        (contrast(0.02, 0.04), 0.049, contrast(0.01, 0.05), DID_NOT_HOLD, "deviate from the line"),
        (contrast(-0.04, -0.02), 0.5, contrast(-0.05, -0.01), DID_NOT_HOLD, "falls as D rises"),
        (contrast(-0.0019, 0.0019), 0.5, contrast(-0.05, 0.05), DID_NOT_HOLD, "less than 2 points"),
        (contrast(-0.01, 0.04), 0.5, contrast(-0.05, 0.05), UNDECIDED, "includes zero"),
        (contrast(0.02, 0.04), math.nan, contrast(0.01, 0.05), UNDECIDED, "too few sizes or replicates"),
        (contrast(0.02, 0.04, n=2), 0.5, contrast(0.01, 0.05), NO_VERDICT, ""),
    ],
)
def test_the_rule_for_a_line(slope, deviation, excess, word, reason):
    found, why = decide_line(slope, 10.0, deviation, {"log M": excess})
    assert found == word and reason in why
    assert decide_line(contrast(0.02, 0.04), 10.0, 0.5, {})[0] == UNDECIDED


def test_more_responses_that_win():
    cells = make_grid(reward_of(0.0, 0.03), seeds=REPLICATES, draws=True)
    found = verdicts(results_of(cells))
    assert [one.verdict for one in found] == [HELD, DID_NOT_HOLD, NOT_TESTED, NOT_TESTED]  # flat in D
    # K=4 M=1500 minus K=2 M=3000 by hand, the mean of two algorithms that are alike here
    effects = [0.06 + JITTER[seed] * (1.25 + 1.5) for seed in REPLICATES]
    expected = over_replicates(effects)
    assert found[0].primary.difference == pytest.approx(expected.difference)
    assert (found[0].primary.low, found[0].primary.high) == pytest.approx((expected.low, expected.high))
    assert (
        found[0].details[0].startswith(f"Primary effect, the mean of 2 differences: {100 * expected.difference:+.2f}")
    )


def test_more_prompts_that_win_and_reward_that_falls_with_d():
    cells = make_grid(reward_of(-0.02, -0.02), seeds=REPLICATES, draws=True)
    assert words(cells) == [DID_NOT_HOLD, DID_NOT_HOLD, NOT_TESTED, NOT_TESTED]


def test_an_effect_that_is_not_decided_says_how_many_replicates_would():
    cells = make_grid(lambda a, k, size, seed: 0.4 + JITTER[seed] * 4 * (k - 3), seeds=REPLICATES, draws=True)
    claim = verdicts(results_of(cells))[0]
    assert claim.verdict == UNDECIDED
    assert claim.details[-1] == f"Undecided: {needed(claim.primary)}." and "replicates would decide it" in needed(
        claim.primary
    )


@pytest.mark.parametrize("replicates", [(42,), (42, 43)])
def test_fewer_than_three_replicates_give_no_verdict(replicates):
    cells = make_grid(reward_of(0.01, 0.03), seeds=replicates, draws=True)
    found = verdicts(results_of(cells))
    assert [one.verdict for one in found[:2]] == [NO_VERDICT, NO_VERDICT]
    assert any(f"{len(replicates)} of the 3 replicates" in detail for detail in found[0].details)


def test_seeds_of_one_draw_give_no_verdict_and_the_text_says_about_this_draw_only():
    found = verdicts(results_of(make_grid(reward_of(0.01, 0.03), seeds=REPLICATES)))
    assert [one.verdict for one in found[:2]] == [NO_VERDICT, NO_VERDICT]
    assert all("About this draw only" in " ".join(one.details) for one in found[:2])


def test_replicates_that_some_cells_lack_are_left_out_and_counted():
    cells = make_grid(reward_of(0.0, 0.03), seeds=REPLICATES, draws=True)
    kept = [
        one
        for one in cells
        if (one["algorithm"], one["ranking_len"], one["num_prompts"], one["seed"]) != ("SFT", 4, 1500, 45)
    ]
    claim = verdicts(results_of(kept))[0]
    assert claim.primary.n_replicates == 3 and claim.verdict == HELD
    assert "1 replicate is left out because some of the cells lack it." in claim.details
    assert "1 replicate is left out because some of the cells lack it." in verdicts(results_of(kept))[1].details


def test_an_algorithm_that_was_not_run_is_named():
    both = make_grid(reward_of(0.0, 0.03), seeds=REPLICATES, draws=True)
    alone = [cell for cell in both if cell["algorithm"] == "PRO"]
    line = "SFT takes no part: it has no cells for this claim."
    for found, expected in ((both, False), (alone, True)):
        assert [line in one.details for one in verdicts(results_of(found))[:2]] == [expected] * 2


def test_equal_rewards_in_another_order_are_no_difference():
    """Sums of the same numbers in another order differ in the last bits, in each replicate to the same side."""
    cells = make_grid(lambda a, k, size, seed: 0.47, algorithms=("PRO",), seeds=REPLICATES, draws=True, noise=0.0)
    for cell in cells:
        if cell["ranking_len"] == 4:
            for entry in cell["files"].values():
                entry["reward"] = entry["reward"][::-1]
    results = results_of(cells)
    first, second = (results.mean_rewards(one, results.units(one)) for one in budget_pairs(results)[0])
    assert first == pytest.approx(second) and (first != second).all(), "they differ in the last bits"
    assert verdicts(results)[0].primary == Contrast(0.0, 0.0, 0.0, 1.0, 3, 4)


def test_algorithms_count_alike():
    """PRO gains 6 points, SFT loses 6: the primary effect is zero, and within the margin."""
    cells = make_grid(
        lambda a, k, size, seed: 0.4 + 0.03 * k * (1 if a == "PRO" else -1) + JITTER[seed] * (k - 3) / 4,
        seeds=REPLICATES,
        draws=True,
    )
    claim = verdicts(results_of(cells))[0]
    assert claim.primary.difference == pytest.approx(0, abs=0.001) and claim.verdict == DID_NOT_HOLD


def test_nothing_run_is_not_tested():
    assert words([make_cell("PRO", 2, 1500, 42, 0.5)]) == [NOT_TESTED] * 4
    without_d = make_grid(reward_of(0.01, 0.03), seeds=REPLICATES, draws=True)
    for cell in without_d:
        cell["diversity"] = None
    assert words(without_d)[:2] == [HELD, NOT_TESTED]


def chosen(selection: str, size: int, reward: float, seed: int, d: float, k: int = 2) -> dict:
    cell = make_cell("SFT", k, size, seed, reward + JITTER[seed] * (round(d) % 2), draw=seed)
    record = {"score": d, "unique": 1, "total": 10 * size, "samples": size, "tokenizer": "toy"}
    cell |= {"selection": selection, "diversity": record}
    return cell | ({"base_prompts": 48} if selection in AUGMENTATIONS else {})


@pytest.mark.parametrize(("gain", "word"), [(0.05, HELD), (-0.05, DID_NOT_HOLD), (0.001, DID_NOT_HOLD)])
def test_claim_three_is_diverse_minus_random_additions(gain, word):
    cells = [
        chosen(name, 120, 0.5 + gain * (name != AUGMENT_RANDOM), seed, 5.0 + (name != AUGMENT_RANDOM), k)
        for name in (AUGMENT_RANDOM, AUGMENT_DIVERSE)
        for seed in REPLICATES
        for k in (2, 4)
    ]
    claim = verdicts(results_of(cells))[2]
    assert claim.verdict == word and "mean of 2 differences" in claim.details[0]
    assert claim.primary.difference == pytest.approx(gain, abs=0.002)


@pytest.mark.parametrize("slope", [0.01, 0.0])
def test_claim_four_tests_the_prediction_of_the_line(slope):
    """Random subsets lie on a line of slope 0.01 on D; at one size D counts for `slope`, so the line can be wrong."""
    cells = [
        chosen(RANDOM, size, 0.3 + 0.01 * diversity(size), seed, diversity(size))
        for size in SIZES
        for seed in REPLICATES
    ]
    cells += [
        chosen(name, 2000, 0.4 + slope * shift, seed, diversity(2000) + shift)
        for name, shift in ((LOW_D, -4.0), (HIGH_D, 3.0))
        for seed in REPLICATES
    ]
    claim = verdicts(results_of(cells))[3]
    assert claim.verdict == (HELD if slope else DID_NOT_HOLD)
    assert claim.details[-2].startswith("The lines on D through random subsets predict +7.00 points")
    excess = float(re.search(r"minus predicted: ([+-][\d.]+) points", claim.details[-1])[1])
    assert excess == pytest.approx(100 * (slope - 0.01) * 7, abs=0.005)


def test_needed_replicates_are_those_of_the_power_calculation():
    effects = np.array([0.01, 0.09, -0.03, 0.05])
    assert needed(over_replicates(effects)).startswith("about 26 replicates")
    scale = effects.mean() / effects.std(ddof=1)
    power = [scipy.stats.nct(n - 1, scale * n**0.5).sf(scipy.stats.t(n - 1).ppf(0.975)) for n in (25, 26)]
    assert power[0] < 0.8 <= power[1]
    assert "more than 1000" in needed(contrast(-0.9, 0.94, n=3))
