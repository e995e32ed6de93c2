"""Selects the prompts of a pool to add to a labelled subset, and builds the rows of the enlarged subset.

"Our reading" of the paper's augmentation: adding prompts that raise D, or those with the least n-gram overlap with the
data at hand; generator, thresholds and labels are unpublished.
"""

import random
from collections.abc import Callable, Sequence

from data_preprocess.command import InputError
from data_preprocess.dialogue import PROMPTER, split_turn
from data_preprocess.ngrams.strategies import max_d_order, overlap_order
from data_preprocess.preparing.candidates import Candidates, training_row
from data_preprocess.selection import select_addition
from data_preprocess.subsets import BASE, ORIGIN, RANDOM

GIVEN, WRITTEN = "pool", "written"  # origin of an added row
DIVERSE, OVERLAP = "diverse", "overlap"  # selections of what is added; the third is RANDOM
ORDERS = {DIVERSE: max_d_order, OVERLAP: overlap_order}


def check_prompts(pool: Sequence[Candidates]) -> None:
    """Raises InputError, naming the line, for a prompt without text in its last user turn."""
    for candidates in pool:
        spoken = [text for tag, text in map(split_turn, candidates.prefix) if tag == PROMPTER]
        if not spoken or not spoken[-1].strip():
            raise InputError(f"{candidates.where}: the prompt is empty (expected words)")


def addition(
    base: Sequence[Sequence[int]],
    pool: Sequence[Sequence[int]],
    refused: set[int],
    size: int,
    by: str,
    match_length: bool,
    seed: int,
) -> list[int]:
    """Returns the prompts of the pool to add, as indices in the order of selection.

    Args:
        base: token ids of each prompt of the subset.
        pool: token ids of each prompt of the pool.
        refused: indices into the pool that must not be selected.
        size: number of prompts, at most those that are not refused.
        by: DIVERSE, those that raise D the most, OVERLAP, those that share the fewest bigrams with the subset and
            with each other (both by `select_addition`), or RANDOM, the first of a shuffle.
        match_length: except for RANDOM, keep the mean length of the selected prompts within 5% of the pool's.
        seed: of the shuffle. A refused prompt is replaced by the next one and does not move the others.
    """
    if by == RANDOM:
        order = list(range(len(pool)))
        random.Random(seed).shuffle(order)
        return [index for index in order if index not in refused][:size]
    free = [index for index in range(len(pool)) if index not in refused]
    chosen = select_addition(base, [pool[index] for index in free], size, match_length, ORDERS[by])
    return [free[index] for index in chosen]


def answered_addition(
    choose: Callable[[set[int]], list[int]],
    answer: Callable[[list[int]], dict[int, Candidates]],
    n_prompts: int,
    size: int,
) -> tuple[list[Candidates], int]:
    """Selects prompts that can be answered: those that cannot are refused, and the selection is repeated without them.

    The result equals the selection from a pool without the refused prompts, and no prompt is answered twice.

    Args:
        choose: returns the prompts to add, given the refused ones.
        answer: returns those of the given prompts that got enough different answers, with these answers.
        n_prompts: size of the pool, at least `size`.
        size: number of prompts that `choose` returns.

    Returns:
        (the selected prompts with their answers, in the order of selection; the number of refused prompts).

    Raises:
        InputError: too few prompts are left to select from.
    """
    answered: dict[int, Candidates] = {}
    refused: set[int] = set()
    while n_prompts - len(refused) >= size:
        chosen = choose(refused)
        waiting = [index for index in chosen if index not in answered]
        if not waiting:
            return [answered[index] for index in chosen], len(refused)
        found = answer(waiting)
        answered |= found
        refused |= set(waiting) - set(found)
    short = f"{len(refused)} of {n_prompts} prompts got too few distinct answers"
    expected = "a larger --num_per_prompt or --temperature, or more prompts"
    raise InputError(f"--add: {size} prompts requested, but {short} (expected {expected})")


def enlarged(base: Sequence[dict], added: Sequence[Candidates], origin: str) -> list[dict]:
    """Returns the rows of the base, then the rankings of the added prompts, each with its origin in meta."""
    rows = [{**row, "meta": {**row["meta"], ORIGIN: BASE}} for row in base]
    rankings = map(training_row, added)
    return rows + [{**row, "meta": {**row["meta"], ORIGIN: origin}} for row in rankings]
