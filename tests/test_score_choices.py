"""Pairs and prompts chosen by scores: against slow loops, with ties, at the ends of the scale."""

import math
from collections import Counter
from random import Random

import pytest

from labelling.selecting.score_choices import PAIRS, by_preference_variance, choose_pair, preference_variance


def test_pairs_are_those_of_a_slow_loop():
    rng = Random(0)
    for _ in range(50):
        scores = [rng.gauss(0, 1) for _ in range(rng.randint(2, 6))]
        gaps = {frozenset((a, b)): abs(scores[a] - scores[b]) for b in range(len(scores)) for a in range(b)}
        widest, narrowest = (frozenset(choose_pair(scores, how, rng)) for how in ("best_worst", "closest"))
        assert gaps[widest] == max(gaps.values()) and gaps[narrowest] == min(gaps.values())


@pytest.mark.parametrize("how", PAIRS)
def test_equal_scores_leave_the_choice_to_chance(how):
    """Rankings are listed best first: with equal scores each pair, in each order, is as likely (12 of 1 in 12)."""
    found = Counter(choose_pair([1.0] * 4, how, Random(seed)) for seed in range(2400))
    assert len(found) == 12 and all(a != b for a, b in found)
    assert sum((count - 200) ** 2 / 200 for count in found.values()) < 31.3  # chi squared, 11 df, p = 0.001


def test_ties_of_some():
    """The worst are equal, and any of them may be shown beside the best; the closest are two of them."""
    pairs = {how: {frozenset(choose_pair([3, 0, 0, 0], how, Random(seed))) for seed in range(99)} for how in PAIRS}
    assert pairs["best_worst"] == {frozenset((0, one)) for one in (1, 2, 3)}
    assert pairs["closest"] == {frozenset(one) for one in ((1, 2), (1, 3), (2, 3))}


def test_what_cannot_be_compared():
    for scores, how in (([1.0], "closest"), ([], "random"), ([1.0, 2.0], "widest")):
        with pytest.raises(ValueError, match=f"{how} of {len(scores)} scores"):
            choose_pair(scores, how, Random(0))


def test_preference_variance_is_the_variance_over_ordered_pairs():
    scores = [0.3, -1.2, 2.0, 2.0]
    values = [
        1 / (1 + math.exp(scores[j] - scores[i])) for i in range(len(scores)) for j in range(len(scores)) if i != j
    ]
    mean = sum(values) / len(values)
    assert preference_variance(scores) == pytest.approx(sum((value - mean) ** 2 for value in values) / len(values))


def test_preference_variance_at_its_ends():
    assert preference_variance([5, 5, 5]) == preference_variance([5]) == preference_variance([]) == 0
    assert preference_variance([-1e6, 1e6]) == 0.25
    assert preference_variance([1, 2, 4]) == pytest.approx(preference_variance([101, 102, 104]))


def test_prompts_by_preference_variance():
    """Highest first; of equal ones any may be."""
    scores = [[0, 1], [0, 3], [7, 7], [0, -2], [1, 1]]
    orders = {tuple(by_preference_variance(scores, Random(seed))) for seed in range(40)}
    assert orders == {(1, 3, 0, 2, 4), (1, 3, 0, 4, 2)}
