"""Two experiments with chosen prompts: by strategies at one number of prompts, and a subset enlarged by models.

Strategies (data_preprocess/ngrams/strategies.py) are compared with random prompts, as many, at the same K and so for
the same number of labelled responses. An enlarged subset (labelling/augment.py) is compared with the one that it
was made of, and the prompts added to raise D with as many added at random.
"""

from __future__ import annotations

from collections.abc import Sequence

from data_preprocess.subsets import AUGMENT_RANDOM, AUGMENTATIONS, RANDOM
from eval_hh.analysis.contrasts import Choosing, Contrast, contrasts, varied
from eval_hh.analysis.d_at_fixed_size import CONTROL, TREATED

DIVERSE = tuple(name for name in AUGMENTATIONS if name != AUGMENT_RANDOM)  # additions that raise D
ELSEWHERE = (RANDOM, CONTROL, TREATED, *AUGMENTATIONS)  # selections that are no strategy's, or are compared elsewhere


def strategy_contrasts(cells: Sequence[dict]) -> list[Contrast]:
    """Every strategy minus random, for each algorithm, K and M at which both were run with a common seed."""
    settings = varied(cells)
    return contrasts(settings, [(one, (*one[:3], RANDOM)) for one in settings if one[3] not in ELSEWHERE])


def augmentation_contrasts(cells: Sequence[dict]) -> list[Contrast]:
    """For each algorithm and K: diverse minus random addition, then either addition minus the enlarged subset."""
    settings = {one: seeds for one, seeds in varied(cells).items() if one[3] in (RANDOM, *AUGMENTATIONS)}
    pairs = []
    for setting in settings:
        if setting[3] in DIVERSE:
            control = (*setting[:3], AUGMENT_RANDOM)
            if _base_sizes(settings, setting) == _base_sizes(settings, control):
                pairs.append((setting, control))
        if setting[3] != RANDOM:
            pairs += [(setting, (*setting[:2], size, RANDOM)) for size in _base_sizes(settings, setting)]
    return sorted(contrasts(settings, pairs), key=lambda one: (one.algorithm, one.ranking_len, not guides(one)))


def guides(contrast: Contrast) -> bool:
    """Whether this contrast decides the claim that D can guide augmentation: prompts added to raise D against any."""
    return contrast.first.selection in DIVERSE and contrast.second.selection == AUGMENT_RANDOM


def _base_sizes(settings: dict[Choosing, dict[int, dict]], setting: Choosing) -> set[int]:
    """M of the subsets that this one was made of: one, unless its seeds were run on different data."""
    return {cell["base_prompts"] for cell in settings.get(setting, {}).values() if cell.get("base_prompts")}
