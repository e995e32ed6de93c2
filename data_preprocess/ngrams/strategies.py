"""The strategies of selection.py, each an order in which it selects the prompts of a pool.

An order reads at each step which prompts are available, [N] bool, and yields one of them; its caller clears that one,
and others if a quota is full. Each docstring states the strategy's guarantee; 1 - 1/e is about 0.63.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush

import numpy as np
from scipy.sparse import csr_array

from data_preprocess.ngrams.coverage import greedy_order
from data_preprocess.ngrams.sparse_rows import nearest_neighbours, ngram_counts, tfidf_vectors
from data_preprocess.ngrams.token_ids import TokenIds
from data_preprocess.ranking import SEED, nested_subsets

NGRAM = 2  # tokens per n-gram of D, as in the paper


@dataclass(frozen=True)
class Pool:
    """N prompts and the features that strategies use, computed lazily and once."""

    token_ids: TokenIds  # of N prompts
    taken: Sequence[int] = ()  # prompts already in the set; used by max_d and overlap_order
    seed: int = SEED  # of random's shuffle

    @cached_property
    def counts(self) -> csr_array:
        return ngram_counts(self.token_ids, NGRAM)

    @cached_property
    def vectors(self) -> csr_array:
        return tfidf_vectors(self.token_ids)

    @cached_property
    def neighbours(self) -> csr_array:
        return nearest_neighbours(self.vectors)


def random_order(pool: Pool, available: np.ndarray) -> Iterator[int]:
    """random: the seeded shuffle; sample.py's subsets without --select are its prefixes."""
    count = len(pool.token_ids)
    order = nested_subsets(list(range(count)), [count], pool.seed)[count]
    return (prompt for prompt in order if available[prompt])


def coverage_order(pool: Pool, available: np.ndarray) -> Iterator[int]:
    """coverage: at each step the prompt with the most bigrams that are not in a selected one.

    Its number of distinct bigrams U is at least 1 - 1/e of the maximum for M prompts, since U is monotone and
    submodular (Nemhauser, Wolsey and Fisher 1978), and at least 1/2 of it within length bins (Fisher, Nemhauser and
    Wolsey 1978, for a partition matroid). This holds for U, not D: the strategy prefers long prompts.
    """
    return greedy_order(pool.counts, "coverage", available)


def per_token_order(pool: Pool, available: np.ndarray) -> Iterator[int]:
    """per_token: at each step the prompt with the highest ratio of new bigrams to its own bigrams.

    The ratio rule of budgeted coverage, which has no guarantee by itself (Khuller, Moss and Naor 1999), nor for D.
    """
    return greedy_order(pool.counts, "per_token", available)


def max_d_order(pool: Pool, available: np.ndarray) -> Iterator[int]:
    """max_d, greedy part: at each step the prompt that gives the highest D = sqrt(M) U / T.

    No guarantee: D is neither monotone (a prompt that repeats others lowers it) nor submodular (a prompt's effect can
    grow as others are selected). `select_max_diversity` describes the swaps that follow.
    """
    return greedy_order(pool.counts, "max_d", available, pool.taken)


def low_d_order(pool: Pool, available: np.ndarray) -> Iterator[int]:
    """low_d: at each step the prompt that gives the lowest D, a control for experiments. No guarantee, as for max_d."""
    return greedy_order(pool.counts, "low_d", available)


def overlap_order(pool: Pool, available: np.ndarray) -> Iterator[int]:
    """Not a strategy of sample.py but one of augment.py: at each step the prompt with the least overlap.

    A prompt's overlap is the share of its distinct bigrams that occur in the prompts taken or selected so far; that of
    a prompt without bigrams is 1. No guarantee.
    """
    return greedy_order(pool.counts, "overlap", available, pool.taken)


def facility_order(pool: Pool, available: np.ndarray) -> Iterator[int]:
    """facility: at each step the prompt that raises facility location most, the sum over the pool of each prompt's
    similarity to its nearest selected one.

    Similarities are cosines of TF-IDF vectors, zero except for each prompt's nearest neighbours (`nearest_neighbours`).
    The greedy selection reaches at least 1 - 1/e of the maximum of that sum for M prompts, since it is monotone and
    submodular (Nemhauser, Wolsey and Fisher 1978), and at least 1/2 within length bins (Fisher, Nemhauser and Wolsey
    1978). Gains never increase, so a heap of earlier gains tells which need recomputing (Minoux 1978).
    """
    index = pool.neighbours.tocsc()  # by candidate: the prompts that have it as a neighbour
    nearest = np.zeros(len(pool.token_ids))

    def similarities(prompt: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(index.indptr[prompt], index.indptr[prompt + 1])
        return index.indices[part], index.data[part]

    def entry(prompt: int) -> tuple[float, int]:
        others, similarity = similarities(prompt)
        return -float(np.maximum(similarity - nearest[others], 0).sum()), prompt

    heap = [entry(prompt) for prompt in np.flatnonzero(available).tolist()]
    heapify(heap)
    while heap:
        prompt = heappop(heap)[1]
        if not available[prompt]:
            continue
        current = entry(prompt)
        if heap and heap[0] < current:
            heappush(heap, current)
            continue
        others, similarity = similarities(prompt)
        nearest[others] = np.maximum(nearest[others], similarity)
        yield prompt


def k_center_order(pool: Pool, available: np.ndarray) -> Iterator[int]:
    """k_center: at each step the prompt farthest from the selected ones, starting with the pool's first prompt.

    Distances are Euclidean between TF-IDF vectors. The largest distance of any prompt to its nearest selected one is at
    most twice the minimum for M prompts (Gonzalez 1985); within length bins there is no such guarantee.
    """
    vectors, transposed = pool.vectors, pool.vectors.T.tocsr()
    squares = vectors.power(2).sum(axis=1)
    distance = np.full(len(pool.token_ids), np.inf)  # squared, to the nearest selected prompt
    while available.any():
        farthest = int(np.argmax(np.where(available, distance, -np.inf)))
        yield farthest
        products = vectors[[farthest]] @ transposed
        to_farthest = squares + squares[farthest]
        to_farthest[products.indices] -= 2 * products.data
        np.minimum(distance, np.maximum(to_farthest, 0), out=distance)


Order = Callable[[Pool, np.ndarray], Iterator[int]]
RANDOM = "random"  # the published selection, omitted in the names of folders and records
ORDERS: dict[str, Order] = {
    RANDOM: random_order,
    "coverage": coverage_order,
    "per_token": per_token_order,
    "max_d": max_d_order,
    "facility": facility_order,
    "k_center": k_center_order,
    "low_d": low_d_order,
}
STRATEGIES = tuple(ORDERS)
