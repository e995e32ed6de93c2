"""Cells that differ in how their prompts were chosen, compared on the same test prompts and seeds.

Library. Rewards are those of the Global pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval_hh.analysis.equal_budget import PoolBootstrap
from eval_hh.estimates import Estimate, estimate, holm

Choosing = tuple[str, int, int, str]  # (algorithm, ranking_len K, num_prompts M, selection)


@dataclass(frozen=True)
class Choice:
    """One set of prompts, and what came of it."""

    num_prompts: int
    selection: str
    diversity: float  # D
    length: float  # n-grams per prompt, one less than its tokens
    reward: float  # mean over test prompts and seeds, 0 to 1
    spread: float  # standard deviation over seeds; nan with one


@dataclass(frozen=True)
class Contrast:
    """Two choices of prompts for one algorithm and K."""

    algorithm: str
    ranking_len: int
    n_seeds: int
    first: Choice
    second: Choice
    difference: Estimate  # reward of the first minus that of the second
    holm_p: float  # of `difference`, over all contrasts of a table


def varied(cells: Sequence[dict]) -> dict[Choosing, dict[int, dict]]:
    """The cells as {(algorithm, K, M, selection): {seed: cell}}, without settings that lack D."""
    found: dict[Choosing, dict[int, dict]] = {}
    for cell in cells:
        key = (cell["algorithm"], cell["ranking_len"], cell["num_prompts"], cell["selection"])
        found.setdefault(key, {})[cell["seed"]] = cell
    return {key: seeds for key, seeds in sorted(found.items()) if all(cell["diversity"] for cell in seeds.values())}


def choice_of(bootstrap: PoolBootstrap, setting: Choosing, seeds: list[int]) -> Choice:
    """What came of a setting under these seeds."""
    rewards = np.array([bootstrap.means([setting], [seed])[0][0] for seed in seeds])
    record = bootstrap.settings[setting][seeds[0]]["diversity"]
    spread = float(rewards.std(ddof=1)) if len(seeds) > 1 else float("nan")
    length = record["total"] / record["samples"]
    return Choice(setting[2], setting[3], record["score"], length, float(rewards.mean()), spread)


def contrasts(settings: dict[Choosing, dict[int, dict]], pairs: Sequence[tuple[Choosing, Choosing]]) -> list[Contrast]:
    """The difference of every pair (first, second) of one algorithm and K, Holm-corrected over all of them.

    Args:
        settings: cells as `varied` gives them.
        pairs: of settings; one that is not there, or without a common seed, is left out.
    """
    pairs = [pair for pair in pairs if all(one in settings for one in pair)]
    if not pairs:
        return []
    bootstrap = PoolBootstrap({setting: settings[setting] for pair in pairs for setting in pair}, "Global")
    found = [_contrast(bootstrap, pair) for pair in pairs if bootstrap.common_seeds(pair)]
    corrected = holm([one.difference.p for one in found])
    return [replace(one, holm_p=p) for one, p in zip(found, corrected, strict=True)]


def _contrast(bootstrap: PoolBootstrap, pair: tuple[Choosing, Choosing]) -> Contrast:
    seeds = bootstrap.common_seeds(pair)
    means, draws = bootstrap.means(pair, seeds)
    difference = estimate(means[0] - means[1], draws[:, 0] - draws[:, 1])
    first, second = (choice_of(bootstrap, setting, seeds) for setting in pair)
    return Contrast(*pair[0][:2], len(seeds), first, second, difference, difference.p)
