"""Estimates and rules: fits against the paper's numbers, bootstrap against theory, Holm by hand, the rules."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from eval_hh.analysis.rules import (
    DID_NOT_HOLD,
    HELD,
    NO_VERDICT,
    UNDECIDED,
    combine,
    decide_line,
    decide_pair,
    decide_sign,
)
from eval_hh.estimates import (
    Estimate,
    Prediction,
    average_mse,
    bend_p,
    bootstrap_interval,
    budgets,
    coefficient_draws,
    error_interval,
    estimate,
    fit_line,
    fit_lines,
    holm,
    predict_point,
    prediction_difference,
    row_draws,
    seed_weights,
)


def paired_bootstrap(first, second, n_draws=4000, seed=0) -> Estimate:
    """Mean of first - second, both [seeds, rows] on the same seeds and rows; seeds and rows are redrawn."""
    draws = row_draws(first - second, n_draws, seed) * seed_weights(len(first), n_draws, seed)
    return estimate((first - second).mean(), draws.sum(axis=1))


# The paper's Figure 4, written out here so that a slip in pics/paper_results.json cannot hide.
SIZES = [1500, 2000, 3000, 6000, 12000, 16000, 24000, 36000]
D = [12.70, 13.56, 14.86, 17.00, 18.87, 19.52, 20.29, 20.79]
PRO = {
    2: [0.4764, 0.4857, 0.5013, 0.5201, 0.5278, 0.5273, 0.5378, 0.5367],
    3: [0.4956, 0.5076, 0.5328, 0.5253, 0.5391, 0.5467, 0.5551, 0.5543],
    4: [0.5228, 0.5254, 0.5419, 0.5496, 0.5530, 0.5512, 0.5596, 0.5579],
}
SFT = {
    2: [0.4985, 0.4933, 0.5047, 0.5113, 0.5225, 0.5278, 0.5263, 0.5341],
    3: [0.5159, 0.5126, 0.5135, 0.5285, 0.5360, 0.5418, 0.5420, 0.5508],
    4: [0.5193, 0.5197, 0.5303, 0.5421, 0.5506, 0.5500, 0.5627, 0.5602],
}


@pytest.mark.parametrize(
    ("x", "rewards", "printed"),
    [
        (SIZES, PRO, 1.23e-4),
        (D, PRO, 2.57e-5),
        (D, SFT, 9.30e-6),
        (np.log(SIZES), PRO, 3.5e-5),
        (np.log(SIZES), SFT, 8.8e-6),
    ],
)
def test_the_papers_mean_squared_errors_come_out(x, rewards, printed):
    digits = 3 if printed in (1.23e-4, 2.57e-5, 9.30e-6) else 2
    mse = average_mse([fit_line(x, values) for values in rewards.values()])
    assert float(f"{mse:.{digits - 1}e}") == printed


@pytest.mark.parametrize(
    ("rewards", "printed"),
    [
        (PRO, {2: (0.00732, 0.3882), 3: (0.00646, 0.4210), 4: (0.00426, 0.4719)}),
        (SFT, {2: (0.00465, 0.4348), 3: (0.00452, 0.4524), 4: (0.00536, 0.4497)}),
    ],
)
def test_the_papers_lines_come_out(rewards, printed):
    lines = {k: fit_line(D, values) for k, values in rewards.items()}
    assert {k: (round(line.slope, 5), round(line.intercept, 4)) for k, line in lines.items()} == printed


def test_a_line_by_hand():
    # y = 1, 3, 2 at x = 0, 1, 2: slope ((-1)(-1) + 0 + 1 * 0) / 2 = 1/2, intercept 2 - 1/2; residuals -1/2, 1, -1/2.
    line = fit_line([0, 1, 2], [1, 3, 2])
    assert (line.slope, line.intercept) == (0.5, 1.5)
    assert line.mse == pytest.approx((0.25 + 1 + 0.25) / 3)
    assert line.r2 == pytest.approx(1 - 1.5 / 2)
    # Left out in turn: through (1, 3), (2, 2) 4 at x = 0; through (0, 1), (2, 2) 1.5 at 1; (0, 1), (1, 3) 5 at 2.
    assert line.loo_mse == pytest.approx((3**2 + 1.5**2 + 3**2) / 3)


def test_leave_one_out_equals_refitting():
    squared = []
    for left_out in range(8):
        rest = [i for i in range(8) if i != left_out]
        fit = scipy.stats.linregress([D[i] for i in rest], [PRO[3][i] for i in rest])
        squared.append((PRO[3][left_out] - fit.intercept - fit.slope * D[left_out]) ** 2)
    assert fit_line(D, PRO[3]).loo_mse == pytest.approx(np.mean(squared))


def test_lines_at_the_edges():
    assert math.isnan(fit_line([1, 2], [0, 1]).loo_mse)
    assert fit_line([1, 2, 3], [5, 5, 5]).r2 == 0.0
    with pytest.raises(ValueError, match="two different x"):
        fit_line([1, 1], [0, 1])


def test_row_draws_have_the_variance_of_a_mean_and_keep_cells_paired():
    rewards = np.random.default_rng(1).uniform(size=(2, 300))
    stacked = np.vstack([rewards, rewards[0] + 0.25])
    draws = row_draws(stacked, n_draws=4000)
    np.testing.assert_allclose(draws.mean(axis=0), stacked.mean(axis=1), atol=0.002)
    # The variance of a bootstrap mean is exactly the population variance of the rows over their number.
    np.testing.assert_allclose(draws.var(axis=0), stacked.var(axis=1) / 300, rtol=0.08)
    np.testing.assert_allclose(draws[:, 2] - draws[:, 0], 0.25)  # same rows in every cell of a draw


def test_row_draws_do_not_depend_on_how_they_are_cut_into_chunks():
    rewards = np.random.default_rng(1).uniform(size=(1, 1100))  # 4000 draws of 1100 rows are three chunks
    counts = []
    rng = np.random.default_rng(5)
    for _ in range(3):
        counts.append(np.bincount(rng.integers(0, 1100, 1100), minlength=1100))
    slow = [float((count * rewards[0]).sum() / 1100) for count in counts]
    np.testing.assert_allclose(row_draws(rewards, n_draws=4000, seed=5)[:3, 0], slow)


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_seed_weights_give_the_unbiased_variance_of_a_mean_over_seeds(n_seeds):
    values = np.random.default_rng(n_seeds).normal(size=n_seeds)
    weights = seed_weights(n_seeds, n_draws=40000)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (weights @ values).var() == pytest.approx(values.var(ddof=1) / n_seeds, rel=0.05)


def test_one_seed_is_always_taken_whole():
    np.testing.assert_array_equal(seed_weights(1, 7), np.ones((7, 1)))


def test_paired_bootstrap_agrees_with_the_t_test_for_one_seed():
    rng = np.random.default_rng(2)
    shared = rng.uniform(0.2, 0.8, 400)
    first = shared + rng.normal(0.006, 0.05, 400)
    found = paired_bootstrap(first[None], shared[None], n_draws=20000)
    test = scipy.stats.ttest_rel(first, shared)
    low, high = test.confidence_interval()
    assert found.value == pytest.approx((first - shared).mean())
    np.testing.assert_allclose([found.low, found.high], [low, high], atol=0.0004)
    assert found.p == pytest.approx(test.pvalue, rel=0.3)
    # Unpaired, the same difference would be lost in the spread between prompts.
    assert scipy.stats.ttest_ind(first, shared).pvalue > 0.3


def test_paired_bootstrap_counts_the_spread_over_seeds():
    rows = np.random.default_rng(3).normal(0, 0.001, (3, 2000))
    first = rows + np.array([[-0.03], [0.0], [0.06]])
    found = paired_bootstrap(first, rows)
    assert found.value == pytest.approx(0.01)
    assert found.low == pytest.approx(-0.03) and found.high == pytest.approx(0.06)
    one = paired_bootstrap(first[2:], rows[2:])
    assert one.low == pytest.approx(0.06)


def test_paired_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(4)
    covered = 0
    for trial in range(300):
        noise = rng.exponential(0.1, (1, 150)) - 0.1
        found = paired_bootstrap(0.02 + noise, np.zeros((1, 150)), n_draws=400, seed=trial)
        covered += found.low <= 0.02 <= found.high
    assert 0.90 <= covered / 300 <= 0.98


def test_paired_bootstrap_covers_the_truth_with_three_seeds_too():
    rng = np.random.default_rng(6)
    covered = 0
    for trial in range(200):
        noise = rng.normal(0, 0.01, (3, 1)) + rng.normal(0, 0.1, (1, 300)) + rng.normal(0, 0.1, (3, 300))
        found = paired_bootstrap(0.02 + noise, np.zeros((3, 300)), n_draws=400, seed=trial)
        covered += found.low <= 0.02 <= found.high
    assert 0.91 <= covered / 200 <= 0.99


def test_identical_cells_differ_by_nothing_with_p_one():
    same = np.random.default_rng(0).uniform(size=(2, 50))
    assert paired_bootstrap(same, same) == Estimate(0.0, 0.0, 0.0, 1.0)


def test_estimate_by_hand():
    draws = np.arange(-2, 98) / 10  # -0.2 ... 9.7: two below zero and zero itself are on the far side
    found = estimate(4.75, draws)
    assert found.p == pytest.approx(2 * (3 + 1) / 101)
    assert (found.low, found.high) == (pytest.approx(-0.2 + 9.9 * 0.025), pytest.approx(-0.2 + 9.9 * 0.975))


def test_holm_by_hand():
    # Sorted 0.01 x 4, 0.02 x 3, 0.03 x 2 (= 0.06, as the one before), 0.9 x 1.
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_lines_of_many_draws_are_least_squares_lines():
    draws = np.random.default_rng(0).normal(size=(5, 8))
    fitted = fit_lines(D, draws)
    expected = np.array([np.polyfit(D, row, 1) for row in draws])
    np.testing.assert_allclose(np.column_stack([fitted["slope"], fitted["intercept"]]), expected)
    for name, values in fitted.items():
        np.testing.assert_allclose(values, [getattr(fit_line(D, row), name) for row in draws])


def test_coefficients_on_two_predictors_against_numpy():
    rng = np.random.default_rng(3)
    first, second, draws = rng.normal(size=6), rng.normal(size=6), rng.normal(size=(4, 6))
    design = np.column_stack([first, second, np.ones(6)])
    expected = [np.linalg.lstsq(design, row, rcond=None)[0][:2] for row in draws]
    np.testing.assert_allclose(coefficient_draws([first, second], draws), expected)
    with pytest.raises(ValueError, match="do not tell 2 predictors apart"):
        coefficient_draws([first, 2 * first + 1], draws)


def test_the_interval_of_an_error_lies_about_it_and_not_below_zero():
    draws = np.arange(101) / 100 + 3  # the noise of the draws raised the error by 3 and more
    assert error_interval(0.5, draws) == (pytest.approx(0.025), pytest.approx(0.975))
    assert error_interval(0.1, draws)[0] == 0.0


def test_bend_p_tells_a_bend_from_noise():
    noise = np.random.default_rng(0).normal(0, 0.01, (2000, 5))
    x = np.arange(5.0)
    straight = 0.3 + 0.1 * x
    bent = straight + np.array([0, 0.05, 0.1, 0.05, 0])
    assert bend_p(x, bent, bent + noise) < 0.001
    assert bend_p(x, straight, straight + noise) == 1.0
    # With truly straight points and the draws' own noise the p is uniform: under 0.05 about once in 20.
    rng = np.random.default_rng(1)
    small = [bend_p(x, y, y + noise) < 0.05 for y in straight + rng.normal(0, 0.01, (400, 5))]
    assert 0.02 < np.mean(small) < 0.09


def test_budgets_of_the_papers_sizes():
    assert budgets(SIZES) == [{2: 24000, 3: 16000, 4: 12000}, {2: 3000, 3: 2000, 4: 1500}]


def test_budgets_allow_rounding_and_need_all_three_sizes():
    assert budgets([100, 67, 50, 25]) == [{2: 100, 3: 67, 4: 50}]
    assert budgets([100, 60, 50]) == [] and budgets([]) == []


def test_equal_budget_rule():
    assert decide_sign(0.001, 0.02) == HELD
    assert decide_sign(-0.02, -0.001) == DID_NOT_HOLD
    assert decide_sign(-0.001, 0.02) == UNDECIDED
    assert decide_sign(0.0, 0.02) == UNDECIDED and decide_sign(0.0, 0.0) == UNDECIDED


def test_a_pair_needs_three_seeds_and_its_corrected_p():
    above, below, about = Estimate(0.02, 0.01, 0.03, 0.001), Estimate(-0.02, -0.03, -0.01, 0.001), FLAT
    assert [decide_pair(one, 0.049, 3) for one in (above, below, about)] == [HELD, DID_NOT_HOLD, UNDECIDED]
    assert [decide_pair(one, 0.05, 3) for one in (above, below, about)] == [UNDECIDED] * 3
    assert [decide_pair(one, 0.001, 2) for one in (above, below, about)] == [NO_VERDICT] * 3


RISING = Estimate(0.01, 0.005, 0.015, 0.001)
FALLING = Estimate(-0.01, -0.015, -0.005, 0.001)
FLAT = Estimate(0.001, -0.005, 0.007, 0.8)


@pytest.mark.parametrize(
    ("n_sizes", "n_seeds", "slope", "r2", "bend", "verdict", "reason"),
    [
        (4, 3, RISING, 0.95, 0.5, UNDECIDED, "explains 95%"),
        (4, 2, RISING, 0.8, 0.5, NO_VERDICT, "explains 80%"),
        (4, 3, RISING, 0.95, 0.001, UNDECIDED, "a slight bend that explains little"),
        (4, 3, FALLING, 0.95, 0.5, DID_NOT_HOLD, "falls"),
        (4, 3, RISING, 0.5, 0.001, DID_NOT_HOLD, "leave the line"),
        (4, 3, FLAT, 0.1, 0.001, DID_NOT_HOLD, "leave the line"),
        (4, 2, RISING, 0.5, 0.001, NO_VERDICT, "explains 50%"),
        (4, 1, FALLING, 0.95, 0.5, NO_VERDICT, "explains 95%"),
        (4, 3, RISING, 0.5, 0.5, UNDECIDED, "less than 80%"),
        (4, 3, FLAT, 0.9, 0.5, UNDECIDED, "includes zero"),
        (2, 3, RISING, 1.0, 1.0, UNDECIDED, "2 sizes"),
    ],
)
def test_line_rule(n_sizes, n_seeds, slope, r2, bend, verdict, reason):
    found, why = decide_line(n_sizes, n_seeds, slope, r2, bend)
    assert found == verdict
    assert reason in why or "slight bend" in reason


def test_a_claim_needs_every_case():
    assert combine([HELD, HELD]) == HELD
    assert combine([HELD, UNDECIDED]) == UNDECIDED
    assert combine([DID_NOT_HOLD, DID_NOT_HOLD]) == DID_NOT_HOLD
    assert combine([HELD, DID_NOT_HOLD]) == UNDECIDED == combine([UNDECIDED, DID_NOT_HOLD])
    assert combine([HELD, NO_VERDICT]) == NO_VERDICT == combine([])


def test_bootstrap_of_equal_values_is_that_value():
    assert bootstrap_interval([0.25] * 7) == (0.25, 0.25)
    assert bootstrap_interval([3.0]) == (3.0, 3.0)


def test_bootstrap_of_two_values_by_hand():
    """The mean of two draws from {0, 1} is 0, 1/2, 1/2 or 1 with chance 1/4 each."""
    assert bootstrap_interval([0.0, 1.0], level=0.95) == (0.0, 1.0)
    assert bootstrap_interval([0.0, 1.0], level=0.4) == (0.5, 0.5)


def test_bootstrap_against_every_possible_resample():
    values = [0.1, 0.5, 0.2, 0.9, 0.4]
    means = [sum(draw) / 5 for draw in itertools.product(values, repeat=5)]
    exact = np.quantile(means, [0.025, 0.975])
    assert bootstrap_interval(values, n_resamples=20000) == pytest.approx(tuple(exact), abs=0.01)


def test_bootstrap_against_scipy():
    values = np.random.default_rng(5).beta(2, 3, size=300)
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=1)
    found = bootstrap_interval(values, n_resamples=5000)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert found == pytest.approx(tuple(expected.confidence_interval), abs=0.04 * width)
    assert bootstrap_interval(values) == bootstrap_interval(list(values)), "seeded, so always the same"


def test_bootstrap_in_chunks_has_the_same_spread(monkeypatch):
    values = np.random.default_rng(5).beta(2, 3, size=300)
    whole = bootstrap_interval(values)
    monkeypatch.setattr("eval_hh.estimates.CHUNK", 1000)
    assert bootstrap_interval(values) == pytest.approx(whole, abs=0.01)


def test_a_predicted_point_by_hand():
    """y = 1.5 x - 2/3 leaves 1/6, -1/3, 1/6, so s^2 = 1/6; at 4, s^2 (1 + 1/3 + 2^2 / 2) = 5/9; t(1) is 12.7062."""
    found = predict_point([1, 2, 3], [1, 2, 4], 4)
    assert (found.value, found.error, found.df) == pytest.approx((16 / 3, math.sqrt(5 / 9), 1))
    half = 12.7062 * math.sqrt(5 / 9)
    assert (found.low, found.high) == pytest.approx((16 / 3 - half, 16 / 3 + half), abs=1e-4)
    exact = predict_point([1, 2, 3, 4], [2, 4, 6, 8], 9)
    assert (exact.low, exact.high) == pytest.approx((18, 18))
    for x, y in (([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3])):
        with pytest.raises(ValueError):
            predict_point(x, y, 4)


def test_a_predicted_point_of_the_papers_line_by_scipys_regression():
    """From linregress: the slope's standard error is s / sqrt(Sxx)."""
    line = scipy.stats.linregress(D, PRO[4])
    spread = sum((value - np.mean(D)) ** 2 for value in D)
    s = line.stderr * math.sqrt(spread)
    for at in (12.7, 16.83):
        found = predict_point(D, PRO[4], at)
        half = 2.446912 * s * math.sqrt(1 + 1 / 8 + (at - np.mean(D)) ** 2 / spread)  # t(6), from a table
        centre = line.slope * at + line.intercept
        assert (found.low, found.high) == pytest.approx((centre - half, centre + half), abs=1e-8)


def test_the_difference_of_two_predictions_is_welchs_interval():
    """Two means with their standard errors make Welch's two-sample interval, which scipy has."""
    rng = np.random.default_rng(4)
    samples = rng.normal(0, 1, 9), rng.normal(1, 3, 14)
    one, other = (Prediction(x.mean(), x.std(ddof=1) / len(x) ** 0.5, len(x) - 1, math.nan, math.nan) for x in samples)
    found = prediction_difference(one, other)
    welch = scipy.stats.ttest_ind(*samples, equal_var=False)
    interval = welch.confidence_interval(0.95)
    assert (found.df, found.low, found.high) == pytest.approx((welch.df, interval.low, interval.high))
    exact = replace(one, error=0.0)
    assert prediction_difference(exact, exact).low == 0
