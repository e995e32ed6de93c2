"""eval_hh/calibrate.py and analysis/simulated.py: simulated studies have the truth and errors that they are given."""

import numpy as np
import pytest

from data_preprocess.command import REPOSITORY, InputError
from eval_hh import calibrate
from eval_hh.analysis.equal_budget import budget_pairs
from eval_hh.analysis.lines_on_d import rival_curves
from eval_hh.analysis.simulated import LINEAR, Design, Truth, standardised_residuals
from eval_hh.analysis.verdicts import verdicts
from eval_hh.cells import Setting
from tests.made_up import make_cell, results_of

SIZES, SCORES = (48, 120, 160, 240), (1.6, 1.8, 1.9, 2.1)
EXACT = Design(SIZES, SCORES, seed_sd=0.0, draw_sd=0.0)


@pytest.mark.parametrize("effect", [0.0, 0.05])
@pytest.mark.parametrize("curve", [LINEAR, *rival_curves(SCORES, SIZES)])
def test_a_study_without_errors_shows_its_truth(effect, curve):
    results = EXACT.study(Truth(effect, curve, rise=0.2), np.random.default_rng(0), 3)
    found = verdicts(results)
    for claim in (0, 2, 3):
        assert found[claim].primary.difference == pytest.approx(effect)
    assert len(budget_pairs(results)) == 2 * 3
    line = [results.mean_rewards(Setting("SFT", 3, size), results.units(Setting("SFT", 3, size)))[0] for size in SIZES]
    assert line[-1] - line[0] == pytest.approx(0.2)
    if curve == LINEAR:
        assert np.polyfit(SCORES, line, 1)[0] == pytest.approx(0.2 / 0.5)
        assert np.ptp(np.array(line) - np.polyval(np.polyfit(SCORES, line, 1), SCORES)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("residuals", [(), (-1.0, 1.0)])
def test_errors_have_their_spread_and_nested_sizes_correlate(residuals):
    design = Design(SIZES, SCORES, seed_sd=0.02, draw_sd=0.04, residuals=residuals)
    errors = design.errors(np.random.default_rng(1), 20000)
    assert errors.std(axis=0) == pytest.approx(np.hypot(0.02, 0.04), rel=0.03)
    column = {one: number for number, one in enumerate(design.settings)}
    same_line = errors[:, [column[Setting("PRO", 4, size)] for size in (48, 240)]]
    assert np.cov(same_line.T)[0, 1] == pytest.approx(0.04**2 * (48 / 240) ** 0.5, rel=0.06)
    other_k = errors[:, [column[Setting("PRO", k, 240)] for k in (2, 4)]]
    assert np.cov(other_k.T)[0, 1] == pytest.approx(0.5 * 0.04**2, rel=0.06)


def test_the_power_calculation_agrees_with_simulation():
    """The number of replicates that tells a line from its rivals is one at which it holds about 80% of the time."""
    design = Design((12, 120, 240, 960), (1.0, 1.8, 2.1, 3.0), seed_sd=0.022, draw_sd=0.02)
    n = design.replicates_to_tell(slope=0.15 / 2)
    rng, truth = np.random.default_rng(2), Truth(0.0, LINEAR, 0.15)
    held = np.mean([verdicts(design.study(truth, rng, n))[1].verdict == "held" for _ in range(300)])
    assert 0.70 <= held <= 0.90
    logarithmic = Design(SIZES, tuple(np.log(SIZES)), 0.02, 0.02)
    assert logarithmic.replicates_to_tell(0.1) is None
    larger = Design(SIZES, tuple(np.power(SIZES, 0.2)), 0.02, 0.02).with_larger_size(4)
    assert larger.sizes[-1] == 960 and larger.scores[-1] == pytest.approx(960**0.2)


def test_residuals_are_those_of_replicates_and_standardised():
    cells = [
        make_cell("PRO", 2, 1500, seed, 0.5 + shift, draw=seed)
        for seed, shift in zip((42, 43, 44), (-0.1, 0, 0.1), strict=True)
    ]
    assert standardised_residuals(results_of(cells)) == pytest.approx((-(1.5**0.5), 0, 1.5**0.5))
    assert standardised_residuals(results_of(cells[:2])) == ()


def test_a_small_calibration_prints_its_tables(capsys):
    calibrate.main(["--simulations", "20", "--replicates", "3", "8", "--draw_sd", "2", "--workers", "1"])
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if line.startswith("## Coverage")]
    assert printed.count("| residuals | 2 ") == 6 and "Every bound of the standard is met" in printed
    readme = (REPOSITORY / "eval_hh" / "README.md").read_text(encoding="utf-8")
    assert "\n".join(calibrate.power_table()[2:]).strip() in readme and "\n".join(calibrate.power_table()) in printed


@pytest.mark.slow
def test_the_standard_is_met(capsys):
    """A smaller run of the table in eval_hh/README.md: exit status 0 means that no bound is missed."""
    calibrate.main(["--simulations", "120", "--replicates", "3", "8", "--seed", "1"])
    assert "Every bound of the standard is met" in capsys.readouterr().out


def test_a_bound_that_is_missed_is_named(monkeypatch, capsys):
    monkeypatch.setattr(calibrate, "COVERAGE", (0.999, 1.0))
    with pytest.raises(OSError, match="the standard is not met; coverage: "):
        calibrate.main(["--simulations", "100", "--replicates", "3", "--draw_sd", "2", "--workers", "1"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sizes", "48", "120"], "--sizes and --diversity"),
        (["--sizes", "48", "120", "--diversity", "1.0"], "--sizes and --diversity"),
        (["--sizes", "48", "120", "--diversity", "1.0", "1.2"], "no equal budget"),
        (["--replicates", "1"], "--replicates 1"),
        (["--draw_sd", "-1"], "--draw_sd -1"),
        (["--results", "nowhere"], "no such file or folder"),
        (["--sizes", "12", "24", "--diversity", "5", "5"], "--diversity 5.0 5.0: expected rising values"),
        (["--sizes", "24", "12", "--diversity", "2", "1"], "--sizes 24 12: expected rising values"),
        (["--sizes", "12", "12", "24", "--diversity", "1", "2", "3"], "--sizes 12 12 24: expected rising values"),
        (["--sizes", "12", "24", "--diversity", "1", "1e308"], "--diversity 1e.308: expected a number of at"),
        (["--rise", "1e308"], "--rise 1e.308: expected a number of at"),
        (["--seed_sd", "1e308"], "--seed_sd 1e.308: expected a number of at"),
        (["--draw_sd", "0", "1e308"], "--draw_sd 1e.308: expected a number of at"),
        (["--replicates", "3", "3"], "--replicates 3 3: expected each value once"),
        (["--draw_sd", "2", "2.00000001"], "--draw_sd 2.0 2.00000001: expected each value once"),
        (["--seed", "-1"], "--seed -1"),
    ],
)
def test_bad_flags_are_named(flags, message):
    with pytest.raises(InputError, match=message):
        calibrate.main(flags)
