"""Win rates against a general optimiser and slow loops, and how often their intervals cover a known truth."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from eval_hh.analysis import simulated_judgements
from eval_hh.analysis.win_rates import RIDGE, controlled_win_rate, fit_logistic, length_term, win_contrasts


def data(n=60, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.normal(20, 80, n)
    p = 1 / (1 + np.exp(-(0.4 + 0.9 * np.tanh(lengths / lengths.std()))))
    wins = (rng.random(n) < p).astype(float)
    wins[:5] = 0.5
    return wins, lengths


def loss_by_hand(coefficients, wins, term):
    total = 0.5 * RIDGE * sum(value**2 for value in coefficients)
    for y, x in zip(wins, term, strict=True):
        p = 1 / (1 + math.exp(-(coefficients[0] + coefficients[1] * x)))
        total -= y * math.log(p) + (1 - y) * math.log(1 - p)
    return total


def test_the_fit_is_that_of_a_general_optimiser():
    wins, lengths = data()
    term = length_term(lengths)
    found = minimize(loss_by_hand, [0, 0], args=(wins, term), tol=1e-12)
    level, _ = fit_logistic(wins, term)
    assert level == pytest.approx(found.x[0], abs=1e-4)
    assert controlled_win_rate(wins, lengths) == pytest.approx(1 / (1 + math.exp(-found.x[0])), abs=1e-4)


def test_the_error_is_the_sandwich_by_hand():
    wins, lengths = data(40, 3)
    term = length_term(lengths)
    level, error = fit_logistic(wins, term)
    slope = minimize(loss_by_hand, [0, 0], args=(wins, term), tol=1e-12).x[1]
    bread, filling = np.eye(2) * RIDGE, np.zeros((2, 2))
    for y, x in zip(wins, term, strict=True):
        p, row = 1 / (1 + math.exp(-(level + slope * x))), np.array([1, x])
        bread += p * (1 - p) * np.outer(row, row)
        filling += (y - p) ** 2 * np.outer(row, row)
    inverse = np.linalg.inv(bread)
    assert error == pytest.approx(math.sqrt((inverse @ filling @ inverse)[0, 0] * 40 / 38), rel=1e-3)


def test_longer_answers_that_win_for_their_length_alone_do_not_win_at_equal_length():
    rng = np.random.default_rng(1)
    lengths = rng.normal(60, 60, 4000)  # the first is longer on the whole
    wins = (rng.random(4000) < 1 / (1 + np.exp(-2 * np.tanh(lengths / lengths.std())))).astype(float)
    assert wins.mean() > 0.7 and abs(controlled_win_rate(wins, lengths) - 0.5) < 0.03


def test_the_ridge_moves_a_rate_little():
    wins = np.array([1.0] * 28 + [0.0] * 12)
    assert controlled_win_rate(wins, np.zeros(40)) == pytest.approx(0.7, abs=0.001)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 12, 40])
def test_prompts_that_all_go_one_way_give_the_exact_interval(value, n):
    from scipy.stats import binomtest

    known = binomtest(int(value * n), n)
    interval = known.proportion_ci(0.95)
    for found in win_contrasts([[value] * n], [list(range(n))]):
        assert found.difference == value - 0.5 and found.p == pytest.approx(known.pvalue)
        assert (found.low + 0.5, found.high + 0.5) == pytest.approx((interval.low, interval.high))


def test_prompts_that_all_tie_are_half_a_win():
    """Of 12 prompts at least 73.5% tie (0.025^(1/12), Clopper and Pearson); the others may all go either way."""
    for found in win_contrasts([[0.5] * 12], [list(range(-6, 6))]):
        assert (found.difference, found.p) == (0, 1)
        assert (found.low, found.high) == pytest.approx((-0.1323, 0.1323), abs=1e-4)


@pytest.mark.parametrize("n", [1, 2, 20])
@pytest.mark.parametrize("value", [0.25, 0.75])
def test_a_judge_of_two_minds_on_all_prompts_is_not_certain(value, n):
    """Its verdict in one order is a tie: at least 0.025^(1/n) of prompts are so, the others may go either way."""
    share = 0.025 ** (1 / n)
    for found in win_contrasts([[value] * n], [list(range(n))]):
        assert (found.difference, found.p) == (value - 0.5, 1)
        assert (found.low, found.high) == pytest.approx((share * value - 0.5, share * value + 1 - share - 0.5))


def test_pairs_that_are_won_by_opposite_sides_do_not_agree():
    _, controlled = win_contrasts([[1.0] * 4, [0.0] * 4], [[1] * 4] * 2)
    assert (controlled.low, controlled.high, controlled.p) == (-0.5, 0.5, 1)


def test_swapping_the_models_mirrors_the_rates():
    wins, lengths = data(50, 5)
    for one, other in zip(win_contrasts([wins], [lengths]), win_contrasts([1 - wins], [-lengths]), strict=True):
        assert one.difference == pytest.approx(-other.difference) and one.low == pytest.approx(-other.high)
        assert one.p == pytest.approx(other.p)


def test_replicates_are_the_unit_where_there_are_several():
    groups = [data(30, seed) for seed in range(4)]
    raw, controlled = win_contrasts(*zip(*groups, strict=True))
    means = [wins.mean() - 0.5 for wins, _ in groups]
    assert raw.difference == pytest.approx(sum(means) / 4) and raw.n_replicates == 4 and raw.df == 3
    rates = [controlled_win_rate(*group) - 0.5 for group in groups]
    half = 3.182446 * np.std(rates, ddof=1) / 2
    assert (controlled.low, controlled.high) == pytest.approx((np.mean(rates) - half, np.mean(rates) + half), rel=1e-5)


def test_no_pair_is_an_error():
    for pairs in ([], [[]], [[1.0], []]):
        with pytest.raises(ValueError, match="no judged pair"):
            win_contrasts(pairs, pairs)


@pytest.mark.parametrize("n_pairs", [1, 3])
def test_few_prompts_say_nothing_of_the_rate_at_equal_length(n_pairs):
    """Below twenty the regression's interval covers too seldom: it is all rates, and p is 1."""
    for n in (2, 19, 20):
        pairs = [data(n, seed) for seed in range(n_pairs)]
        raw, controlled = win_contrasts(*zip(*pairs, strict=True))
        is_all = (controlled.low, controlled.high, controlled.p) == (-0.5, 0.5, 1)
        agree = len({win for wins, _ in pairs for win in wins}) == 1
        assert is_all == (n < 20 and not agree) and controlled.low <= controlled.difference <= controlled.high
        assert raw.high - raw.low > 0


def test_single_prompts_that_all_go_one_way_are_not_certain():
    """Three pairs with one prompt each, all won: no variance, and one prompt's interval."""
    for found in win_contrasts([[1.0]] * 3, [[5]] * 3):
        assert (found.low + 0.5, found.high + 0.5, found.p) == pytest.approx((0.025, 1, 1))
    for found in win_contrasts([[0.5]], [[5]]):
        assert (found.difference, found.low, found.high, found.p) == pytest.approx((0, -0.4875, 0.4875, 1))


def test_intervals_cover_the_truth(monkeypatch):
    """Of 200 comparisons; the table of eval_hh/README.md is from more. Four standard errors of 95% are 6%."""
    monkeypatch.setattr(simulated_judgements, "TRUTH_SIZE", (500, 100))
    for row in simulated_judgements.judged_coverage(200, seed=5):
        assert abs(row.raw - 0.95) < 0.06 and abs(row.controlled - 0.95) < 0.06, row


def test_win_rates_that_are_equal_by_chance_decide_nothing():
    """Three pairs of models with 6 of 10 wins each: no variance between pairs, and no reason to be certain."""
    wins = [[1] * 6 + [0] * 4, [0, 1] * 4 + [1, 1], [1, 0, 1, 1, 0, 1, 0, 1, 0, 1]]
    lengths = [list(range(10)), list(range(10)), list(range(10))]
    assert {sum(one) for one in wins} == {6}
    raw, _ = win_contrasts(wins, lengths)
    assert (raw.difference, raw.n_replicates) == (pytest.approx(0.1), 3) and raw.low < 0 < raw.high and raw.p > 0.4
    alone, _ = win_contrasts(wins[:1], lengths[:1])
    assert (raw.low, raw.high) == pytest.approx((alone.low, alone.high))
    for unanimous in win_contrasts([[1] * 4] * 3, [[0] * 4] * 3):
        assert 0 < unanimous.high - unanimous.low < 1 and unanimous.p == 0.125


def test_the_rate_at_equal_length_is_as_unsure_as_the_raw_one():
    """Two replicates of twenty prompts, won twelve to eight: their rates at equal length are close by chance."""
    rng = np.random.default_rng(0)
    wins, lengths = [rng.permutation([1] * 12 + [0] * 8) for _ in range(2)], rng.normal(size=(2, 20))
    raw, controlled = win_contrasts(wins, lengths)
    own = [win_contrasts([one], [its])[1] for one, its in zip(wins, lengths, strict=True)]
    assert (controlled.low, controlled.high) == (min(one.low for one in own), max(one.high for one in own))
    assert controlled.low < 0 < controlled.high and controlled.p == max(one.p for one in own) and raw.p > 0.1
