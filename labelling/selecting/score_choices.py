"""Choices by a reward model's scores: which two responses of a prompt to compare, and which prompts to label.

Equal scores are chosen among at random: a file may list responses best first, and its order must not decide.
study/label_choices.py compares each choice with random ones.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from random import Random

ANY_TWO = "random"  # of a prompt's responses
BEST_WORST, CLOSEST = "best_worst", "closest"
PREFERENCE_VARIANCE = "preference_variance"
PAIRS = (ANY_TWO, BEST_WORST, CLOSEST)


def choose_pair(scores: Sequence[float], how: str, rng: Random) -> tuple[int, int]:
    """Returns the indices of two responses, in random order.

    Args:
        scores: of a prompt's responses, two or more.
        how: one of PAIRS: any two, those of the highest and the lowest score, or two whose scores differ least.
        rng: chooses where `how` leaves a choice.

    Raises:
        ValueError: fewer than two scores, or another `how`.
    """
    if len(scores) < 2 or how not in PAIRS:
        raise ValueError(f"{how} of {len(scores)} scores (expected one of {', '.join(PAIRS)}, of two or more)")
    pairs = list(combinations(rng.sample(range(len(scores)), len(scores)), 2))
    rng.shuffle(pairs)  # min and max return the first of equal ones

    def distance(pair: tuple[int, int]) -> float:
        return abs(scores[pair[0]] - scores[pair[1]])

    if how == ANY_TWO:
        return pairs[0]
    return (max if how == BEST_WORST else min)(pairs, key=distance)


def preference_variance(scores: Sequence[float]) -> float:
    """Returns the variance of sigmoid(r_i - r_j) over all ordered pairs of a prompt's responses; 0 with fewer than two.

    It is the preference variance (PVar) of Guo et al. (2025, arXiv 2510.13022), under a reward model r. The mean over
    both orders of a pair is 1/2, so it is the mean of (sigmoid(r_i - r_j) - 1/2)^2, from 0 to 1/4.
    """
    # sigmoid(x) - 1/2 = tanh(x / 2) / 2, which does not overflow.
    found = [(math.tanh((a - b) / 2) / 2) ** 2 for a, b in combinations(scores, 2)]
    return sum(found) / len(found) if found else 0.0


def by_preference_variance(scores: Sequence[Sequence[float]], rng: Random) -> list[int]:
    """Returns the indices of the prompts, highest preference variance first; `scores` are of each one's responses."""
    variances = [preference_variance(one) for one in scores]
    return sorted(rng.sample(range(len(scores)), len(scores)), key=variances.__getitem__, reverse=True)
