"""Estimates on plain arrays: fits against the paper's numbers, bootstrap against theory, Holm by hand."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from eval_hh.estimates import (
    Prediction,
    average_mse,
    bootstrap_interval,
    budgets,
    fit_line,
    holm,
    predict_point,
    prediction_difference,
)

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


def test_holm_by_hand():
    # Sorted 0.01 x 4, 0.02 x 3, 0.03 x 2 (= 0.06, as the one before), 0.9 x 1.
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
    nothing, *tested = holm([math.nan, 0.01, 0.04])  # what was not tested is not counted
    assert math.isnan(nothing) and tested == pytest.approx([0.02, 0.04])


def test_budgets_of_the_papers_sizes():
    assert budgets(SIZES) == [{2: 24000, 3: 16000, 4: 12000}, {2: 3000, 3: 2000, 4: 1500}]


def test_budgets_allow_rounding_and_prefer_all_three_sizes():
    assert budgets([100, 67, 50, 25]) == [{2: 100, 3: 67, 4: 50}]
    assert budgets([7, 3]) == [] and budgets([6, 3]) == [{2: 6, 4: 3}]  # 14 and 12 responses do not cost the same
    assert budgets([100, 60, 50]) == [{2: 100, 4: 50}] and budgets([100, 60]) == [] == budgets([])


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


def test_aic_of_a_line_by_its_likelihood():
    """Twice the parameters (slope, intercept, variance) minus twice the log-likelihood, up to a constant."""
    line, n = fit_line(D, PRO[2]), len(D)
    residual = np.array(PRO[2]) - line.slope * np.array(D) - line.intercept
    likelihood = scipy.stats.norm(0, residual.std()).logpdf(residual).sum()
    assert line.aic(n) == pytest.approx(6 - 2 * likelihood - n * (1 + math.log(2 * math.pi)))
