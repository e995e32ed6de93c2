"""labelling/planning/pilot_model.py against Hamiltonian Monte Carlo, scalar formulas and simulated pilots."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from labelling.planning import pilot_model
from labelling.planning.pilot_model import PilotCells, Prior, expected_gain, fit, least_squares, outlooks, weak_prior

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "pilot_posterior.json").read_text())
PRIOR = Prior(np.array(FIXTURE["prior"]["mean"]), np.array(FIXTURE["prior"]["sd"]), "a test")
SPLITS = [tuple(split) for split in FIXTURE["splits"]]
CELLS = [(k, m, draw) for draw in (42, 43) for k in (2, 4) for m in (64, 32)]


def cells_with(rewards, cells=CELLS):
    return PilotCells(*map(np.array, zip(*cells, strict=True)), np.asarray(rewards, dtype=float))


def fixture_cells():
    return PilotCells(*(np.array(FIXTURE["cells"][name]) for name in ("ranking_lens", "sizes", "draws", "rewards")))


def test_the_posterior_is_that_of_hamiltonian_monte_carlo():
    """50,000 draws by numpyro, worth some thousands of independent ones: means agree to a few hundredths of an sd."""
    posterior = fit(fixture_cells(), PRIOR)
    samples = posterior.samples()
    expected = FIXTURE["coefficients"]
    for mean, sd, own in zip(expected["mean"], expected["sd"], samples.T, strict=True):
        assert own.mean() == pytest.approx(mean, abs=0.05 * sd)
        assert own.std() == pytest.approx(sd, rel=0.05)
    assert posterior.weights @ posterior.spreads == pytest.approx(FIXTURE["spreads"], rel=0.05)
    for i, one in enumerate(outlooks(posterior, SPLITS)):
        sd = (FIXTURE["intervals"][i][1] - FIXTURE["intervals"][i][0]) / 4
        assert one.reward == pytest.approx(FIXTURE["rewards"][i], abs=0.05 * sd)
        assert (one.low, one.high) == pytest.approx(FIXTURE["intervals"][i], abs=0.1 * sd)
        assert one.p_best == pytest.approx(FIXTURE["p_best"][i], abs=0.02)
        assert one.regret == pytest.approx(FIXTURE["regret"][i], abs=0.1)


def test_one_cell_by_scalar_arithmetic(monkeypatch):
    """With tau and sigma known, and x = z = 0, only a is learnt: a precision-weighted mean of prior and cell."""
    monkeypatch.setattr(pilot_model, "GRID", np.array([3.0]))
    posterior = fit(cells_with([20.0], [(3, 64, 42)]), PRIOR)
    prior, cell = 1 / 50**2, 1 / (3.0**2 + 3.0**2)
    assert posterior.means[0, 0] == pytest.approx((50 * prior + 20 * cell) / (prior + cell))
    assert posterior.covariances[0, 0, 0] == pytest.approx(1 / (prior + cell))
    assert posterior.means[0, 1:] == pytest.approx(PRIOR.mean)


def test_many_exact_cells_outweigh_the_prior():
    truth = np.array([40.0, 6.0, 8.0, 2.0])
    cells = [(k, m, draw) for draw in range(8) for k in (2, 3, 4) for m in (32, 64, 128)]
    rows = pilot_model.design([k for k, _, _ in cells], [m for _, m, _ in cells], 6.0)
    posterior = fit(cells_with(rows @ truth, cells), PRIOR)
    assert posterior.weights @ posterior.means == pytest.approx(truth, abs=0.15)
    best = outlooks(posterior, [(2, 400), (4, 200)])
    assert best[1].p_best > 0.95 and best[1].regret < 0.05 < best[0].regret


def test_least_squares_and_the_weak_prior_by_hand():
    points = [(k, m, 30 + 5 * (math.log2(m) - 7) + 4 * math.log2(k / 3)) for k in (2, 4) for m in (64, 256)]
    found = least_squares(*zip(*points, strict=True))
    assert found == pytest.approx([30, 5, 4, 0], abs=1e-9)
    prior = weak_prior({"one": np.array([0.0, 1.0, 2.0, 3.0]), "other": np.array([9.0, 3.0, 2.0, -3.0])})
    assert prior.mean == pytest.approx([2, 2, 0])
    assert prior.sd == pytest.approx([3 * math.sqrt(5), 6, 9]) and prior.source == "one, other"


def test_no_cells_are_refused():
    with pytest.raises(ValueError, match="no cells"):
        fit(PilotCells(*[np.array([])] * 4), PRIOR)


def test_what_a_stage_is_worth():
    """Nothing where it cannot change the choice, more the more it can, and its cost in prompts is counted."""
    posterior = fit(fixture_cells(), PRIOR)
    small, large = ([(k, m, draw) for draw in range(n) for k in (2, 4) for m in (64, 128)] for n in (1, 20))
    gains = [expected_gain(posterior, SPLITS, SPLITS, stage) for stage in (small, large)]
    assert 0 < gains[0] < gains[1] < min(one.regret for one in outlooks(posterior, SPLITS))
    dearer = [(k, m // 2) for k, m in SPLITS]
    loss = posterior.expected(SPLITS).max() - posterior.expected(dearer).max()
    assert loss > 2 and expected_gain(posterior, SPLITS, dearer, large) == pytest.approx(gains[1] - loss, abs=0.5)
    assert expected_gain(posterior, SPLITS[:1], SPLITS[:1], large) == pytest.approx(0, abs=1e-9)


def test_more_cells_leave_the_variance_that_the_stage_promises(monkeypatch):
    """The expected gain of two splits against its closed form: s phi(m / s) + m Phi(m / s) - max(m, 0)."""
    monkeypatch.setattr(pilot_model, "GRID", np.array([2.0]))
    posterior, splits = fit(fixture_cells(), PRIOR), [(2, 640), (4, 320)]
    stage = [(k, m, draw) for draw in (7, 8) for k in (2, 4) for m in (64, 128)]
    both = fit(
        cells_with([*fixture_cells().rewards, *[30.0] * len(stage)], [*CELLS, *stage]), PRIOR
    )  # covariances do not depend on the rewards
    rows = pilot_model.design(*zip(*splits, strict=True), posterior.centre)
    shift = pilot_model.design(*zip(*splits, strict=True), both.centre)
    difference, moved = rows[1] - rows[0], shift[1] - shift[0]
    before, after = difference @ posterior.covariances[0] @ difference, moved @ both.covariances[0] @ moved
    s, m = math.sqrt(before - after), float(np.diff(posterior.expected(splits))[0])
    density, below = math.exp(-((m / s) ** 2) / 2) / math.sqrt(2 * math.pi), (1 + math.erf(m / s / math.sqrt(2))) / 2
    expected = s * density + m * below - max(m, 0)
    # The priors of c and d are stated at each fit's own centre, which moves with the new cells.
    assert expected_gain(posterior, splits, splits, stage) == pytest.approx(expected, rel=0.1)


def simulated_pilots(n, splits, seed=3):
    """Yields (posterior, true rewards of the splits) of pilots whose truths are drawn from the prior."""
    rng = np.random.default_rng(seed)
    centre = float(np.mean(np.log2([m for _, m, _ in CELLS])))
    rows = pilot_model.design([k for k, _, _ in CELLS], [m for _, m, _ in CELLS], centre)
    at = pilot_model.design(*zip(*splits, strict=True), centre)
    for _ in range(n):
        truth = np.append(rng.normal(50, 50), rng.normal(PRIOR.mean, PRIOR.sd))
        tau, sigma = np.abs(rng.normal(0, pilot_model.SPREAD_SCALE, 2))
        draws = np.repeat(rng.normal(0, tau, 2), 4)
        yield fit(cells_with(rows @ truth + draws + rng.normal(0, sigma, len(CELLS))), PRIOR), at @ truth


def test_what_the_plan_says_is_so_when_truths_are_drawn_from_the_prior():
    """Simulated pilots: intervals, P(best) and expected regret are right in the mean, to three standard errors."""
    n, covered, right, regret = 300, [], [], []
    for posterior, truth in simulated_pilots(n, SPLITS):
        found = outlooks(posterior, SPLITS)
        covered.append([one.low <= its <= one.high for one, its in zip(found, truth, strict=True)])
        chosen = max(range(len(SPLITS)), key=lambda i: found[i].reward)
        right.append((found[chosen].p_best, truth[chosen] == truth.max()))
        regret.append(truth.max() - truth[chosen] - found[chosen].regret)
    assert np.mean(covered, axis=0) == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / n))
    said, was = np.array(right, dtype=float).T
    for group in (said < 0.8, said >= 0.8):  # those that the plan calls undecided, and the others
        expected = said[group].mean()
        error = math.sqrt(expected * (1 - expected) / group.sum())
        assert group.sum() > 50 and was[group].mean() == pytest.approx(expected, abs=3 * error)
    assert np.mean(regret) == pytest.approx(0, abs=3 * np.std(regret) / math.sqrt(n))


def test_what_a_stage_gains_is_what_refits_of_its_cells_gain():
    """The expected gain against simulated stages: a truth and cells by the posterior, a refit, its best mean."""
    posterior, stage = fit(fixture_cells(), PRIOR), [(k, m, draw + 2) for k, m, draw in CELLS]
    rng, cells, gains = np.random.default_rng(5), fixture_cells(), []
    rows = pilot_model.design([k for k, _, _ in stage], [m for _, m, _ in stage], posterior.centre)
    for _ in range(120):
        point = rng.choice(len(posterior.weights), p=posterior.weights)
        truth = rng.multivariate_normal(posterior.means[point], posterior.covariances[point])
        tau, sigma = posterior.spreads[point]
        new = rows @ truth + np.repeat(rng.normal(0, tau, 2), 4) + rng.normal(0, sigma, len(stage))
        both = fit(cells_with([*cells.rewards, *new], [*CELLS, *stage]), PRIOR)
        gains.append(both.expected(SPLITS).max() - posterior.expected(SPLITS).max())
    expected = expected_gain(posterior, SPLITS, SPLITS, stage)
    assert expected > 0.2 and np.mean(gains) == pytest.approx(expected, abs=3 * np.std(gains) / math.sqrt(len(gains)))
