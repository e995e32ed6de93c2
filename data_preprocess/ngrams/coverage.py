"""The n-grams that a growing set of prompts covers: exact gains, greedy choice by them, and swaps that raise D.

Greedy choice needs no lazy heap here: an inverted index from each n-gram to the prompts that
hold it keeps every gain exact. When a prompt is taken, each n-gram that it is the first to cover lowers the gain of
all its holders by one, so that all updates of a whole choice cost at most one step per (prompt, n-gram), and a choice
is one pass over N exact scores. A heap of earlier scores (Minoux 1978) would be right only for scores that never
rise; D's change of a prompt can rise as others are taken, and is served here all the same.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class Coverage:
    """What a set of prompts, empty at first, covers, and what each of the N prompts of the pool would add to it."""

    def __init__(self, counts: "csr_array"):
        """counts: how often each prompt holds each n-gram, [N, G], as ngram_counts gives them."""
        index = counts.tocsc()
        self._ngrams, self._starts = counts.indices, counts.indptr  # by prompt
        self._holders, self._holder_starts = index.indices, index.indptr  # by n-gram
        self._covered = np.zeros(counts.shape[1], dtype=np.int32)  # by n-gram: how many prompts of the set hold it
        self.gain = np.diff(counts.indptr).astype(np.int64)  # [N], distinct n-grams that the set lacks
        self.lengths = counts.sum(axis=1, dtype=np.int64)  # [N], all n-grams of each prompt
        self.unique = 0  # U of the set
        self.total = 0  # T of the set

    def take(self, prompt: int) -> None:
        """Adds a prompt to the set, which must not hold it."""
        ngrams = self._ngrams_of(prompt)
        self._covered[ngrams] += 1
        new = ngrams[self._covered[ngrams] == 1]
        np.subtract.at(self.gain, self._holders_of(new), 1)
        self.unique += len(new)
        self.total += int(self.lengths[prompt])

    def drop(self, prompt: int) -> None:
        """Takes a prompt out of the set, which must hold it."""
        ngrams = self._ngrams_of(prompt)
        self._covered[ngrams] -= 1
        lost = ngrams[self._covered[ngrams] == 0]
        np.add.at(self.gain, self._holders_of(lost), 1)
        self.unique -= len(lost)
        self.total -= int(self.lengths[prompt])

    def distinct_share(self) -> np.ndarray:
        """U / T of the set with each prompt added, [N], 0 where there is no n-gram: D without the factor sqrt(M + 1).

        That factor is the same for all, and below 2^26 n-grams no two fractions that differ round to one float64.
        """
        return (self.unique + self.gain) / np.maximum(self.total + self.lengths, 1)

    def _ngrams_of(self, prompt: int) -> np.ndarray:
        return self._ngrams[self._starts[prompt] : self._starts[prompt + 1]]

    def _holders_of(self, ngrams: np.ndarray) -> np.ndarray:
        """The prompts that hold each of the n-grams, one after another."""
        starts = self._holder_starts[ngrams]
        numbers = self._holder_starts[ngrams + 1] - starts
        ends = np.cumsum(numbers)
        n_holders = int(ends[-1]) if len(ends) else 0
        return self._holders[np.repeat(starts - ends + numbers, numbers) + np.arange(n_holders)]


SCORES: dict[str, Callable[[Coverage], np.ndarray]] = {  # the highest is chosen
    "coverage": lambda coverage: coverage.gain,
    "per_token": lambda coverage: coverage.gain / np.maximum(coverage.lengths, 1),
    "max_d": lambda coverage: coverage.distinct_share(),
    "low_d": lambda coverage: -coverage.distinct_share(),
}


def greedy_order(counts: "csr_array", strategy: str, available: np.ndarray, taken: Sequence[int] = ()) -> Iterator[int]:
    """Yields at each step the prompt of the highest score, of equal ones the first.

    Args:
        counts: of n-grams, [N, G].
        strategy: of SCORES.
        available: [N], bool, prompts that may be chosen; read at each step, so that the caller can close some.
            It must close those that it was given.
        taken: prompts that the set holds before the first step, none of them available.
    """
    coverage, score = Coverage(counts), SCORES[strategy]
    for prompt in taken:
        coverage.take(prompt)
    while available.any():
        best = _highest(score(coverage), available)
        yield best
        coverage.take(best)


def _highest(scores: np.ndarray, available: np.ndarray) -> int:
    return int(np.argmax(np.where(available, scores, -np.inf)))


def swap_for_diversity(
    counts: "csr_array",
    chosen: Sequence[int],
    may_replace: Callable[[int, np.ndarray], np.ndarray],
    passes: int,
    seconds: float,
) -> list[int]:
    """Exchanges chosen prompts for others while that raises D; each newcomer stands where the one it replaces stood.

    A pass goes through the chosen prompts in order and gives each one's place to the prompt with which D is highest,
    if that is higher than with itself; of equal ones to the first. D never falls. After a pass without an exchange,
    no exchange of one prompt for one other raises D: a local optimum, which need not be the best set.

    Args:
        counts: of n-grams, [N, G].
        chosen: distinct prompts.
        may_replace: given a chosen prompt and which prompts are not chosen, [N] bool, says which of these may take
            its place, [N] bool.
        passes: at most so many; by itself a limit that gives the same result at every run.
        seconds: a limit on top, looked at before each prompt. Where it ends the swaps, a warning says so: how far
            they came then depends on the machine, and another run may choose otherwise.
    """
    chosen, deadline = list(chosen), time.monotonic() + seconds
    coverage, outside = Coverage(counts), np.ones(counts.shape[0], dtype=bool)
    for prompt in chosen:
        coverage.take(prompt)
    outside[chosen] = False
    for _ in range(passes):
        before = list(chosen)
        for place, prompt in enumerate(before):
            if time.monotonic() > deadline:
                message = f"swaps ended by their limit of {seconds:g} seconds: another run may choose other prompts"
                warnings.warn(message, stacklevel=2)
                return chosen
            allowed = may_replace(prompt, outside)
            coverage.drop(prompt)
            shares = coverage.distinct_share()
            best = _highest(shares, allowed)
            if allowed[best] and shares[best] > shares[prompt]:  # where none is allowed, `best` is any prompt
                outside[[prompt, best]] = True, False
                chosen[place] = best
            coverage.take(chosen[place])
        if chosen == before:
            break
    return chosen
