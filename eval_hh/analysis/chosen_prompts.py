"""Two experiments with chosen prompts: by strategies at one number of prompts, and a subset enlarged by models.

Strategies (data_preprocess/ngrams/strategies.py) are compared with random prompts, as many, at the same K and so for
the same number of labelled responses. An enlarged subset (labelling/augment.py) is compared with the one that it
was made of, and the prompts added to raise D with as many added at random.
"""

from __future__ import annotations

from dataclasses import replace

from data_preprocess.subsets import AUGMENT_RANDOM, AUGMENTATIONS, RANDOM
from eval_hh.analysis.contrasts import Contrast, contrasts
from eval_hh.analysis.d_at_fixed_size import CONTROL, TREATED
from eval_hh.analysis.results import Results
from eval_hh.cells import Setting

DIVERSE = tuple(name for name in AUGMENTATIONS if name != AUGMENT_RANDOM)  # additions that raise D
ELSEWHERE = (RANDOM, CONTROL, TREATED, *AUGMENTATIONS)  # selections that are no strategy's, or are compared elsewhere


def strategy_contrasts(results: Results) -> list[Contrast]:
    """Every strategy minus random, for each algorithm, K and M at which both were run with a common seed."""
    chosen = [setting for setting in results.settings if setting.selection not in ELSEWHERE]
    return contrasts(results, [(setting, replace(setting, selection=RANDOM)) for setting in chosen])


def augmentation_contrasts(results: Results) -> list[Contrast]:
    """For each algorithm and K: diverse minus random addition, then either addition minus the enlarged subset."""
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
    """Whether this contrast decides the claim that D can guide augmentation: prompts added to raise D against any."""
    return contrast.first.selection in DIVERSE and contrast.second.selection == AUGMENT_RANDOM


def _base_sizes(results: Results, setting: Setting) -> set[int]:
    """M of the subsets that this one was made of: one, unless its seeds were run on different data."""
    sizes = {results.cell(setting, seed).base_prompts for seed in results.seeds(setting)}
    return {size for size in sizes if size}
