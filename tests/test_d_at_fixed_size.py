"""D at fixed size: made-up cells in which reward follows D, or M alone, get the numbers that they should."""

import math

import numpy as np
import pytest

from data_preprocess.subsets import RANDOM
from eval_hh.analysis.d_at_fixed_size import CONTROL, TREATED, fixed_size_tests
from eval_hh.analysis.equal_budget import comparisons
from eval_hh.analysis.lines_on_d import line_tests
from eval_hh.analysis.rules import NO_VERDICT, UNDECIDED
from eval_hh.analysis.verdicts import NOT_TESTED, verdicts
from tests.made_up import SIZES, diversity, make_cell, results_of

M = 2000
SHIFT = {CONTROL: -2.0, RANDOM: 0.0, TREATED: 1.5}  # of D
SEEDS = (42, 43)


def cells_with(reward, noise=0.02, seeds=SEEDS) -> list[dict]:
    """Random cells of four sizes and chosen ones at M, `reward(M, D)` each, for SFT and K = 2."""
    cells = []
    for selection, shift in SHIFT.items():
        for size in SIZES if selection == RANDOM else (M,):
            for seed in seeds:
                d = diversity(size) + shift
                cell = make_cell("SFT", 2, size, seed, reward(size, d), noise + 1e-4 * len(selection))
                cell["selection"] = selection
                cell["diversity"] = {"score": d, "unique": 1, "total": 10 * size, "samples": size, "tokenizer": "toy"}
                cells.append(cell)
    return cells


def test_reward_that_follows_d():
    (test,) = fixed_size_tests(results_of(cells_with(lambda size, d: 0.3 + 0.01 * d)))
    assert (test.algorithm, test.ranking_len, test.num_prompts, test.n_seeds) == ("SFT", 2, M, 2)
    assert test.difference.value == pytest.approx(0.01 * 3.5)
    assert test.expected == pytest.approx(0.01 * 3.5)  # the random subsets' line says the same
    assert test.extrapolated  # low D is below that of the smallest random subset
    assert test.beyond_size.value == pytest.approx(0.01)
    assert test.holm_p == test.difference.p
    low, random, high = test.choices
    assert (low.selection, random.selection, high.selection) == (CONTROL, RANDOM, TREATED)
    assert (low.diversity, random.length) == (pytest.approx(diversity(M) - 2.0), 10)
    assert high.reward == pytest.approx(0.3 + 0.01 * (diversity(M) + 1.5)) and high.spread == pytest.approx(0, abs=1e-9)


def test_reward_that_follows_the_number_of_prompts_alone():
    """The line on D fits the random subsets to perfection, and D says nothing."""
    (test,) = fixed_size_tests(results_of(cells_with(lambda size, d: 0.3 + 0.01 * diversity(size))))
    assert test.expected == pytest.approx(0.01 * 3.5)
    assert test.difference.value == pytest.approx(0, abs=1e-9) and test.beyond_size.value == pytest.approx(0, abs=1e-9)


def test_reward_that_falls_with_d():
    (test,) = fixed_size_tests(results_of(cells_with(lambda size, d: 0.5 + 0.02 * diversity(size) - 0.02 * d)))
    assert test.beyond_size.high < 0


def test_the_coefficient_is_that_of_least_squares():
    cells = cells_with(lambda size, d: 0.3 + 0.002 * d + 0.01 * (size == M))
    (test,) = fixed_size_tests(results_of(cells))
    sizes = [*SIZES, M, M]
    scores = [*(diversity(size) for size in SIZES), diversity(M) - 2.0, diversity(M) + 1.5]
    rewards = [0.3 + 0.002 * d + 0.01 * (size == M) for size, d in zip(sizes, scores, strict=True)]
    design = np.column_stack([np.log(sizes), scores, np.ones(6)])
    assert test.beyond_size.value == pytest.approx(np.linalg.lstsq(design, np.array(rewards), rcond=None)[0][1])


def test_what_was_not_run_is_not_tested():
    cells = cells_with(lambda size, d: 0.3 + 0.01 * d)
    assert fixed_size_tests(results_of([cell for cell in cells if cell["selection"] != CONTROL])) == []
    assert (
        fixed_size_tests(
            results_of([cell for cell in cells if (cell["selection"], cell["num_prompts"]) != (RANDOM, M)])
        )
        == []
    )
    without_d = [{**cell, "diversity": None} if cell["selection"] == TREATED else cell for cell in cells]
    assert fixed_size_tests(results_of(without_d)) == [] == fixed_size_tests(results_of([]))
    assert verdicts([], [], [])[3].verdict == NOT_TESTED
    # Seeds that one choice lacks are left out for all.
    (test,) = fixed_size_tests(
        results_of([cell for cell in cells if (cell["selection"], cell["seed"]) != (CONTROL, 43)])
    )
    assert test.n_seeds == 1 and math.isnan(test.choices[0].spread)


def test_one_random_size_leaves_the_difference_alone():
    cells = cells_with(lambda size, d: 0.3 + 0.01 * d)
    (test,) = fixed_size_tests(results_of([cell for cell in cells if cell["num_prompts"] == M]))
    assert test.beyond_size is None and math.isnan(test.expected)
    assert test.difference.value == pytest.approx(0.01 * 3.5)


@pytest.mark.parametrize("slope", [0.01, 0.0, -0.01])
def test_no_difference_decides_the_claim_and_the_report_says_why(slope):
    """Sets of low and of high D are not matched by kind of prompt, so that neither sign need come from D."""
    cells = cells_with(lambda size, d: 0.5 + slope * (d - 12), seeds=(42, 43, 44))
    claim = verdicts([], [], fixed_size_tests(results_of(cells)))[3]
    assert claim.verdict == UNDECIDED and "not in kind of prompt" in claim.details[0]
    said = claim.details[1].replace("-0.00", "+0.00")
    assert said.startswith(f"SFT, K=2 M=2000, D 10.69 to 14.19: difference {350 * slope:+.2f}")
    assert f"predicted by the line on D {350 * slope:+.2f} (extrapolated)" in said
    few = fixed_size_tests(results_of([cell for cell in cells if cell["seed"] != 44]))
    assert verdicts([], [], few)[3].verdict == NO_VERDICT


def test_chosen_cells_stay_out_of_the_papers_claims():
    cells = cells_with(lambda size, d: 0.3 + 0.01 * d)
    results, random = results_of(cells), results_of([cell for cell in cells if cell["selection"] == RANDOM])
    assert results.random == random.settings and line_tests(results) == line_tests(random)
    assert comparisons(results) == comparisons(random)
