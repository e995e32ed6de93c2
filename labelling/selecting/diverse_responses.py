"""Diverse and representative responses of a prompt, for people to rank; chosen by their words, without a reward model.

After AEPO (Jinnai and Honda, 2025, arXiv 2405.13541): of n candidates those K are shown that are unlike each other, so
that there is something to compare, but like the other candidates, so that no freak is chosen for being one. AEPO
measures similarity by sentence embeddings; here it is the Jaccard similarity of the texts' sets of words.
study/label_choices.py compares the choice with random ones.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, product
from random import Random

import numpy as np

from data_preprocess.words import words

DIVERSE = "diverse"


def choose_diverse(texts: Sequence[str], ranking_len: int, rng: Random) -> list[int]:
    """Returns the indices of `ranking_len` responses, in random order.

    The value of a set is the mean similarity of its members to all other responses minus the mean similarity of its
    pairs: AEPO's objective with equal weights. The pair of the highest value grows by one response at a time, and then
    members are exchanged for others as long as the value rises: exact for two, a local maximum beyond.

    Args:
        texts: of a prompt's responses.
        ranking_len: how many are chosen, two or more.
        rng: chooses among sets of equal value.

    Raises:
        ValueError: fewer than two are wanted, or fewer texts than wanted.
    """
    if not 2 <= ranking_len <= len(texts):
        raise ValueError(f"{ranking_len} of {len(texts)} responses (expected two or more, at most all)")
    order = rng.sample(range(len(texts)), len(texts))  # max returns the first of equal ones
    near = similarities(texts)
    likeness = near.sum(axis=1) / (len(texts) - 1)

    def value(chosen: Sequence[int]) -> float:
        pairs = [near[pair] for pair in combinations(chosen, 2)]
        return round(float(likeness[list(chosen)].mean() - np.mean(pairs)), 12)  # equal values differ by rounding

    chosen = max(combinations(order, 2), key=value)
    while len(chosen) < ranking_len:
        chosen = max(((*chosen, one) for one in order if one not in chosen), key=value)
    while value(better := max(_exchanged(chosen, order), key=value, default=chosen)) > value(chosen):
        chosen = better
    return rng.sample(chosen, ranking_len)


def _exchanged(chosen: Sequence[int], order: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yields the sets that differ from `chosen` in one member."""
    for place, one in product(range(len(chosen)), order):
        if one not in chosen:
            yield (*chosen[:place], one, *chosen[place + 1 :])


def similarities(texts: Sequence[str]) -> np.ndarray:
    """Returns the Jaccard similarity of the sets of words of each two texts [n, n], zero on the diagonal.

    Upper and lower case are one word. Of a text without words, such as emoji, characters count as words.
    """
    sets = [frozenset(words(text.lower()) or "".join(text.split())) for text in texts]
    near = np.zeros((len(sets), len(sets)))
    for i, j in combinations(range(len(sets)), 2):
        either = sets[i] | sets[j]
        near[i, j] = near[j, i] = len(sets[i] & sets[j]) / len(either) if either else 1.0
    return near
