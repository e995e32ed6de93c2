"""Compares settings on the same test prompts and the same replicates, and tests the study's primary effects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval_hh.analysis.results import Results, Units
from eval_hh.analysis.rules import NO_VERDICT, decide, decide_row
from eval_hh.cells import Setting
from eval_hh.estimates import Contrast, holm, over_replicates, paired_differences

Pair = tuple[Setting, Setting]


@dataclass(frozen=True)
class Side:
    """One of two settings compared."""

    setting: Setting
    reward: float  # mean over test prompts and replicates, 0 to 1
    spread: float  # standard deviation over replicates; nan with one
    diversity: float  # D; nan if unknown
    length: float  # bigrams per prompt, one less than tokens; nan if unknown


@dataclass(frozen=True)
class Comparison:
    """Two settings compared in a pool; `difference` is the reward of the first minus that of the second."""

    pool: str
    first: Side
    second: Side
    difference: Contrast
    one_draw: bool  # of one draw of the subsets: replicates differ in their training seed only
    can_judge: bool  # whether the reward is one that can judge in this pool (reward_scale.py)
    holm_p: float  # p of `difference`, Holm-corrected over the table's rows
    verdict: str  # on "the first is better"; see rules.decide_row

    @property
    def algorithm(self) -> str:
        return self.first.setting.algorithm


@dataclass(frozen=True)
class Effect:
    """The mean difference over several pairs of settings, on the replicates that all of them have."""

    pairs: tuple[Pair, ...]
    difference: Contrast
    one_draw: bool
    n_left_out: int  # replicates that only some of the settings have
    verdict: str


def effect_of(values: Sequence[float]) -> Contrast:
    """Returns the contrast of one effect per replicate; of a single replicate without interval and p (nan)."""
    if len(values) == 1:
        return Contrast(float(values[0]), *[float("nan")] * 3, 0, 1)
    return over_replicates(values)


def primary_effect(results: Results, pairs: Sequence[Pair], pool: str = "Global") -> Effect | None:
    """Returns the mean of first minus second over the pairs; None without a pair or a replicate common to all."""
    settings = {setting for pair in pairs for setting in pair}
    units = results.units(*settings)
    if not units:
        return None
    means = {setting: results.mean_rewards(setting, units, pool) for setting in settings}
    difference = effect_of(
        np.mean([paired_differences(means[first], means[second]) for first, second in pairs], axis=0)
    )
    scale = results.scale(pool)
    word = decide(difference, scale.margin) if scale.can_judge and not units.one_draw else NO_VERDICT
    return Effect(tuple(pairs), difference, units.one_draw, results.n_left_out(*settings), word)


def comparisons(results: Results, pairs: Iterable[Pair], pools: Sequence[str] = ("Global",)) -> list[Comparison]:
    """Compares each pair in each pool, Holm-corrected over all; pairs without a common replicate are left out."""
    found, can_judge = [], {pool: results.scale(pool).can_judge for pool in pools}
    for pair in pairs:
        units = results.units(*pair)
        for pool in pools if units else ():
            sides = [_side(results, setting, units, pool) for setting in pair]
            first, second = (results.mean_rewards(setting, units, pool) for setting in pair)
            difference = effect_of(paired_differences(first, second))
            row = Comparison(pool, *sides, difference, units.one_draw, can_judge[pool], difference.p, NO_VERDICT)
            found.append(row)
    corrected = holm([one.difference.p for one in found])
    return [replace(one, holm_p=p, verdict=_word(one, p)) for one, p in zip(found, corrected, strict=True)]


def _word(one: Comparison, holm_p: float) -> str:
    return decide_row(one.difference, holm_p) if one.can_judge and not one.one_draw else NO_VERDICT


def _side(results: Results, setting: Setting, units: Units, pool: str) -> Side:
    rewards = results.mean_rewards(setting, units, pool)
    spread = float(rewards.std(ddof=1)) if len(rewards) > 1 else float("nan")
    known = float("nan"), float("nan")
    if setting in results.diversity:
        records = results.records(setting, units)
        scores, lengths = zip(*((one["score"], one["total"] / one["samples"]) for one in records), strict=True)
        known = float(np.mean(scores)), float(np.mean(lengths))
    return Side(setting, float(rewards.mean()), spread, *known)
