"""Selects M of N prompts of a pool by a strategy, optionally matched to the pool in length and in kinds of prompt.

`select_prompts` and `select_within_tokens` take a strategy's name; `select_max_diversity` is max_d alone. strategies.py
documents each strategy and its guarantee; benchmarks/selection_speed.py measures all of them.
"""

from collections.abc import Sequence
from itertools import product, starmap
from typing import NamedTuple

import numpy as np

from data_preprocess.command import InputError
from data_preprocess.ngrams.coverage import swap_for_diversity
from data_preprocess.ngrams.strategies import ORDERS, RANDOM, STRATEGIES, Order, Pool
from data_preprocess.ngrams.token_ids import joined, packed
from data_preprocess.ranking import SEED

SWAP_PASSES = 10  # max_d: maximum number of swap passes over the selected prompts
SWAP_SECONDS = 40.0  # max_d: time limit for all passes
LENGTH_TOLERANCE = 0.05  # length matching: relative deviation allowed from the pool's mean length
BIN_GROWTH = 1.2  # factor between successive numbers of length bins tried
MATCHED, BY_KIND, HALF = "_matched", "_kind", "_half"  # suffixes of a selection's name, in this order


class Selection(NamedTuple):
    """How prompts are selected: a strategy, what is matched to the pool, and from which part of it."""

    strategy: str
    match_length: bool = False
    match_kind: bool = False
    half: bool = False  # from a random half of the pool

    @property
    def name(self) -> str:
        """Its name in folders, records and results."""
        suffixes = (MATCHED * self.match_length, BY_KIND * self.match_kind, HALF * self.half)
        return self.strategy + "".join(suffixes)

    @property
    def flags(self) -> list[str]:
        """The flags of sample.py for it; none for random."""
        select = [] if self.strategy == RANDOM else ["--select", self.strategy]
        return select + [f"--{field}" for field in ("match_length", "match_kind", "half") if getattr(self, field)]


SELECTIONS = {  # by name
    selection.name: selection for selection in starmap(Selection, product(STRATEGIES, *[(False, True)] * 3))
}


class Bins(NamedTuple):
    """A partition of the pool, with the number of prompts to select from each bin."""

    number: np.ndarray  # [N], the bin of each prompt
    quotas: np.ndarray  # [bins]


def one_bin(n_prompts: int, size: int) -> Bins:
    """Returns the whole pool as one bin."""
    return Bins(np.zeros(n_prompts, dtype=np.int64), np.array([size]))


def kind_bins(kinds: Sequence[str], size: int) -> Bins:
    """Returns one bin per kind of prompt, in alphabetical order, with its share of `size` as quota.

    Quotas are rounded by largest remainder (ties go to the first kind): they sum to `size`, each is within one prompt
    of the exact share size x count / N, and none exceeds its kind's count.

    Args:
        kinds: [N], the kind of each prompt.
        size: prompts to select, up to N.
    """
    _, number, counts = np.unique(np.asarray(kinds, dtype=str), return_inverse=True, return_counts=True)
    quotas, remainders = np.divmod(counts * size, len(kinds))
    quotas[np.argsort(-remainders, kind="stable")[: size - quotas.sum()]] += 1
    return Bins(number, quotas)


def length_bins(lengths: np.ndarray, size: int, within: Bins | None = None) -> Bins:
    """Cuts every bin of a partition (default: the whole pool) into bins from its shortest to its longest prompts.

    The new bins of an old one have about equal counts, and each its share of the old quota. Their number grows until
    the mean length of all selected prompts is within LENGTH_TOLERANCE of the pool's however the quotas are filled, even
    with the longest or the shortest prompts of every bin.

    Args:
        lengths: [N], tokens of each prompt.
        size: prompts to select, up to N.
        within: the bins to cut; their quotas sum to `size`.

    Raises:
        InputError: even bins of one prompt, which leave no choice, miss the pool's mean.
    """
    within = within or one_bin(len(lengths), size)
    if not size:
        return within
    counts = np.bincount(within.number)
    order, n_bins = np.lexsort((lengths, within.number)), 0
    ascending, mean = lengths[order], lengths.mean()
    while n_bins < counts.max():
        n_bins = min(max(n_bins + 1, int(n_bins * BIN_GROWTH)), counts.max())
        parts = np.minimum(n_bins, counts)
        widths, quotas = (np.concatenate(list(map(_parts, totals, parts))) for totals in (counts, within.quotas))
        if (quotas > widths).any():
            continue
        edges = np.append(0, np.cumsum(widths))
        ends = quotas @ ascending[edges[:-1]], quotas @ ascending[edges[1:] - 1]
        if all(abs(end - size * mean) <= LENGTH_TOLERANCE * size * mean for end in ends):
            number = np.empty(len(lengths), dtype=np.int64)
            number[order] = np.repeat(np.arange(len(widths)), widths)
            return Bins(number, quotas)
    limit = f"within {LENGTH_TOLERANCE:.0%} of the pool's mean of {mean:.1f} tokens"
    raise InputError(f"no {size} of {len(lengths)} prompts found with a mean length {limit} (expected more prompts)")


def _parts(count: int, n_parts: int) -> np.ndarray:
    """Returns the sizes of about equal parts of `count`, whose boundaries are rounded: [n_parts]."""
    return np.diff((2 * np.arange(n_parts + 1) * count + n_parts) // (2 * n_parts))


def matched_bins(lengths: np.ndarray, size: int, match_length: bool, kinds: Sequence[str] | None) -> Bins:
    """Returns the bins of a selection: one per kind if `kinds` are given, cut by length if lengths are matched."""
    bins = one_bin(len(lengths), size) if kinds is None else kind_bins(kinds, size)
    return length_bins(lengths, size, bins) if match_length else bins


def select_prompts(
    token_ids: Sequence[Sequence[int]],
    sizes: Sequence[int],
    strategy: str,
    match_length: bool = False,
    kinds: Sequence[str] | None = None,
    seed: int = SEED,
) -> dict[int, list[int]]:
    """Selects `size` prompts for every size.

    A smaller selection is a prefix of a larger one, with two exceptions: max_d, whose greedy selection is then improved
    by swaps for each size separately, and quotas (match_length and kinds), which depend on the size.

    Args:
        token_ids: one sequence of token ids per prompt.
        sizes: numbers of prompts, each from 0 to len(token_ids).
        strategy: one of STRATEGIES; the docstring of NAME_order states its guarantee.
        match_length: keep the mean length in tokens within LENGTH_TOLERANCE of the pool's (`length_bins`).
        kinds: the kind of each prompt; the number of selected ones of each kind is within one prompt of its share of
            the pool (`kind_bins`). With match_length too, prompts of a kind and a length bin share a quota.
        seed: of the shuffle of random.

    Returns:
        By size, the indices of the selected prompts in the order of selection. Deterministic, except for the time limit
        of max_d (see `select_max_diversity`). Ties go to the first prompt.

    Raises:
        ValueError: an unknown strategy or an impossible size.
        InputError: the length cannot be matched.
    """
    _check(token_ids, sizes)
    order = _order(strategy)
    pool = Pool(packed(token_ids), seed=seed)
    if match_length or kinds is not None:
        bins_of = {size: matched_bins(pool.token_ids.lengths, size, match_length, kinds) for size in sizes}
        return {size: _improved(pool, strategy, _take(pool, order, bins), bins) for size, bins in bins_of.items()}
    bins = one_bin(len(pool.token_ids), max(sizes, default=0))
    chosen = _take(pool, order, bins)
    return {size: _improved(pool, strategy, chosen[:size], bins) for size in sizes}


def select_max_diversity(
    token_ids: Sequence[Sequence[int]], size: int, passes: int = SWAP_PASSES, seconds: float = SWAP_SECONDS
) -> list[int]:
    """Selects prompts for maximal D = sqrt(M) U / T: greedily, then by swaps (`swap_for_diversity`).

    There is no guarantee, since D is neither monotone nor submodular. The result is never worse than the greedy one,
    and if the swaps converge, no exchange of one prompt raises D. Deterministic unless the time limit ends the swaps (a
    warning).

    Args:
        token_ids: one sequence of token ids per prompt.
        size: prompts to select, 0 to len(token_ids).
        passes: maximum number of swap passes over the selected prompts; 0 keeps the greedy selection.
        seconds: time limit of the swaps.

    Returns:
        Indices of the selected prompts in the order of selection; a swapped-in prompt takes the place of the old one.

    Raises:
        ValueError: an impossible size.
    """
    _check(token_ids, [size])
    pool, bins = Pool(packed(token_ids)), one_bin(len(token_ids), size)
    return _improved(pool, "max_d", _take(pool, ORDERS["max_d"], bins), bins, passes=passes, seconds=seconds)


def select_within_tokens(
    token_ids: Sequence[Sequence[int]], max_tokens: int, strategy: str, seed: int = SEED
) -> list[int]:
    """Selects prompts in the strategy's order until their total number of tokens would exceed `max_tokens`.

    The first prompt that does not fit ends the selection, so a smaller cap selects a prefix of a larger cap's prompts
    (except for max_d, whose swaps respect the cap). Otherwise as `select_prompts`.
    """
    order = _order(strategy)
    pool, bins = Pool(packed(token_ids), seed=seed), one_bin(len(token_ids), len(token_ids))
    return _improved(pool, strategy, _take(pool, order, bins, max_tokens), bins, max_tokens)


def select_addition(
    base: Sequence[Sequence[int]],
    pool: Sequence[Sequence[int]],
    size: int,
    match_length: bool = False,
    order: Order = ORDERS["max_d"],
) -> list[int]:
    """Selects prompts of a pool to add to a base set, greedily: each step sees those of base and selected so far.

    By default each step takes the prompt that gives the highest D = sqrt(M) U / T of base and selected prompts
    together, and with `overlap_order` the one that shares the fewest of its bigrams with them. Ties go to the first
    prompt. There is no guarantee (D is neither monotone nor submodular), and there are no swaps.

    Args:
        base: one sequence of token ids per prompt of the base set.
        pool: the same for the prompts to select from.
        size: prompts to select, 0 to len(pool).
        match_length: keep the selected prompts' mean length in tokens within LENGTH_TOLERANCE of the pool's, which is
            the expected mean of random ones (`length_bins`).
        order: a greedy order that starts from the base set (`Pool.taken`).

    Returns:
        Indices into `pool` in the order of selection.

    Raises:
        ValueError: an impossible size.
        InputError: the length cannot be matched.
    """
    _check(pool, [size])
    base, pool = packed(base), packed(pool)
    bins = matched_bins(pool.lengths, size, match_length, kinds=None)
    both = joined(base, pool)
    # The base gets its own bin with quota 0.
    number = np.concatenate([np.full(len(base), len(bins.quotas)), bins.number])
    bins = Bins(number, np.append(bins.quotas, 0))
    return [index - len(base) for index in _take(Pool(both, range(len(base))), order, bins)]


def _check(token_ids: Sequence[Sequence[int]], sizes: Sequence[int]) -> None:
    for size in sizes:
        if not 0 <= size <= len(token_ids):
            raise ValueError(f"size {size} (expected 0 to {len(token_ids)}, the number of prompts)")


def _order(strategy: str) -> Order:
    if strategy not in ORDERS:
        raise ValueError(f"strategy {strategy!r} (expected one of {', '.join(STRATEGIES)})")
    return ORDERS[strategy]


def _take(pool: Pool, order: Order, bins: Bins, max_tokens: float = np.inf) -> list[int]:
    """Returns the first prompts of an order that fit the bins' quotas and the token limit."""
    room, available = bins.quotas.copy(), bins.quotas[bins.number] > 0
    chosen, n_tokens = [], 0
    if not available.any():
        return chosen
    for prompt in order(pool, available):
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
    """Returns max_d's prompts after swaps within their bins and the token limit, or another strategy's unchanged."""
    if strategy != "max_d":
        return chosen
    lengths = pool.token_ids.lengths

    def may_replace(prompt: int, outside: np.ndarray) -> np.ndarray:
        allowed = outside & (bins.number == bins.number[prompt])
        if max_tokens < np.inf:
            allowed &= lengths <= max_tokens - (lengths[~outside].sum() - lengths[prompt])
        return allowed

    return swap_for_diversity(pool.counts, chosen, may_replace, passes, seconds)
