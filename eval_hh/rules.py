"""The rules that decide from intervals whether a claim of the paper held.

Library.

The rules, in words (the README repeats them):
- "More responses and fewer prompts win at equal budget" held for a pair of cells when the 95% interval of the
  difference (more responses minus more prompts) lies wholly above zero, did not hold when it lies wholly
  below zero, and is undecided otherwise.
- "Reward is linear in D" held for a number of responses K when the slope's 95% interval lies wholly above
  zero and the line explains at least 80% of the variance between sizes. It did not hold when the interval
  lies wholly below zero, or when the line explains less than 80% and the points leave the line by more than
  prompts and seeds account for (p < 0.05; needs two seeds, for with one a bend cannot be told from
  run-to-run spread). Anything else, and anything with fewer than three sizes, is undecided.
- "D predicts reward beyond the number of prompts" (ours) held for one algorithm and K when, in the least-squares fit of
  reward on log M and D over random and chosen subsets, the 95% interval of D's coefficient lies wholly above zero, did
  not hold when it lies wholly below zero, and is undecided otherwise.
- "D can guide data augmentation" held for one algorithm and K when the 95% interval of the difference, prompts added to
  raise D minus as many added at random from the same pool, lies wholly above zero, did not hold when it lies wholly
  below zero, and is undecided otherwise.
- A claim held in a run when it held in every case tested, did not hold when it failed in at least one, and is
  undecided otherwise.
"""

from __future__ import annotations

from collections.abc import Collection

from eval_hh.law import LEVEL, Estimate

HELD, DID_NOT_HOLD, UNDECIDED = "held", "did not hold", "undecided"
MIN_R2 = 0.8
MIN_SIZES = 3


def decide_sign(low: float, high: float) -> str:
    """Verdict on an effect that should be above zero, from its interval (see the module's rules)."""
    if low > 0:
        return HELD
    return DID_NOT_HOLD if high < 0 else UNDECIDED


def decide_line(n_sizes: int, n_seeds: int, slope: Estimate, r2: float, bend: float) -> tuple[str, str]:
    """Verdict on one line of reward against D and the reason in words (see the module's rules)."""
    if n_sizes < MIN_SIZES:
        return UNDECIDED, f"{n_sizes} sizes, a line needs {MIN_SIZES}"
    if slope.high < 0:
        return DID_NOT_HOLD, "reward falls as D rises"
    if r2 < MIN_R2 and bend < LEVEL and n_seeds > 1:
        return DID_NOT_HOLD, "the points leave the line by more than prompts and seeds account for"
    if slope.low <= 0:
        return UNDECIDED, "the slope's interval includes zero"
    if r2 < MIN_R2:
        return UNDECIDED, f"reward rises with D, but the line explains less than {MIN_R2:.0%}"
    return HELD, f"reward rises with D and the line explains {r2:.0%}"


def combine(verdicts: Collection[str]) -> str:
    """Verdict on a claim from its cases: held in all, did not hold in at least one, or undecided."""
    if DID_NOT_HOLD in verdicts:
        return DID_NOT_HOLD
    return HELD if verdicts and set(verdicts) == {HELD} else UNDECIDED
