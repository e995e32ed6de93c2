"""What an annotation budget buys from a pool: the number of prompts for each number of responses, and their D."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from data_preprocess.command import InputError
from data_preprocess.diversity import diversity_curve
from data_preprocess.ngrams.strategies import NGRAM
from data_preprocess.ngrams.token_ids import TokenIds
from data_preprocess.ranking import SEED
from data_preprocess.selection import select_prompts
from data_preprocess.subsets import RANDOM
from labelling.planning.plan_clusters import cluster_prompts

STRATIFIED = "stratified"


@dataclass(frozen=True)
class Prices:
    """Labelling costs, all in one unit. The default counts labelled responses."""

    prompt: Decimal = Decimal(0)  # per prompt written
    response: Decimal = Decimal(1)  # per response written
    comparison: Decimal = Decimal(0)  # per pair of responses compared
    comparisons: int | None = None  # per prompt; None: every pair once, K (K - 1) / 2

    def of_prompt(self, ranking_len: int) -> Decimal:
        """Returns the cost of one prompt with K responses and their comparisons."""
        pairs = ranking_len * (ranking_len - 1) // 2 if self.comparisons is None else self.comparisons
        return self.prompt + ranking_len * self.response + pairs * self.comparison


@dataclass(frozen=True)
class Split:
    """One way to spend a budget: M prompts with K responses each."""

    ranking_len: int  # K
    size: int  # M; 0 if the budget does not cover one prompt
    cost: Decimal  # total, in the unit of the prices


@dataclass(frozen=True)
class ChosenPrompts:
    """Prompts selected from a pool."""

    indices: list[int]  # in the order of selection
    diversity: float  # D
    tokens: float  # mean per prompt


def split_budget(
    budget: Decimal, prices: Prices, ranking_lens: Sequence[int], pool_size: int, labelled: int = 0
) -> list[Split]:
    """Returns for each K as many prompts as the budget covers and the pool has.

    Args:
        budget: the whole budget.
        prices: of the labels.
        ranking_lens: the K to compare.
        pool_size: prompts that there are.
        labelled: how many of them have been labelled and paid for already, at the largest K. They count as prompts of
            every K, whose rankings are cut from theirs.

    Raises:
        InputError: the budget covers no prompt at any K, or not those labelled.
    """
    largest = prices.of_prompt(max(ranking_lens))
    rest = budget - labelled * largest
    if rest < 0:
        found = f"{labelled:,} prompts are labelled at K = {max(ranking_lens)}, which cost {labelled * largest:,}"
        raise InputError(f"a budget of {budget:,} is spent already: {found}")
    splits = []
    for ranking_len in ranking_lens:
        price = prices.of_prompt(ranking_len)
        more = min(int(rest // price), pool_size - labelled)
        splits.append(Split(ranking_len, labelled + more, labelled * largest + more * price))
    if not any(split.size for split in splits):
        lens, least = ", ".join(map(str, ranking_lens)), min(map(prices.of_prompt, ranking_lens))
        found = f"a budget of {budget:,} does not cover a single prompt at K = {lens}"
        raise InputError(f"{found} (expected {least:,} or more)")
    return splits


def choose_prompts(
    token_ids: TokenIds, sizes: Sequence[int], strategy: str, match_length: bool = False
) -> dict[int, ChosenPrompts]:
    """Returns the prompts that a strategy selects at each size (1 or more), with D and mean length.

    STRATIFIED draws random prompts from clusters of the pool (plan_clusters), as many of each as its share of the pool;
    any other strategy is one of `select_prompts`.
    """
    kinds = cluster_prompts(token_ids, SEED) if strategy == STRATIFIED else None
    found, drawn = {}, RANDOM if strategy == STRATIFIED else strategy
    for size, indices in select_prompts(token_ids, sizes, drawn, match_length, kinds).items():
        score = diversity_curve([token_ids[index] for index in indices], [size], NGRAM)[size].score
        found[size] = ChosenPrompts(indices, score, float(token_ids.lengths[indices].mean()))
    return found


def random_diversity(token_ids: TokenIds, sizes: Sequence[int]) -> dict[int, float]:
    """Returns D of random prompts at each size, counted in one pass over the seeded shuffle."""
    order = select_prompts(token_ids, [max(sizes)], RANDOM)[max(sizes)]
    curve = diversity_curve([token_ids[index] for index in order], sizes, NGRAM)
    return {size: diversity.score for size, diversity in curve.items()}
