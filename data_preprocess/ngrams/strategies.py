"""The strategies of selection.py, each an order in which it would choose the prompts of a pool.

An order reads at each step which prompts are available, [N] bool, and yields one of these; its caller closes
that one, and others where a quota is full. Every docstring says what its strategy promises; 1 - 1/e is about 0.63.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from data_preprocess.ngrams.coverage import greedy_order
from data_preprocess.ngrams.sparse_rows import nearest_neighbours, ngram_counts, tfidf_vectors
from data_preprocess.ngrams.token_ids import TokenIds
from data_preprocess.ranking import SEED, nested_subsets

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NGRAM = 2  # tokens per n-gram of D, as in the paper


@dataclass(frozen=True)
class Pool:
    """N prompts and what the strategies read of them, each computed once and only where it is used."""

    token_ids: TokenIds  # of N prompts
    taken: Sequence[int] = ()  # prompts that are in the set already; max_d alone reads of them

    @cached_property
    def counts(self) -> "csr_array":
        return ngram_counts(self.token_ids, NGRAM)

    @cached_property
    def vectors(self) -> "csr_array":
        return tfidf_vectors(self.token_ids)

    @cached_property
    def neighbours(self) -> "csr_array":
        return nearest_neighbours(self.vectors)


def random_order(pool: Pool, available: np.ndarray) -> Iterator[int]:
    """random: prompts in the seeded shuffle of which sample.py's subsets without --select are the first ones."""
    count = len(pool.token_ids)
    order = nested_subsets(list(range(count)), [count], SEED)[count]
    return (prompt for prompt in order if available[prompt])


def coverage_order(pool: Pool, available: np.ndarray) -> Iterator[int]:
    """coverage: at each step the prompt with the most bigrams that no chosen one holds.

    Its number of distinct bigrams U is at least 1 - 1/e of the most that any M prompts have, since U is monotone and
    submodular (Nemhauser, Wolsey and Fisher 1978), and at least 1/2 of it within length bins (Fisher, Nemhauser and
    Wolsey 1978, for a partition matroid). That is U, not D: it prefers long prompts.
    """
    return greedy_order(pool.counts, "coverage", available)


def per_token_order(pool: Pool, available: np.ndarray) -> Iterator[int]:
    """per_token: at each step the prompt with the most new bigrams per bigram of its own.

    The ratio rule of coverage under a budget of tokens, by itself without a guarantee (Khuller, Moss and Naor 1999);
    none for D either.
    """
    return greedy_order(pool.counts, "per_token", available)


def max_d_order(pool: Pool, available: np.ndarray) -> Iterator[int]:
    """max_d, its greedy part: at each step the prompt with which D = sqrt(M) U / T is highest.

    No guarantee: D is neither monotone (a prompt that repeats others lowers it) nor submodular (what a prompt changes
    can grow as others are chosen). `select_max_diversity` tells of the swaps that follow.
    """
    return greedy_order(pool.counts, "max_d", available, pool.taken)


def low_d_order(pool: Pool, available: np.ndarray) -> Iterator[int]:
    """low_d: at each step the prompt with which D is lowest, a control for experiments. No guarantee, as for max_d."""
    return greedy_order(pool.counts, "low_d", available)


def facility_order(pool: Pool, available: np.ndarray) -> Iterator[int]:
    """facility: at each step the prompt that raises facility location most, the sum over the pool of each prompt's
    similarity to the chosen one nearest to it.

    Similarities are cosines of TF-IDF vectors, zero but for each prompt's nearest neighbours (`nearest_neighbours`).
    Of that sum the greedy choice gets at least 1 - 1/e of the most that any M prompts have, since it is monotone and
    submodular (Nemhauser, Wolsey and Fisher 1978), and at least 1/2 within length bins (Fisher, Nemhauser and Wolsey
    1978). Gains never rise, so that a heap of earlier gains tells which need to be computed anew (Minoux 1978).
    """
    index = pool.neighbours.tocsc()  # by candidate: the prompts that have it among their neighbours
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
    """k_center: at each step the prompt farthest from the chosen ones, the first one being the pool's first.

    The distance is Euclidean between TF-IDF vectors. The largest distance of any prompt to the nearest chosen one is
    at most twice the smallest that M prompts allow (Gonzalez 1985); within length bins there is no such guarantee.
    """
    vectors, transposed = pool.vectors, pool.vectors.T.tocsr()
    squares = vectors.power(2).sum(axis=1)
    distance = np.full(len(pool.token_ids), np.inf)  # squared, to the nearest chosen prompt
    while available.any():
        farthest = int(np.argmax(np.where(available, distance, -np.inf)))
        yield farthest
        products = vectors[[farthest]] @ transposed
        to_farthest = squares + squares[farthest]
        to_farthest[products.indices] -= 2 * products.data
        np.minimum(distance, np.maximum(to_farthest, 0), out=distance)


ORDERS: dict[str, Callable[[Pool, np.ndarray], Iterator[int]]] = {
    "random": random_order,
    "coverage": coverage_order,
    "per_token": per_token_order,
    "max_d": max_d_order,
    "facility": facility_order,
    "k_center": k_center_order,
    "low_d": low_d_order,
}
STRATEGIES = tuple(ORDERS)
