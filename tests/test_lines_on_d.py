"""eval_hh/analysis/lines_on_d.py and joint_fit.py: curves whose truth is known, told from a line or not."""

import numpy as np
import pytest
import scipy.stats

from data_preprocess.subsets import RANDOM
from eval_hh.analysis.chosen_prompts import HIGH_D, LOW_D
from eval_hh.analysis.joint_fit import joint_fits
from eval_hh.analysis.lines_on_d import excess, fit_lines, line_tests, mean_line_test, rival_curves, slope_weights
from eval_hh.analysis.rules import HELD
from eval_hh.estimates import cluster_coefficients, fit_line, lack_of_fit
from tests.made_up import SIZES, diversity, make_cell, make_grid, results_of

X, SIZES_X = [2.5, 2.8, 2.9, 3.4], [48, 120, 160, 240]


def test_slope_weights_are_the_least_squares_slope():
    y = np.array([0.3, 0.5, 0.1, 0.9])
    assert slope_weights(X) @ y == pytest.approx(scipy.stats.linregress(X, y).slope)


@pytest.mark.parametrize("rise", [0.1, 3.0])
def test_the_excess_is_the_slope_on_a_line_and_zero_on_the_rival_curve(rise):
    for curve in rival_curves(X, SIZES_X).values():
        weights = excess(X, curve)
        assert weights @ (0.3 + rise * np.array(X)) == pytest.approx(rise)
        assert weights @ (0.3 + rise * curve) == pytest.approx(0, abs=1e-9)


def test_a_rival_that_is_a_line_on_d_is_never_excluded():
    """Where D is linear in log M, no replicate can tell the two apart."""
    scores = 1 + np.log(SIZES_X)
    assert (excess(scores, np.log(SIZES_X)) == 0).all()
    rewards = 0.1 * scores + np.random.default_rng(0).normal(0, 1e-3, (8, 1)) + np.zeros((8, 4))
    test = fit_lines("", scores, SIZES_X, rewards, one_draw=False)
    assert "fit as well: log M" in test.judge()[1]


def test_lack_of_fit_is_hotellings_test():
    """Against the T-squared of two contrasts by hand, and for one contrast against the t test."""
    rng = np.random.default_rng(1)
    y = rng.normal(0, 1, (7, 3))
    contrast = np.array([X[2] - X[1], X[0] - X[2], X[1] - X[0]])  # vanishes on every line on three x
    assert lack_of_fit(X[:3], y) == pytest.approx(scipy.stats.ttest_1samp(y @ contrast, 0).pvalue)
    y = rng.normal(0, 1, (9, 4))
    basis = np.linalg.svd(np.stack([np.ones(4), X]))[2][2:]
    z = y @ basis.T
    t2 = 9 * z.mean(axis=0) @ np.linalg.inv(np.cov(z.T)) @ z.mean(axis=0)
    assert lack_of_fit(X, y) == pytest.approx(scipy.stats.f(2, 7).sf(7 / (2 * 8) * t2))


def test_lack_of_fit_at_the_edges():
    line = 0.1 + 0.3 * np.array(X)
    assert lack_of_fit(X, np.stack([line, line + 1, line - 2])) == 1.0
    assert lack_of_fit(X, np.stack([np.square(X)] * 3)) == 0.0
    assert np.isnan(lack_of_fit(X, np.stack([line, line])))


def test_lines_are_fitted_to_the_mean_over_prompts_and_replicates():
    cells = make_grid(
        lambda algorithm, k, size, seed: 0.2 + 0.01 * diversity(size) + 0.02 * (seed - 43), seeds=(42, 44), draws=True
    )
    test = line_tests(results_of(cells))[0]
    assert (test.name, len(test.scores), test.n_units) == ("PRO K=2", 4, 2)
    line = test.fits["D"].line
    assert (line.slope, line.intercept) == pytest.approx((0.01, 0.2))
    assert test.fits["log M"].line.slope == pytest.approx(0.024)  # D = 12 + 2.4 log(M / 1500)
    assert test.fits["M"].line.r2 < line.r2 == pytest.approx(1)


def test_left_out_errors_are_those_of_the_line_through_the_other_sizes():
    y = [0.1, 0.35, 0.3, 0.6]
    left_out = []
    for i in range(4):
        line = fit_line(X[:i] + X[i + 1 :], y[:i] + y[i + 1 :])
        left_out.append((line.slope * X[i] + line.intercept - y[i]) ** 2)
    assert fit_line(X, y).loo_mse == pytest.approx(np.mean(left_out))


def bent_cells(reward, replicates=range(42, 50)):
    """D bends away from log M: D = (M / 1500) ** 2, so that eight replicates can tell the curves apart."""
    rng = np.random.default_rng(0)
    errors = {(k, size, seed): rng.normal(0, 0.01) for k in (2, 3, 4) for size in SIZES for seed in replicates}
    cells = make_grid(lambda a, k, size, seed: reward(size) + errors[k, size, seed], seeds=replicates, draws=True)
    for cell in cells:
        cell["diversity"]["score"] = (cell["num_prompts"] / 1500) ** 2
    return cells


def test_a_line_that_can_be_told_from_its_rivals_holds():
    test = mean_line_test(results_of(bent_cells(lambda size: 0.4 + 0.01 * (size / 1500) ** 2)))
    assert test.judge()[0] == HELD and test.n_units == 8
    assert set(test.rivals) == {"log M", "saturation", "step"} and all(one.low > 0 for one in test.rivals.values())


def test_a_curve_on_log_m_is_no_line_on_d():
    test = mean_line_test(results_of(bent_cells(lambda size: 0.4 + 0.1 * np.log(size / 1500))))
    assert "deviate from the line" in test.judge()[1]
    assert test.fits["log M"].deviation > 0.05 > test.fits["D"].deviation


def test_few_sizes_have_a_line_and_no_word():
    two = mean_line_test(
        results_of(make_grid(lambda a, k, m, s: 0.1 * m / 1500, sizes=(1500, 3000), seeds=(42, 43, 44), draws=True))
    )
    assert "too few sizes" in two.judge()[1]
    assert mean_line_test(results_of(make_grid(lambda *a: 0.5, sizes=(1500,)))) is None
    assert mean_line_test(results_of([])) is None and line_tests(results_of([])) == []


def test_cluster_coefficients_against_least_squares_and_a_loop():
    rng = np.random.default_rng(2)
    design, clusters = np.column_stack([np.ones(24), rng.normal(0, 1, (24, 2))]), np.repeat(range(6), 4)
    y = design @ [1.0, 2.0, -0.5] + rng.normal(0, 0.3, 24)
    found = cluster_coefficients(design, y, clusters)
    whole = np.linalg.lstsq(design, y, rcond=None)[0]
    assert [one.difference for one in found] == pytest.approx(whole)
    left_out = [np.linalg.lstsq(design[clusters != c], y[clusters != c], rcond=None)[0] for c in range(6)]
    for column, one in enumerate(found):
        error = np.sqrt(5 / 6 * sum((fit[column] - whole[column]) ** 2 for fit in left_out))
        assert one.high - one.difference == pytest.approx(scipy.stats.t(5).ppf(0.975) * error)
        assert one.p == pytest.approx(2 * scipy.stats.t(5).sf(abs(whole[column]) / error))
    with pytest.raises(ValueError, match="2 replicates"):
        cluster_coefficients(design, y, clusters % 2)
    with pytest.raises(ValueError, match="do not tell"):
        cluster_coefficients(design[:, [0, 1, 1]], y, clusters)


def test_cluster_intervals_cover_with_few_replicates():
    """Errors shared within a replicate; the jackknife may cover too often, never much too seldom."""
    rng, covered = np.random.default_rng(3), 0
    clusters = np.repeat(range(8), 6)
    for _ in range(600):
        x = rng.normal(0, 1, 48) + rng.normal(0, 1, 8)[clusters]
        y = 0.5 * x + rng.normal(0, 1, 8)[clusters] + rng.normal(0, 1, 48)
        one = cluster_coefficients(np.column_stack([x, np.ones(48)]), y, clusters)[0]
        covered += one.low <= 0.5 <= one.high
    assert 0.93 <= covered / 600 <= 0.99


def joint_cells(weight_d: float, weight_responses: float = 0.0) -> list[dict]:
    """Random subsets and sets of low and high D, whose reward follows log M and, beyond it, what is given."""
    rng, cells = np.random.default_rng(4), []
    for selection, shift in ((RANDOM, 0.0), (LOW_D, -2.0), (HIGH_D, 2.0)):
        for size in SIZES if selection == RANDOM else (2000,):
            for k in (2, 4):
                for seed in range(42, 50):
                    d, responses = diversity(size) + shift + rng.normal(0, 0.2), 20 + rng.normal(0, 1)
                    reward = (
                        0.3 + 0.02 * np.log(size) + 0.05 * k + weight_d * (d - 12) + weight_responses * (responses - 20)
                    )
                    cell = make_cell("SFT", k, size, seed, float(reward + rng.normal(0, 0.005)), draw=seed)
                    record = {
                        "score": d,
                        "unique": int(900 * d),
                        "total": 10 * size,
                        "samples": size,
                        "tokenizer": "toy",
                    }
                    record["responses"] = {"score": responses, "unique": 5, "total": 10, "samples": size}
                    cells.append(cell | {"selection": selection, "diversity": record})
    return cells


def test_a_measure_that_counts_beyond_size_is_found_and_one_that_does_not_is_not():
    found = {one.measure: one for one in joint_fits(results_of(joint_cells(0.01)))}
    assert found["D of prompts"].coefficient.low > 0 and found["D of prompts"].holm_p < 0.05
    assert found["D of responses"].coefficient.low < 0 < found["D of responses"].coefficient.high
    assert "distinct-2 of responses" not in found  # constant here
    other = {one.measure: one for one in joint_fits(results_of(joint_cells(0.0, 0.01)))}
    assert other["D of responses"].coefficient.low > 0
    assert other["D of prompts"].coefficient.low < 0 < other["D of prompts"].coefficient.high


def test_measures_need_several_draws_and_their_records():
    assert joint_fits(results_of(make_grid(lambda *a: 0.5, seeds=(42, 43, 44)))) == []
    cells = joint_cells(0.01)
    del cells[0]["diversity"]["responses"]
    assert [one.measure for one in joint_fits(results_of(cells))] == ["D of prompts", "distinct-2 of prompts"]
