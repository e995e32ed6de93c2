"""The rules that decide from intervals whether a claim of the paper held.

Stated before any study was run with them, but for the rule on the reward and the smaller margin, which were added after
the small real studies (eval_hh/results/smollm2*); eval_hh/calibrate.py measures how often each word is false, and
eval_hh/README.md explains them. In words:
- Fewer than three replicates, or one draw of the subsets, give no verdict.
- Neither does a reward that is not shown to put the test data's best responses above others (reward_scale.py).
- A difference held if its 95% interval lies above zero. It did not hold if the interval lies below zero, or within a
  margin of zero that is too small to matter: two points (of 100 x reward), or less on a scale where two points are much
  (reward_scale.py). Otherwise it is undecided.
- A secondary row has a word only if p < 0.05 after Holm's correction over its table, by the sign of the difference.
- "Reward is linear in D" did not hold if reward falls as D rises or changes by less than that margin, or if the points
  deviate from the line (p < 0.05). It held if reward rises, the points do not deviate, and every rival curve with the
  same rise (RIVALS in lines_on_d.py) is excluded by its 95% interval. Otherwise it is undecided.
"""

from __future__ import annotations

from eval_hh.estimates import LEVEL, Contrast, replicates_for
from eval_hh.markup import points_text

HELD, DID_NOT_HOLD, UNDECIDED = "held", "did not hold", "undecided"
NO_VERDICT = "no verdict"
MIN_REPLICATES = 3
MARGIN = 0.02  # reward, 0 to 1: a difference within it is too small to matter
SHARE_OF_LEAD = 0.1  # and so is, where that is less, this share of the ceiling's lead (reward_scale.py)


def decide(difference: Contrast, margin: float = MARGIN) -> str:
    """Returns the word on an effect that should be above zero (see the module's rules)."""
    if difference.n_replicates < MIN_REPLICATES:
        return NO_VERDICT
    if difference.low > 0:
        return HELD
    within = -margin < difference.low and difference.high < margin
    return DID_NOT_HOLD if difference.high < 0 or within else UNDECIDED


def decide_row(difference: Contrast, holm_p: float) -> str:
    """Returns the word on one of several differences, from its corrected p (see the module's rules)."""
    if difference.n_replicates < MIN_REPLICATES:
        return NO_VERDICT
    if not holm_p < LEVEL:
        return UNDECIDED
    return HELD if difference.difference > 0 else DID_NOT_HOLD


def decide_line(
    slope: Contrast, rise: float, deviation: float, rivals: dict[str, Contrast], margin: float = MARGIN
) -> tuple[str, str]:
    """Returns the word on one line of reward on D, and the reason.

    Args:
        slope: reward per unit of D.
        rise: range of D between the smallest and the largest size.
        deviation: p of lack of fit; nan if there are too few replicates to test it.
        rivals: for each curve, the line's excess over it (lines_on_d.excess); empty with fewer than three sizes.
        margin: the change over the range of D that is too small to matter.
    """
    if slope.n_replicates < MIN_REPLICATES:
        return NO_VERDICT, ""
    if slope.high < 0:
        return DID_NOT_HOLD, "reward falls as D rises"
    if -margin < slope.low * rise and slope.high * rise < margin:
        return DID_NOT_HOLD, f"reward changes by less than {points_text(margin)} points over the range of D"
    if deviation < LEVEL:
        return DID_NOT_HOLD, "the points deviate from the line by more than replicates account for"
    if slope.low <= 0:
        return UNDECIDED, "the slope's interval includes zero"
    if not rivals or deviation != deviation:
        return UNDECIDED, "too few sizes or replicates to tell a line from a curve"
    left = [name for name, excess in rivals.items() if not excess.low > 0]
    if left:
        return UNDECIDED, f"reward rises with D, but these curves fit as well: {', '.join(left)}"
    return HELD, "reward rises, the points do not deviate from the line, and every rival curve is excluded"


def needed(difference: Contrast, margin: float = MARGIN) -> str:
    """Returns how many replicates would decide an undecided difference, at the spread and effect observed."""
    number = replicates_for(difference.difference, difference.spread, margin)
    if number is None:
        return "more than 1000 replicates would be needed to decide it"
    number = max(number, difference.n_replicates + 1)
    return f"about {number} replicates would decide it (80% power, if the true difference is the one observed)"
