"""Diverse and representative responses: against slow loops over all sets, with ties, in other scripts."""

from collections import Counter
from itertools import combinations
from random import Random

import pytest

from labelling.selecting.diverse_responses import choose_diverse, similarities


def slow_value(texts, chosen):
    """AEPO's objective in scalar math, from sets of words."""

    def likeness(a, b):
        one, other = set(a.split()), set(b.split())
        return len(one & other) / len(one | other)

    whole = [
        sum(likeness(texts[i], other) for j, other in enumerate(texts) if j != i) / (len(texts) - 1) for i in chosen
    ]
    pairs = [likeness(texts[i], texts[j]) for i in chosen for j in chosen if i != j]
    return sum(whole) / len(whole) - sum(pairs) / len(pairs)


def made_up(rng, n):
    return [" ".join(rng.choices("abcdefghij", k=rng.randint(1, 8))) for _ in range(n)]


def test_a_pair_is_the_best_of_all_pairs():
    rng = Random(0)
    for _ in range(100):
        texts = made_up(rng, rng.randint(2, 8))
        best = max(slow_value(texts, pair) for pair in combinations(range(len(texts)), 2))
        assert slow_value(texts, choose_diverse(texts, 2, rng)) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("ranking_len", [3, 4])
def test_more_responses_are_nearly_the_best_of_all_sets(ranking_len):
    """A local maximum: of the distance from the mean set to the best one, 0.95 or more is reached in the mean."""
    rng, shares = Random(1), []
    for _ in range(100):
        texts = made_up(rng, 8)
        values = [slow_value(texts, one) for one in combinations(range(8), ranking_len)]
        mean, found = sum(values) / len(values), slow_value(texts, choose_diverse(texts, ranking_len, rng))
        shares.append((found - mean) / (max(values) - mean))
    assert sum(shares) / len(shares) > 0.95


def test_neither_copies_nor_freaks_are_shown():
    """Two of one kind and two of another: one of each, and not the text that is like no other."""
    texts = ["boil the water first", "boil the water now", "ask your doctor today", "ask your doctor first", "zzz"]
    for seed in range(20):
        first, second = sorted(choose_diverse(texts, 2, Random(seed)))
        assert first in (0, 1) and second in (2, 3)


def test_equal_sets_are_chosen_by_chance_in_either_order():
    found = Counter(tuple(choose_diverse(["a b", "c d", "e f"], 2, Random(seed))) for seed in range(1200))
    assert len(found) == 6
    assert sum((count - 200) ** 2 / 200 for count in found.values()) < 20.5  # chi squared, 5 df, p = 0.001


def test_similarity_counts_words_of_every_script():
    near = similarities(["Boil WATER!", "boil water", "煮水", "煮茶", "🙂🙂", "🙂", "..."])
    assert near[0, 1] == near[4, 5] == 1 and near[2, 3] == pytest.approx(1 / 3)
    assert (near[:, 6] == 0).all() and (near.diagonal() == 0).all() and (near == near.T).all()


def test_all_responses_may_be_wanted_and_no_more():
    assert sorted(choose_diverse(["a", "b", "c"], 3, Random(0))) == [0, 1, 2]
    for wanted in (1, 4):
        with pytest.raises(ValueError, match=f"{wanted} of 3 responses"):
            choose_diverse(["a", "b", "c"], wanted, Random(0))
