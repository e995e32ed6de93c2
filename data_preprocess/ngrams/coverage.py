"""The n-grams covered by a growing set of prompts: exact gains, greedy selection by them, and swaps that raise D.

Greedy selection needs no lazy heap here: an inverted index from each n-gram to the prompts that contain it keeps all
gains exact. When a prompt is added, each newly covered n-gram lowers the gain of all its holders by one, so all updates
of a whole selection cost at most one step per (prompt, n-gram), and each selection step is one pass over N exact
scores. A heap of stale scores (Minoux 1978) is correct only for scores that never increase; a prompt's effect on D can
increase as others are added, which exact gains handle.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.sparse import csr_array


class Coverage:
    """What a set of prompts, initially empty, covers, and what each of the N prompts of the pool would add to it."""

    def __init__(self, counts: csr_array):
        """counts: occurrences of each n-gram in each prompt, [N, G], from ngram_counts."""
        index = counts.tocsc()
        self._ngrams, self._starts = counts.indices, counts.indptr  # by prompt
        self._holders, self._holder_starts = index.indices, index.indptr  # by n-gram
        self._covered = np.zeros(counts.shape[1], dtype=np.int32)  # by n-gram: number of holders in the set
        self.distinct = np.diff(counts.indptr).astype(np.int64)  # [N], distinct n-grams of each prompt
        self.gain = self.distinct.copy()  # [N], those of them that are missing in the set
        self.lengths = counts.sum(axis=1, dtype=np.int64)  # [N], total n-grams of each prompt
        self.unique = 0  # U of the set
        self.total = 0  # T of the set

    def take(self, prompt: int) -> None:
        """Adds a prompt, which must not be in the set."""
        ngrams = self._ngrams_of(prompt)
        self._covered[ngrams] += 1
        new = ngrams[self._covered[ngrams] == 1]
        np.subtract.at(self.gain, self._holders_of(new), 1)
        self.unique += len(new)
        self.total += int(self.lengths[prompt])

    def drop(self, prompt: int) -> None:
        """Removes a prompt, which must be in the set."""
        ngrams = self._ngrams_of(prompt)
        self._covered[ngrams] -= 1
        lost = ngrams[self._covered[ngrams] == 0]
        np.add.at(self.gain, self._holders_of(lost), 1)
        self.unique -= len(lost)
        self.total -= int(self.lengths[prompt])

    def distinct_share(self) -> np.ndarray:
        """Returns U / T of the set with each prompt added, [N], 0 without n-grams: D without the factor sqrt(M + 1).

        That factor is the same for all prompts. Below 2^26 n-grams, different fractions stay different in float64.
        """
        return (self.unique + self.gain) / np.maximum(self.total + self.lengths, 1)

    def _ngrams_of(self, prompt: int) -> np.ndarray:
        return self._ngrams[self._starts[prompt] : self._starts[prompt + 1]]

    def _holders_of(self, ngrams: np.ndarray) -> np.ndarray:
        """Returns the prompts that contain each of the n-grams, concatenated."""
        starts = self._holder_starts[ngrams]
        numbers = self._holder_starts[ngrams + 1] - starts
        ends = np.cumsum(numbers)
        n_holders = int(ends[-1]) if len(ends) else 0
        return self._holders[np.repeat(starts - ends + numbers, numbers) + np.arange(n_holders)]


SCORES: dict[str, Callable[[Coverage], np.ndarray]] = {  # the highest score is selected
    "coverage": lambda coverage: coverage.gain,
    "per_token": lambda coverage: coverage.gain / np.maximum(coverage.lengths, 1),
    "max_d": lambda coverage: coverage.distinct_share(),
    "low_d": lambda coverage: -coverage.distinct_share(),
    # The least overlap: the highest share of new ones among a prompt's distinct n-grams, 0 for a prompt without any.
    "overlap": lambda coverage: coverage.gain / np.maximum(coverage.distinct, 1),
}


def greedy_order(counts: csr_array, strategy: str, available: np.ndarray, taken: Sequence[int] = ()) -> Iterator[int]:
    """Yields the prompt with the highest score at each step; ties go to the first.

    Args:
        counts: n-gram counts, [N, G].
        strategy: a key of SCORES.
        available: [N] bool, prompts that may be selected, read at each step; the caller must clear each yielded one.
        taken: prompts in the set before the first step, none of them available.
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
    counts: csr_array,
    chosen: Sequence[int],
    may_replace: Callable[[int, np.ndarray], np.ndarray],
    passes: int,
    seconds: float,
) -> list[int]:
    """Swaps selected prompts for others as long as that raises D; a new prompt takes the place of the one it replaces.

    A pass visits the selected prompts in order and replaces each by the prompt that gives the highest D, if that is
    higher than the current D; ties go to the first. D never falls. After a pass without a swap, no exchange of a single
    prompt raises D: a local optimum, not necessarily the best set.

    Args:
        counts: n-gram counts, [N, G].
        chosen: distinct prompts.
        may_replace: (selected prompt, mask of the prompts not selected) -> mask of those that may replace it, [N] bool.
        passes: maximum number of passes; this limit alone keeps the result deterministic.
        seconds: additional time limit, checked before each prompt. If it ends the swaps, a warning is emitted, since
            the result then depends on the machine and may differ between runs.
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
            if allowed[best] and shares[best] > shares[prompt]:  # if none is allowed, `best` is arbitrary
                outside[[prompt, best]] = True, False
                chosen[place] = best
            coverage.take(chosen[place])
        if chosen == before:
            break
    return chosen
