"""Three experiments on prompt selection, as pairs of settings to compare at the same K.

Strategies (data_preprocess/ngrams/strategies.py) are compared with as many random prompts. An enlarged subset
(labelling/augment.py) is compared with its base subset, and additions with random additions. High and low D are subsets
of one size, selected for D and matched in length and, where the data names the kinds, in kind of prompt.
"""

from __future__ import annotations

from dataclasses import replace

from data_preprocess.selection import MATCHED
from data_preprocess.subsets import AUGMENT_DIVERSE, AUGMENT_RANDOM, AUGMENTATIONS, RANDOM
from eval_hh.analysis.contrasts import Pair
from eval_hh.analysis.results import Results
from eval_hh.cells import Setting

LOW_D, HIGH_D = "low_d" + MATCHED, "max_d" + MATCHED  # the start of the names of selections matched at least in length


def fixed_size_pairs(results: Results) -> list[Pair]:
    """Returns the pairs (high D, low D) of one algorithm, K, M and matching."""
    high = [setting for setting in results.settings if setting.selection.startswith(HIGH_D)]
    pairs = [(one, replace(one, selection=LOW_D + one.selection.removeprefix(HIGH_D))) for one in high]
    return [pair for pair in pairs if results.replicates(*pair)]


def strategy_pairs(results: Results) -> list[Pair]:
    """Returns the pairs (strategy, random) of one algorithm, K and M."""
    elsewhere = (RANDOM, *AUGMENTATIONS)
    matched = (LOW_D, HIGH_D)
    chosen = [
        one for one in results.settings if one.selection not in elsewhere and not one.selection.startswith(matched)
    ]
    pairs = [(setting, replace(setting, selection=RANDOM)) for setting in chosen]
    return [pair for pair in pairs if results.replicates(*pair)]


def addition_pairs(results: Results, prefix: str = "") -> list[Pair]:
    """Returns the pairs (additions, random additions) to one base subset; only selections that start with `prefix`."""
    pairs = []
    for one in results.settings:
        control = replace(one, selection=AUGMENT_RANDOM)
        if one.selection in AUGMENTATIONS and one != control and one.selection.startswith(prefix):
            same_base = _base_sizes(results, one) == _base_sizes(results, control)
            pairs += [(one, control)] * (same_base and bool(results.replicates(one, control)))
    return pairs


def guided_pairs(results: Results) -> list[Pair]:
    """Returns the pairs of claim 3: the additions that raise D most, minus random ones."""
    return addition_pairs(results, AUGMENT_DIVERSE)


def enlarged_pairs(results: Results) -> list[Pair]:
    """Returns the pairs (enlarged subset, its base subset)."""
    pairs = []
    for one in results.settings:
        if one.selection in AUGMENTATIONS:
            base = replace(one, selection=RANDOM)
            pairs += [(one, replace(base, num_prompts=size)) for size in sorted(_base_sizes(results, one))]
    return [pair for pair in pairs if results.replicates(*pair)]


def _base_sizes(results: Results, setting: Setting) -> set[int]:
    """Returns M of this subset's base subsets: one, unless its replicates were run on different sizes."""
    sizes = {results.cell(setting, replicate).base_prompts for replicate in results.replicates(setting)}
    return {size for size in sizes if size}
