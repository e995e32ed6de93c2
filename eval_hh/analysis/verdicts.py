"""The verdict of a study on each of the paper's claims, and on one that the paper leaves open.

Each rests on one primary effect, named here and averaged over algorithms, and over K where there are several. The words
are those of rules.py.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from eval_hh.analysis.chosen_prompts import fixed_size_pairs, guided_pairs
from eval_hh.analysis.contrasts import Effect, Pair, effect_of, primary_effect
from eval_hh.analysis.equal_budget import RANKING_LENS, budget_pairs
from eval_hh.analysis.lines_on_d import LineTest, mean_line_test, slope_weights
from eval_hh.analysis.results import Results
from eval_hh.analysis.reward_scale import RewardScale
from eval_hh.analysis.rules import DID_NOT_HOLD, MIN_REPLICATES, NO_VERDICT, UNDECIDED, needed
from eval_hh.cells import ALGORITHMS
from eval_hh.estimates import Contrast
from eval_hh.markup import contrast_text, p_text, points_text

NOT_TESTED = "not tested in this run"
MORE_RESPONSES = "More responses and fewer prompts win at equal budget (K=4 against K=2, Global)"
LINEAR = "Reward after fine-tuning is linear in prompt diversity D (Global)"
GUIDES = "D can guide data augmentation (additions that raise D against random ones, Global)"
BEYOND_SIZE = "Not in the paper: at one number of prompts, higher D gives higher reward (Global)"


@dataclass(frozen=True)
class Verdict:
    """A claim and what this run says about it."""

    claim: str
    verdict: str
    primary: Contrast | None  # the primary effect; of claim 2, the slope of mean reward on D
    details: tuple[str, ...]


@dataclass(frozen=True)
class Predicted:
    """High minus low D at one M as the lines through random subsets predict it, on the same replicates."""

    predicted: Contrast
    observed_minus_predicted: Contrast


def verdicts(results: Results) -> list[Verdict]:
    """Returns the verdicts on the paper's three claims, then on ours, for the Global pool."""
    claim1 = primary_effect(results, budget_pairs(results, RANKING_LENS[:1]))
    claim3 = primary_effect(results, guided_pairs(results))
    pairs = fixed_size_pairs(results)
    claim4 = primary_effect(results, pairs)
    prediction = predict_from_lines(results, pairs) if claim4 else None
    on_lines = [key for key, line in results.lines.items() if line]
    scale = results.scale()
    return [
        _on_effect(MORE_RESPONSES, claim1, scale, "No equal-budget pair of K=4 and K=2 is complete."),
        _on_line(LINEAR, mean_line_test(results), {algorithm for algorithm, _ in on_lines}, scale),
        _on_effect(GUIDES, claim3, scale, "It needs enlarged subsets (reproduce.py --augment)."),
        _on_effect(
            BEYOND_SIZE, claim4, scale, "It needs subsets of low and high D (reproduce.py --fixed_size).", prediction
        ),
    ]


def predict_from_lines(results: Results, pairs: Sequence[Pair]) -> Predicted | None:
    """Returns what the lines on D predict for the mean difference of these pairs, and how far it is from the observed.

    The prediction of a replicate is its own slope, of the pair's algorithm and K, times its own difference in D. None
    if a line has fewer than two sizes, or without a replicate common to lines and pairs.
    """
    lines = {(first.algorithm, first.ranking_len): [] for first, _ in pairs}
    for key in lines:
        lines[key] = results.lines.get(key, [])
    settings = [*(one for pair in pairs for one in pair), *(one for line in lines.values() for one in line)]
    units = results.units(*settings)
    if not units or not all(one in results.diversity for one in settings):
        return None
    observed, predicted = [], []
    for first, second in pairs:
        line = lines[first.algorithm, first.ranking_len]
        scores = [results.diversity[one] for one in line]
        if len(set(scores)) < 2:
            return None
        slopes = np.transpose([results.mean_rewards(one, units) for one in line]) @ slope_weights(scores)
        high, low = (np.array([one["score"] for one in results.records(side, units)]) for side in (first, second))
        predicted.append(slopes * (high - low))
        observed.append(results.mean_rewards(first, units) - results.mean_rewards(second, units))
    predicted, observed = np.mean(predicted, axis=0), np.mean(observed, axis=0)
    return Predicted(effect_of(predicted), effect_of(observed - predicted))


def _on_effect(
    claim: str, effect: Effect | None, scale: RewardScale, missing: str, prediction: Predicted | None = None
) -> Verdict:
    if effect is None:
        return Verdict(claim, NOT_TESTED, None, (missing,))
    difference = effect.difference
    mean = f", the mean of {len(effect.pairs)} differences" if len(effect.pairs) > 1 else ""
    details = [f"Primary effect{mean}: {contrast_text(difference)}."]
    algorithms = {setting.algorithm for pair in effect.pairs for setting in pair}
    details += _reservations(difference.n_replicates, effect.one_draw, effect.n_left_out, algorithms, scale)
    if effect.verdict == UNDECIDED:
        details.append(f"Undecided: {needed(difference, scale.margin)}.")
    if effect.verdict == DID_NOT_HOLD and difference.high >= 0:
        details.append(f"The interval lies within {points_text(scale.margin)} points of zero, too small to matter.")
    if prediction:
        excess = prediction.observed_minus_predicted
        details.append(f"The lines on D through random subsets predict {contrast_text(prediction.predicted)}.")
        details.append(f"Observed minus predicted: {contrast_text(excess)}.")
    return Verdict(claim, effect.verdict, difference, tuple(details))


def _on_line(claim: str, test: LineTest | None, algorithms: Set[str], scale: RewardScale) -> Verdict:
    if test is None or not test.fits:
        return Verdict(claim, NOT_TESTED, None, ("It needs two sizes with D that all algorithms and K have.",))
    word, reason = test.judge(scale.margin) if scale.can_judge else (NO_VERDICT, "")
    slope = test.fits["D"].slope
    details = [f"Slope of the mean over algorithms and K: {contrast_text(slope)} per unit of D."]
    if reason:
        details.append(f"{reason[0].upper()}{reason[1:]}.")
    deviations = ", ".join(f"from the line on {name} {p_text(fit.deviation)}" for name, fit in test.fits.items())
    if slope.n_replicates >= MIN_REPLICATES:
        details.append(f"Deviation of the {len(test.scores)} sizes (p): {deviations}.")
    for name, one in test.rivals.items() if slope.n_replicates >= MIN_REPLICATES else ():
        details.append(f"Excess of the line over the curve '{name}', zero if that curve is true: {contrast_text(one)}.")
    details += _reservations(slope.n_replicates, test.one_draw, test.n_left_out, algorithms, scale)
    return Verdict(claim, word, slope, tuple(details))


def _reservations(
    n_replicates: int, one_draw: bool, n_left_out: int, algorithms: Set[str], scale: RewardScale
) -> list[str]:
    """Returns what limits the verdict: the reward, one draw, too few replicates, what some cells lack."""
    lines = [scale.note] if scale.note else []
    if one_draw and n_replicates > 1:
        lines.append("About this draw only: the subsets were drawn once, so there is no verdict.")
    elif n_replicates < MIN_REPLICATES:
        found = f"{n_replicates} of the {MIN_REPLICATES} replicates that a verdict needs, with all of its cells"
        lines.append(f"{found} (reproduce.py --replicates).")
    if n_left_out:
        what = "1 replicate is" if n_left_out == 1 else f"{n_left_out} replicates are"
        lines.append(f"{what} left out because some of the cells lack it.")
    lines += [f"{name} takes no part: it has no cells for this claim." for name in ALGORITHMS if name not in algorithms]
    return lines
