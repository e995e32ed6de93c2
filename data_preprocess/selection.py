"""Which prompts of a pool to label: M of N are chosen by a strategy, optionally matched in length to the pool.

`select_prompts` and `select_within_tokens` choose by a strategy's name, `select_max_diversity` is max_d by
itself. What each strategy does and promises stands in strategies.py; benchmarks/selection_speed.py measures all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_preprocess.command import InputError
from data_preprocess.ngrams.coverage import swap_for_diversity
from data_preprocess.ngrams.strategies import ORDERS, STRATEGIES, Pool
from data_preprocess.ngrams.token_ids import TokenIds, packed

SWAP_PASSES = 10  # over the chosen prompts of max_d, at most
SWAP_SECONDS = 40.0  # of all passes, at most
LENGTH_TOLERANCE = 0.05  # of the pool's mean length, which length-matched prompts keep within
BIN_GROWTH = 1.2  # of the number of length bins, from one try to the next
MATCHED = "_matched"  # ends the name of a length-matched selection


def selection_name(strategy: str, match_length: bool = False) -> str:
    """What a selection is called in folders, records and results."""
    return strategy + MATCHED if match_length else strategy


SELECTIONS = tuple(selection_name(strategy, matched) for strategy in STRATEGIES for matched in (False, True))


class Bins(NamedTuple):
    """Disjoint parts of a pool and how many prompts each is to give."""

    number: np.ndarray  # [N], each prompt's bin
    quotas: np.ndarray  # [bins]


def one_bin(n_prompts: int, size: int) -> Bins:
    """The pool undivided."""
    return Bins(np.zeros(n_prompts, dtype=np.int64), np.array([size]))


def length_bins(lengths: np.ndarray, size: int) -> Bins:
    """Bins of about equal counts, from the shortest prompts to the longest, each with its share of `size` as quota.

    There are as few as are needed so that the chosen prompts' mean length is within LENGTH_TOLERANCE of the pool's
    whichever prompts fill the quotas: be they every bin's longest or its shortest.

    Args:
        lengths: [N], tokens of each prompt.
        size: prompts to choose, up to N.

    Raises:
        InputError: even bins of one prompt, which leave no choice, miss the pool's mean.
    """
    n_prompts, order, n_bins = len(lengths), np.argsort(lengths, kind="stable"), 0
    if not size:
        return one_bin(n_prompts, 0)
    ascending, mean = lengths[order], lengths.mean()
    while n_bins < n_prompts:
        n_bins = min(max(n_bins + 1, int(n_bins * BIN_GROWTH)), n_prompts)
        edges, quotas = _shares(n_prompts, n_bins), np.diff(_shares(size, n_bins))
        if (quotas > np.diff(edges)).any():
            continue
        ends = quotas @ ascending[edges[:-1]], quotas @ ascending[edges[1:] - 1]
        if all(abs(end - size * mean) <= LENGTH_TOLERANCE * size * mean for end in ends):
            number = np.empty(n_prompts, dtype=np.int64)
            number[order] = np.repeat(np.arange(n_bins), np.diff(edges))
            return Bins(number, quotas)
    limit = f"within {LENGTH_TOLERANCE:.0%} of the pool's mean of {mean:.1f} tokens"
    raise InputError(f"no {size} of {n_prompts} prompts found with a mean length {limit} (expected more prompts)")


def _shares(count: int, n_bins: int) -> np.ndarray:
    """The ends of `n_bins` about equal parts of `count`, rounded, from 0 to count: [n_bins + 1]."""
    return (2 * np.arange(n_bins + 1) * count + n_bins) // (2 * n_bins)


def select_prompts(
    token_ids: Sequence[Sequence[int]], sizes: Sequence[int], strategy: str, match_length: bool = False
) -> dict[int, list[int]]:
    """Chooses `size` prompts for every size.

    The smaller sizes' prompts are the first ones of the larger sizes', but not so for max_d, whose greedy choice is
    nested and is then improved by swaps for each size by itself, nor with match_length: quotas depend on the size.

    Args:
        token_ids: one sequence of token ids per prompt.
        sizes: numbers of prompts, each from 0 to len(token_ids).
        strategy: one of STRATEGIES; its docstring (NAME_order) says what it promises.
        match_length: choose so that the mean length in tokens is within LENGTH_TOLERANCE of the pool's
            (`length_bins`).

    Returns:
        By size, indices of the chosen prompts in the order of choice. The same at every run, but for what
        `select_max_diversity` says of max_d. Of prompts that a strategy holds to be equal it takes the first.

    Raises:
        ValueError: an unknown strategy or an impossible size.
        InputError: prompts whose lengths cannot be matched.
    """
    _check(token_ids, sizes, strategy)
    pool = Pool(packed(token_ids))
    if match_length:
        bins_of = {size: length_bins(pool.token_ids.lengths, size) for size in sizes}
        return {size: _improved(pool, strategy, _take(pool, strategy, bins), bins) for size, bins in bins_of.items()}
    bins = one_bin(len(pool.token_ids), max(sizes, default=0))
    chosen = _take(pool, strategy, bins)
    return {size: _improved(pool, strategy, chosen[:size], bins) for size in sizes}


def select_max_diversity(
    token_ids: Sequence[Sequence[int]], size: int, passes: int = SWAP_PASSES, seconds: float = SWAP_SECONDS
) -> list[int]:
    """Chooses prompts of maximal D = sqrt(M) U / T: greedily, then by swaps (`swap_for_diversity`).

    No guarantee, since D is neither monotone nor submodular. The result is never worse than the greedy one, and where
    the swaps end by themselves no exchange of one prompt raises D. It is the same at every run unless the limit of
    seconds ends the swaps, of which a warning tells.

    Args:
        token_ids: one sequence of token ids per prompt.
        size: prompts to choose, 0 to len(token_ids).
        passes: of swaps over the chosen prompts, at most; 0 leaves the greedy choice.
        seconds: of swaps, at most.

    Returns:
        Indices of the chosen prompts in the order of choice, a swapped-in one in the place of the one it replaced.

    Raises:
        ValueError: an impossible size.
    """
    _check(token_ids, [size], "max_d")
    pool, bins = Pool(packed(token_ids)), one_bin(len(token_ids), size)
    return _improved(pool, "max_d", _take(pool, "max_d", bins), bins, passes=passes, seconds=seconds)


def select_within_tokens(token_ids: Sequence[Sequence[int]], max_tokens: int, strategy: str) -> list[int]:
    """Chooses prompts in the strategy's order until their token ids together would be more than `max_tokens`.

    The first prompt that does not fit ends the choice, so that a smaller cap's prompts are the first ones of a larger
    cap's (not so for max_d, whose swaps keep to the cap). Else as `select_prompts`.
    """
    _check(token_ids, [], strategy)
    pool, bins = Pool(packed(token_ids)), one_bin(len(token_ids), len(token_ids))
    return _improved(pool, strategy, _take(pool, strategy, bins, max_tokens), bins, max_tokens)


def select_addition(
    base: Sequence[Sequence[int]], pool: Sequence[Sequence[int]], size: int, match_length: bool = False
) -> list[int]:
    """Chooses prompts of a pool that, added to a base set, raise its D = sqrt(M) U / T the most: greedily.

    At each step comes the prompt with which D of base and chosen ones together is highest, of equal ones the first.
    No guarantee, since D is neither monotone nor submodular; there are no swaps.

    Args:
        base: one sequence of token ids per prompt of the set that is enlarged.
        pool: the same of the prompts to choose from.
        size: prompts to choose, 0 to len(pool).
        match_length: choose so that the chosen prompts' mean length in tokens is within LENGTH_TOLERANCE of the
            pool's, which is what random ones have on average (`length_bins`).

    Returns:
        Indices into `pool` in the order of choice.

    Raises:
        ValueError: an impossible size.
        InputError: prompts whose lengths cannot be matched.
    """
    _check(pool, [size], "max_d")
    base, pool = packed(base), packed(pool)
    bins = length_bins(pool.lengths, size) if match_length else one_bin(len(pool), size)
    both = TokenIds(np.concatenate([base.flat, pool.flat]), [*base.lengths, *pool.lengths])
    # The base has a bin of its own, from which nothing is to come.
    number = np.concatenate([np.full(len(base), len(bins.quotas)), bins.number])
    bins = Bins(number, np.append(bins.quotas, 0))
    return [index - len(base) for index in _take(Pool(both, range(len(base))), "max_d", bins)]


def _check(token_ids: Sequence[Sequence[int]], sizes: Sequence[int], strategy: str) -> None:
    if strategy not in ORDERS:
        raise ValueError(f"strategy {strategy!r} (expected one of {', '.join(STRATEGIES)})")
    for size in sizes:
        if not 0 <= size <= len(token_ids):
            raise ValueError(f"size {size} (expected 0 to the {len(token_ids)} prompts there are)")


def _take(pool: Pool, strategy: str, bins: Bins, max_tokens: float = np.inf) -> list[int]:
    """The first prompts of a strategy's order that the bins' quotas and the tokens have room for."""
    room, available = bins.quotas.copy(), bins.quotas[bins.number] > 0
    chosen, n_tokens = [], 0
    if not available.any():
        return chosen
    for prompt in ORDERS[strategy](pool, available):
        n_tokens += int(pool.token_ids.lengths[prompt])
        if n_tokens > max_tokens:
            break
        chosen.append(prompt)
        available[prompt] = False
        number = bins.number[prompt]
        room[number] -= 1
        if not room[number]:
            available[bins.number == number] = False
    return chosen


def _improved(
    pool: Pool,
    strategy: str,
    chosen: list[int],
    bins: Bins,
    max_tokens: float = np.inf,
    passes: int = SWAP_PASSES,
    seconds: float = SWAP_SECONDS,
) -> list[int]:
    """max_d's prompts after swaps within their bins and the tokens; any other strategy's as they are."""
    if strategy != "max_d":
        return chosen
    lengths = pool.token_ids.lengths

    def may_replace(prompt: int, outside: np.ndarray) -> np.ndarray:
        allowed = outside & (bins.number == bins.number[prompt])
        if max_tokens < np.inf:
            allowed &= lengths <= max_tokens - (lengths[~outside].sum() - lengths[prompt])
        return allowed

    return swap_for_diversity(pool.counts, chosen, may_replace, passes, seconds)
