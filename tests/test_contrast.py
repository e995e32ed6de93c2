"""eval_hh.estimates.contrast: against scipy's paired t test, at its edges, and its coverage by simulation."""

import math

import numpy as np
import pytest
import scipy.stats

from eval_hh.estimates import Contrast, contrast, decision_power, over_replicates, replicates_for


def drawn(seed, replicates, prompts, effect=0.0, sd=0.03):
    """(a, b) [replicates, prompts]: prompts differ as they do, replicates by a normal error of their own."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(size=prompts)
    a, b = (base + rng.normal(0, sd, (replicates, 1)) + rng.normal(0, 0.1, (replicates, prompts)) for _ in "ab")
    return a + effect, b


@pytest.mark.parametrize("replicates", [2, 3, 8, 20])
def test_it_is_the_paired_t_test_on_the_replicates_means(replicates):
    a, b = drawn(replicates, replicates, 50, effect=0.02)
    found, expected = contrast(a, b), scipy.stats.ttest_rel(a.mean(axis=1), b.mean(axis=1))
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((interval.low, interval.high, expected.pvalue), rel=1e-9)
    assert found.difference == pytest.approx(np.mean(a) - np.mean(b))
    assert (found.df, found.n_replicates) == (replicates - 1, replicates)


def test_by_hand():
    # Effects 1, 2, 3: mean 2, s = 1, t(2) = 4.302653, so 2 +- 4.302653 / sqrt(3); t = 2 sqrt(3), p by F of t(2).
    found = contrast([[1.0, 3.0], [4.0, 4.0], [3.0, 3.0]], [[1.0, 1.0], [2.0, 2.0], [0.0, 0.0]])
    assert (found.low, found.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), rel=1e-6)
    t = 2 * math.sqrt(3)
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))  # F of t(2) in closed form, twice its tail


def test_order_of_replicates_and_of_prompts_do_not_matter_and_swapping_changes_the_sign():
    a, b = drawn(1, 6, 30, effect=0.01)
    rows, columns = np.random.default_rng(0).permutation(6), np.random.default_rng(1).permutation(30)
    expected, shuffled = contrast(a, b), contrast(a[rows][:, columns], b[rows][:, columns])
    swapped = contrast(b, a)
    assert vars(shuffled) == pytest.approx(vars(expected))
    ends = (-swapped.difference, -swapped.high, -swapped.low, swapped.p)
    assert ends == pytest.approx((expected.difference, expected.low, expected.high, expected.p))


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.1, 0.0), (-0.1, 0.0)])
def test_without_variance_the_interval_is_the_difference(shift, p):
    b = np.random.default_rng(0).uniform(size=(4, 9))
    found = contrast(b + shift, b)
    assert found.low == found.high == found.difference == pytest.approx(shift, abs=1e-15) and found.p == p


def test_what_rounding_alone_makes_is_no_difference():
    b = np.full((3, 7), 0.1)
    assert contrast(b * 3, np.full((3, 7), 0.3)) == Contrast(0.0, 0.0, 0.0, 1.0, 2, 3)


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (np.ones((1, 5)), np.ones((1, 5)), "1 replicates"),
        (np.ones((3, 5)), np.ones((3, 4)), r"shapes \(3, 5\) and \(3, 4\)"),
        (np.ones((3, 5)), np.ones((2, 5)), "shapes"),
        (np.ones(5), np.ones(5), "expected .replicates, test prompts."),
        (np.ones((3, 0)), np.ones((3, 0)), "expected a test prompt"),
        (np.full((3, 5), np.nan), np.ones((3, 5)), "not finite"),
        (np.ones((3, 5)), np.full((3, 5), np.inf), "not finite"),
    ],
)
def test_what_has_no_interval_is_refused(a, b, says):
    with pytest.raises(ValueError, match=says):
        contrast(a, b)


@pytest.mark.parametrize("replicates", [3, 5, 8, 20])
@pytest.mark.parametrize("draw_sd", [0.0, 0.02, 0.04])
def test_the_interval_covers_the_truth_as_often_as_it_says(replicates, draw_sd):
    """Of 2,000 studies 93 to 97% cover: three standard errors of the simulation are 1.5 points."""
    rng = np.random.default_rng([replicates, int(draw_sd * 100)])
    sd = math.hypot(0.022, draw_sd)  # training seed and draw, as measured
    covered = 0
    for _ in range(2000):
        found = over_replicates(0.05 + rng.normal(0, sd, replicates) - rng.normal(0, sd, replicates))
        covered += found.low <= 0.05 <= found.high
    assert 0.93 <= covered / 2000 <= 0.97


def test_replicates_for_agrees_with_simulation_and_grows_with_the_spread():
    n = replicates_for(0.05, 0.043)
    assert n == 8  # ../shared/verdicts.md: 80% for 5 points at R = 8 where the contrast's sd is 4.3
    rng = np.random.default_rng(3)
    held = [over_replicates(rng.normal(0.05, 0.043, n)).low > 0 for _ in range(4000)]
    assert np.mean(held) == pytest.approx(0.804, abs=0.02)
    needed = [replicates_for(0.05, spread) for spread in (0.0, 0.01, 0.03, 0.1)]
    assert needed == sorted(needed) and needed[0] == 2
    assert replicates_for(0.001, 1.0) is None
    with pytest.raises(ValueError, match="above 0"):
        replicates_for(0.0, 1.0)


def test_replicates_for_a_margin_agree_with_simulation():
    n = replicates_for(0.0, 0.03, margin=0.02)
    rng = np.random.default_rng(4)
    found = [over_replicates(rng.normal(0, 0.03, n)) for _ in range(4000)]
    assert 0.79 <= np.mean([one.low > -0.02 and one.high < 0.02 for one in found]) <= 0.86
    assert replicates_for(0.05, 0.043, margin=0.02) == 8  # an effect beyond the margin is decided by its sign
    assert replicates_for(-0.05, 0.043) == 8


@pytest.mark.parametrize(("effect", "margin", "n"), [(0.2, 0.4, 30), (-0.4, 0.5, 10), (0.1, 0.3, 120), (0.5, 0.0, 4)])
def test_the_power_to_decide_counts_both_ways(effect, margin, n):
    """An effect within the margin is decided by its sign or by the margin; 20,000 simulated studies, 0.4 points."""
    found = np.random.default_rng(5).normal(effect, 1, (20000, n))
    half = scipy.stats.t(n - 1).ppf(0.975) * found.std(axis=1, ddof=1) / n**0.5
    mean = found.mean(axis=1) * np.sign(effect)
    decided = (mean > half) | (np.abs(mean) + half < margin)
    assert decision_power(effect, margin, n) == pytest.approx(decided.mean(), abs=0.012)


@pytest.mark.parametrize("n", [2, 3, 8, 60])
def test_without_a_margin_it_is_the_power_of_the_t_test(n):
    expected = scipy.stats.nct(n - 1, 0.6 * n**0.5).sf(scipy.stats.t(n - 1).ppf(0.975))
    assert decision_power(0.6, 0.0, n) == pytest.approx(expected, abs=2e-4)
