"""Which prompts of a pool are added to a labelled subset, and the rows that the enlarged subset is written as.

"Our reading" of the paper's augmentation (add the prompts that raise D), whose generator,
thresholds and labels are not published.
"""

import random
from collections.abc import Callable, Sequence

from data_preprocess.command import InputError
from data_preprocess.dialogue import PROMPTER, split_turn
from data_preprocess.preparing.candidates import Candidates, training_row
from data_preprocess.selection import select_addition
from data_preprocess.subsets import BASE, ORIGIN, RANDOM

GIVEN, WRITTEN = "pool", "written"  # an added row's origin
DIVERSE = "diverse"  # one way to choose what is added; the other is RANDOM


def check_prompts(pool: Sequence[Candidates]) -> None:
    """InputError, naming the line, for a prompt of a file in which the person says nothing last."""
    for candidates in pool:
        spoken = [text for tag, text in map(split_turn, candidates.prefix) if tag == PROMPTER]
        if not spoken or not spoken[-1].strip():
            where = f"{candidates.meta['source']}:{candidates.meta['line']}"
            raise InputError(f"{where}: the prompt is empty (expected words)")


def addition(
    base: Sequence[Sequence[int]],
    pool: Sequence[Sequence[int]],
    refused: set[int],
    size: int,
    by: str,
    match_length: bool,
    seed: int,
) -> list[int]:
    """The prompts of the pool to add, as indices into it in the order of choice.

    Args:
        base: token ids of each prompt of the subset.
        pool: the same of each prompt of the pool.
        refused: indices into the pool that are not to be chosen.
        size: how many, at most the prompts that are not refused.
        by: DIVERSE, those that raise D the most (`select_addition`), or RANDOM, the first of a shuffle.
        match_length: of DIVERSE, keep the mean length of the chosen ones within 5% of the pool's.
        seed: of the shuffle. A prompt that is refused leaves its place to the next one and moves no other.
    """
    if by == RANDOM:
        order = list(range(len(pool)))
        random.Random(seed).shuffle(order)
        return [index for index in order if index not in refused][:size]
    free = [index for index in range(len(pool)) if index not in refused]
    return [free[index] for index in select_addition(base, [pool[index] for index in free], size, match_length)]


def answered_addition(
    choose: Callable[[set[int]], list[int]],
    answer: Callable[[list[int]], dict[int, Candidates]],
    n_prompts: int,
    size: int,
) -> tuple[list[Candidates], int]:
    """Chooses prompts that can be answered: who cannot is refused, and the choice is made anew without them.

    So the result is the choice from a pool that never held them, and no prompt is answered twice.

    Args:
        choose: which prompts to add, given those that are refused.
        answer: the prompts among the given ones that got enough different answers, with these.
        n_prompts: of the pool, at least `size`.
        size: how many prompts `choose` gives.

    Returns:
        (the chosen prompts with their answers, in the order of choice; the number of refused ones).

    Raises:
        InputError: too few prompts are left to choose from.
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
    short = f"{len(refused)} of {n_prompts} prompts got too few different answers"
    expected = "a larger --num_per_prompt or --temperature, or more prompts"
    raise InputError(f"--add: {size} prompts asked for, but {short} (expected {expected})")


def enlarged(base: Sequence[dict], added: Sequence[Candidates], origin: str) -> list[dict]:
    """The rows of the enlarged subset: those of the base, then the added prompts' rankings, each with its origin."""
    rows = [{**row, "meta": {**row["meta"], ORIGIN: BASE}} for row in base]
    rankings = map(training_row, added)
    return rows + [{**row, "meta": {**row["meta"], ORIGIN: origin}} for row in rankings]
