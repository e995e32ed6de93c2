"""The paper's claims tested on cells: equal-budget pairs, lines of reward on D, and a verdict on each claim.

Every interval and p of a pool comes from one bootstrap of its test prompts (PoolBootstrap), so that the pairs
and lines of a report are consistent with one another. Only randomly chosen subsets take part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_preprocess.files import InputError
from eval_hh.cells import POOLS, describe, pooled
from eval_hh.law import (
    MIN_SIZES,
    UNDECIDED,
    Estimate,
    Line,
    bend_p,
    budgets,
    combine,
    decide_budget,
    decide_line,
    estimate,
    fit_line,
    holm,
    row_draws,
    seed_weights,
    slope_draws,
)

# Equal-budget pairs as K of (more responses, more prompts); the first decides the paper's claim.
PAIRS = ((4, 2), (3, 2), (4, 3))
PREDICTORS = ("D", "M", "log M")
Setting = tuple[str, int, int]  # (algorithm, ranking_len K, num_prompts M)


@dataclass(frozen=True)
class Comparison:
    """One equal-budget pair of an algorithm in a pool; `difference` is more responses minus more prompts."""

    algorithm: str
    pool: str
    more_responses: tuple[int, int]  # (K, M)
    more_prompts: tuple[int, int]
    n_seeds: int
    difference: Estimate
    holm_p: float
    verdict: str


@dataclass(frozen=True)
class LineTest:
    """The line of Global reward on D of one algorithm and K, with the same points' lines on M and log M."""

    algorithm: str
    ranking_len: int
    n_sizes: int
    n_seeds: int
    lines: dict[str, Line]  # by predictor; empty below two sizes
    slope: Estimate | None  # of the line on D
    verdict: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """A claim of the paper and what this run says about it."""

    claim: str
    verdict: str
    details: tuple[str, ...]


def grid(cells: list[dict]) -> dict[Setting, dict[int, dict]]:
    """The randomly chosen cells as {(algorithm, K, M): {seed: cell}}.

    Raises InputError where cells of two worlds are mixed or one cell is there twice.
    """
    worlds = sorted({str(cell["world"]) for cell in cells})
    if len(worlds) > 1:
        raise InputError(f"the result files come from {len(worlds)} different worlds: {', '.join(worlds)}")
    found: dict[Setting, dict[int, dict]] = {}
    for cell in cells:
        if cell["selection"] == "random":
            setting = (cell["algorithm"], cell["ranking_len"], cell["num_prompts"])
            if found.setdefault(setting, {}).setdefault(cell["seed"], cell) is not cell:
                raise InputError(f"a cell is there twice: {describe(cell)}")
    return dict(sorted(found.items()))


def diversity_of(cells: list[dict]) -> tuple[dict[Setting, float], list[str]]:
    """D by setting, and a warning for every setting left out of the fits on D.

    Left out is a setting without D, with different D under different seeds, or with D counted by another
    tokenizer than most.
    """
    settings = grid(cells)
    counted = [cell["diversity"] for cell in cells if cell["diversity"] is not None]
    tokenizer = Counter(record["tokenizer"] for record in counted).most_common(1)[0][0] if counted else None
    scores, warnings = {}, []
    for (algorithm, ranking_len, num_prompts), seeds in settings.items():
        records = [cell["diversity"] for cell in seeds.values()]
        if None in records:
            why = "no D recorded"
        elif {record["tokenizer"] for record in records} != {tokenizer}:
            why = f"D counted by another tokenizer than {tokenizer}"
        elif len({record["score"] for record in records}) > 1:
            why = "D differs between seeds"
        else:
            scores[algorithm, ranking_len, num_prompts] = records[0]["score"]
            continue
        warnings.append(f"{algorithm} K={ranking_len} M={num_prompts}: {why}, left out of the fits on D")
    return scores, warnings


class PoolBootstrap:
    """Mean rewards of every cell in a pool and their joint bootstrap over the pool's test prompts."""

    def __init__(self, cells: list[dict], pool: str) -> None:
        self.settings = grid(cells)
        members = [
            (setting, seed, cell) for setting, seeds in self.settings.items() for seed, cell in seeds.items()
        ]
        rewards = [pooled(cell, pool) for _, _, cell in members]
        if len({len(row) for row in rewards}) > 1:
            raise InputError(f"{pool}: the cells were not scored on the same test rows")
        stacked = np.stack(rewards)
        self._column = {(setting, seed): index for index, (setting, seed, _) in enumerate(members)}
        self._means = stacked.mean(axis=1)
        self._draws = row_draws(stacked)

    def common_seeds(self, settings: Sequence[Setting]) -> list[int]:
        """Seeds that every one of the settings was run with."""
        return sorted(set.intersection(*(set(self.settings[setting]) for setting in settings)))

    def means(self, settings: Sequence[Setting], seeds: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Mean rewards [settings] over the seeds, and their draws [n_draws, settings]."""
        columns = np.array([[self._column[setting, seed] for seed in seeds] for setting in settings])
        weights = seed_weights(len(seeds), len(self._draws))
        draws = (self._draws[:, columns] * weights[:, None, :]).sum(axis=2)
        return self._means[columns].mean(axis=1), draws


def comparisons(cells: list[dict], bootstraps: dict[str, PoolBootstrap] | None = None) -> list[Comparison]:
    """Every equal-budget pair in the cells, for each algorithm and pool, Holm-corrected over all of them.

    `bootstraps` are the pools where they have been drawn already. A pair without a common seed is left out.
    """
    settings = grid(cells)
    if not settings:
        return []
    bootstraps = bootstraps or {pool: PoolBootstrap(cells, pool) for pool in POOLS}
    found = []
    for algorithm in sorted({setting[0] for setting in settings}):
        for pool, bootstrap in bootstraps.items():
            for budget in budgets({setting[2] for setting in settings}):
                for more, fewer in PAIRS:
                    pair = [(algorithm, more, budget[more]), (algorithm, fewer, budget[fewer])]
                    seeds = bootstrap.common_seeds(pair) if all(one in settings for one in pair) else []
                    if seeds:
                        found.append(_compare(bootstrap, pool, pair, seeds))
    corrected = holm([comparison.difference.p for comparison in found])
    return [replace(one, holm_p=p) for one, p in zip(found, corrected, strict=True)]


def _compare(bootstrap: PoolBootstrap, pool: str, pair: list[Setting], seeds: list[int]) -> Comparison:
    means, draws = bootstrap.means(pair, seeds)
    difference = estimate(means[0] - means[1], draws[:, 0] - draws[:, 1])
    return Comparison(
        algorithm=pair[0][0],
        pool=pool,
        more_responses=pair[0][1:],
        more_prompts=pair[1][1:],
        n_seeds=len(seeds),
        difference=difference,
        holm_p=difference.p,
        verdict=decide_budget(difference.low, difference.high),
    )


def line_tests(cells: list[dict], bootstrap: PoolBootstrap | None = None) -> list[LineTest]:
    """For each algorithm and K, the lines of Global reward on D, M and log M over settings that have D."""
    scores, _ = diversity_of(cells)
    if scores and bootstrap is None:
        bootstrap = PoolBootstrap(cells, "Global")
    tests = []
    for algorithm, ranking_len in sorted({setting[:2] for setting in grid(cells)}):
        settings = [setting for setting in scores if setting[:2] == (algorithm, ranking_len)]
        seeds = bootstrap.common_seeds(settings) if settings else []
        if len({scores[setting] for setting in settings}) < 2 or not seeds:
            reason = f"{len(settings)} sizes with D and {len(seeds)} seeds common to them"
            tests.append(
                LineTest(algorithm, ranking_len, len(settings), len(seeds), {}, None, UNDECIDED, reason)
            )
            continue
        tests.append(_line_test(bootstrap, settings, [scores[setting] for setting in settings], seeds))
    return tests


def _line_test(
    bootstrap: PoolBootstrap, settings: list[Setting], scores: list[float], seeds: list[int]
) -> LineTest:
    means, draws = bootstrap.means(settings, seeds)
    sizes = [setting[2] for setting in settings]
    lines = {
        name: fit_line(x, means) for name, x in zip(PREDICTORS, (scores, sizes, np.log(sizes)), strict=True)
    }
    slope = estimate(lines["D"].slope, slope_draws(scores, draws))
    bend = bend_p(scores, means, draws) if len(sizes) >= MIN_SIZES else 1.0
    verdict, reason = decide_line(len(sizes), len(seeds), slope, lines["D"].r2, bend)
    return LineTest(settings[0][0], settings[0][1], len(sizes), len(seeds), lines, slope, verdict, reason)


def verdicts(compared: list[Comparison], tested: list[LineTest]) -> list[Verdict]:
    """What a run says about each of the paper's three claims (rules: eval_hh/law.py), on the Global pool."""
    main = [
        one
        for one in compared
        if one.pool == "Global" and (one.more_responses[0], one.more_prompts[0]) == PAIRS[0]
    ]
    budget = tuple(
        f"{one.algorithm}, {_cell(one.more_responses)} against {_cell(one.more_prompts)}: {one.verdict} "
        f"(difference {100 * one.difference.value:+.2f}, 95% interval "
        f"{100 * one.difference.low:+.2f} to {100 * one.difference.high:+.2f}, Holm p {one.holm_p:.2g})"
        for one in main
    )
    linear = tuple(f"{one.algorithm}, K={one.ranking_len}: {one.verdict} ({one.reason})" for one in tested)
    return [
        Verdict(
            "More responses and fewer prompts win at equal budget (K=4 against K=2, Global)",
            combine([one.verdict for one in main]),
            budget or ("no equal-budget pair is complete",),
        ),
        Verdict(
            "Reward after fine-tuning is linear in prompt diversity D, one line per K (Global)",
            combine([one.verdict for one in tested]),
            linear or ("no cell has D",),
        ),
        Verdict(
            "D can guide data augmentation",
            "not tested in this run",
            ("it needs subsets chosen by D; all cells here are random subsets",),
        ),
    ]


def _cell(setting: tuple[int, int]) -> str:
    return f"K={setting[0]} M={setting[1]}"
