"""Two experiments on prompt selection: strategies at one number of prompts, and subsets enlarged by models.

Strategies (data_preprocess/ngrams/strategies.py) are compared with the same number of random prompts at the same K, so
with the same number of labelled responses. An enlarged subset (labelling/augment.py) is compared with its base subset,
and the prompts added to raise D with the same number added at random.
"""

from __future__ import annotations

from dataclasses import replace

from data_preprocess.subsets import AUGMENT_RANDOM, AUGMENTATIONS, RANDOM
from eval_hh.analysis.contrasts import Contrast, contrasts
from eval_hh.analysis.d_at_fixed_size import CONTROL, TREATED
from eval_hh.analysis.results import Results
from eval_hh.cells import Setting

DIVERSE = tuple(name for name in AUGMENTATIONS if name != AUGMENT_RANDOM)  # additions that raise D
ELSEWHERE = (RANDOM, CONTROL, TREATED, *AUGMENTATIONS)  # selections that are not strategies or are compared elsewhere


def strategy_contrasts(results: Results) -> list[Contrast]:
    """Returns strategy minus random for each strategy, algorithm, K and M at which both have a common seed."""
    chosen = [setting for setting in results.settings if setting.selection not in ELSEWHERE]
    return contrasts(results, [(setting, replace(setting, selection=RANDOM)) for setting in chosen])


def augmentation_contrasts(results: Results) -> list[Contrast]:
    """Returns, per algorithm and K, diverse minus random additions, then each addition minus the base subset."""
    pairs = []
    for setting in results.settings:
        if setting.selection in DIVERSE:
            control = replace(setting, selection=AUGMENT_RANDOM)
            if _base_sizes(results, setting) == _base_sizes(results, control):
                pairs.append((setting, control))
        if setting.selection in AUGMENTATIONS:
            base = replace(setting, selection=RANDOM)
            pairs += [(setting, replace(base, num_prompts=size)) for size in _base_sizes(results, setting)]
    return sorted(contrasts(results, pairs), key=lambda one: (one.algorithm, one.ranking_len, not guides(one)))


def guides(contrast: Contrast) -> bool:
    """Returns whether this contrast decides the claim that D can guide augmentation: diverse minus random additions."""
    return contrast.first.selection in DIVERSE and contrast.second.selection == AUGMENT_RANDOM


def _base_sizes(results: Results, setting: Setting) -> set[int]:
    """Returns M of this subset's base subsets: one, unless its seeds were run on different data."""
    sizes = {results.cell(setting, seed).base_prompts for seed in results.seeds(setting)}
    return {size for size in sizes if size}
