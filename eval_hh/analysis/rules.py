"""The rules that decide from intervals whether a claim of the paper held.

The rules in words (eval_hh/README.md repeats them):
- Fewer than three seeds give no verdict.
- "More responses and fewer prompts win at equal budget" held for a pair of cells if the 95% interval of the difference
  (more responses minus more prompts) is above zero, did not hold if it is below zero, both only if p < 0.05 after
  Holm's correction over all pairs, and is undecided otherwise.
- "Reward is linear in D" did not hold for a number of responses K if the 95% interval of the slope is below zero, or if
  the line explains less than 80% of the variance between sizes and the points deviate from it by more than prompts and
  seeds account for (p < 0.05). Otherwise it is undecided, however well the line fits: in random subsets D rises with M,
  and a line on log M fits as well.
- "D can guide data augmentation" and "D predicts reward beyond the number of prompts" are undecided: their sets of
  prompts are drawn once, and not matched by kind of prompt (eval_hh/analysis/verdicts.py).
- A claim held, or did not hold, in a run if it did so in every case tested, and is undecided otherwise.
"""

from __future__ import annotations

from collections.abc import Collection

from eval_hh.estimates import LEVEL, Estimate

HELD, DID_NOT_HOLD, UNDECIDED = "held", "did not hold", "undecided"
NO_VERDICT = "no verdict"
MIN_R2 = 0.8
MIN_SIZES = 3
MIN_SEEDS = 3


def decide_sign(low: float, high: float) -> str:
    """Returns the verdict on an effect that should be above zero, from its interval (see the module's rules)."""
    if low > 0:
        return HELD
    return DID_NOT_HOLD if high < 0 else UNDECIDED


def decide_pair(difference: Estimate, holm_p: float, n_seeds: int) -> str:
    """Returns the verdict on one of several differences, from its interval and corrected p (see the module's rules)."""
    if n_seeds < MIN_SEEDS:
        return NO_VERDICT
    return decide_sign(difference.low, difference.high) if holm_p < LEVEL else UNDECIDED


def decide_line(n_sizes: int, n_seeds: int, slope: Estimate, r2: float, bend: float) -> tuple[str, str]:
    """Returns the verdict on one line of reward on D, and the reason in words (see the module's rules)."""
    if n_seeds < MIN_SEEDS:
        return NO_VERDICT, f"the line explains {r2:.0%}"
    if n_sizes < MIN_SIZES:
        return UNDECIDED, f"{n_sizes} sizes, a line needs {MIN_SIZES}"
    if slope.high < 0:
        return DID_NOT_HOLD, "reward falls as D rises"
    if r2 < MIN_R2 and bend < LEVEL:
        return DID_NOT_HOLD, "the points leave the line by more than prompts and seeds account for"
    if slope.low <= 0:
        return UNDECIDED, "the slope's interval includes zero"
    if r2 < MIN_R2:
        return UNDECIDED, f"reward rises with D, but the line explains less than {MIN_R2:.0%}"
    return UNDECIDED, f"reward rises with D and the line explains {r2:.0%}, but D rises with M"


def combine(verdicts: Collection[str]) -> str:
    """Returns the verdict on a claim: that of its cases if they agree, else undecided; none if a case has none."""
    if not verdicts or NO_VERDICT in verdicts:
        return NO_VERDICT
    return next(iter(verdicts)) if len(set(verdicts)) == 1 else UNDECIDED
