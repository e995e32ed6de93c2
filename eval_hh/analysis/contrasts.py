"""Compares settings that differ in how their prompts were chosen, on the same test prompts and seeds (Global)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval_hh.analysis.results import Results
from eval_hh.cells import Setting
from eval_hh.estimates import Estimate, holm_corrected


@dataclass(frozen=True)
class Choice:
    """One set of prompts and the reward it led to."""

    num_prompts: int
    selection: str
    diversity: float  # D
    length: float  # bigrams per prompt, one less than tokens
    reward: float  # mean over test prompts and seeds, 0 to 1
    spread: float  # standard deviation over seeds; nan with one


@dataclass(frozen=True)
class Contrast:
    """Two sets of prompts, compared for one algorithm and K."""

    algorithm: str
    ranking_len: int
    n_seeds: int
    first: Choice
    second: Choice
    difference: Estimate  # reward of the first minus that of the second
    holm_p: float  # p of `difference`, Holm-corrected over all contrasts of a table


def choice_of(results: Results, setting: Setting, seeds: Sequence[int]) -> Choice:
    """Returns D, length and reward of a setting that has D, over these seeds."""
    rewards = results.rewards(setting, seeds).mean(axis=1)
    spread = float(rewards.std(ddof=1)) if len(seeds) > 1 else float("nan")
    known = results.diversity[setting], results.length(setting)
    return Choice(setting.num_prompts, setting.selection, *known, float(rewards.mean()), spread)


def contrasts(results: Results, pairs: Sequence[tuple[Setting, Setting]]) -> list[Contrast]:
    """Returns the difference of each pair (first, second) of one algorithm and K, Holm-corrected over all pairs.

    Pairs without a common seed, or with a setting without D, are left out.
    """
    found = []
    for pair in pairs:
        seeds = results.seeds(*pair)
        if seeds and all(setting in results.diversity for setting in pair):
            difference = results.bootstrap("Global").difference(*pair, seeds)
            choices = [choice_of(results, setting, seeds) for setting in pair]
            line = (pair[0].algorithm, pair[0].ranking_len)
            found.append(Contrast(*line, len(seeds), *choices, difference, difference.p))
    return holm_corrected(found)
