"""A pilot: how many prompts to label first, which cells to train on them, and what their rewards say of the budget.

The pilot's prompts are labelled at the largest K, since rankings of fewer responses and smaller subsets are cut from
them for free, and its labels stay part of the data, whichever split is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import NamedTuple

import numpy as np

from data_preprocess.command import REPOSITORY
from data_preprocess.ranking import SEED
from eval_hh.analysis.paper_numbers import paper_results
from eval_hh.analysis.results import Results, load_results
from labelling.planning.budget import Prices, Split, split_budget
from labelling.planning.pilot_model import (
    PilotCells,
    Posterior,
    Prior,
    SplitOutlook,
    expected_gain,
    least_squares,
    outlooks,
    weak_prior,
)

SHARE = 0.15  # of the budget
DRAWS = 2  # subsets of the pilot's prompts at each size, each with a training seed of its own
# Of the pilot's prompts: those that select the checkpoints of its cells and those that test them.
DEV_SHARE, TEST_SHARE = 0.1, 0.2
SPARE_SHARE = 0.05  # and in no cell: some prompts come back without labels, or with fewer different responses
LEAST_PROMPTS = 8
LEAST_GAIN = 0.5  # points of 100 x reward for which one more stage's cells are worth training
OUR_STUDY = REPOSITORY / "eval_hh" / "results" / "toy"


def pilot_size(budget: Decimal, prices: Prices, ranking_len: int, share: float = SHARE) -> int:
    """Returns the number of prompts with K = `ranking_len` responses that a share of the budget covers."""
    return int(budget * Decimal(str(share)) // prices.of_prompt(ranking_len))


def pilot_cells(ranking_lens: Sequence[int], size: int) -> list[tuple[int, int, int]]:
    """Returns the cells (K, M, draw) to train on a pilot of `size` prompts.

    The smallest and the largest K: those between them would say little more about effects that are linear in log K.
    """
    lens, draws = sorted({min(ranking_lens), max(ranking_lens)}), range(SEED, SEED + DRAWS)
    return [(k, m, draw) for draw in draws for k in lens for m in (size, size // 2)]


def paper_studies() -> dict[str, np.ndarray]:
    """Returns the (a, b, c, d) of the paper's PRO and SFT points (Figure 4), in points of 100 x reward."""
    figure, found = paper_results()["figure4"], {}
    for algorithm, by_length in figure["reward"].items():
        points = [
            (int(k), size, 100 * reward)
            for k, rewards in by_length.items()
            for size, reward in zip(figure["num_prompts"], rewards, strict=True)
        ]
        found[f"the paper's {algorithm}"] = least_squares(*zip(*points, strict=True))
    return found


@cache
def our_studies() -> dict[str, np.ndarray]:
    """Returns the same of our small study's committed results, by algorithm."""
    results = load_results(OUR_STUDY)
    return {
        f"our small study's {algorithm}": least_squares(*zip(*_points(results, algorithm), strict=True))
        for algorithm in results.values_of("algorithm")
    }


def _points(results: Results, algorithm: str) -> list[tuple[int, int, float]]:
    return [
        (one.ranking_len, one.num_prompts, 100 * float(results.mean_rewards(one, results.units(one)).mean()))
        for one in results.random
        if one.algorithm == algorithm
    ]


def default_prior() -> Prior:
    """Returns the prior from the paper's studies and ours."""
    return weak_prior({**paper_studies(), **our_studies()})


def cells_of(results: Results, algorithm: str) -> PilotCells:
    """Returns the cells of an algorithm's random subsets."""
    cells = [cell for cell in results.cells if cell.setting.algorithm == algorithm and cell.setting in results.random]
    return PilotCells(
        *(np.array([getattr(cell.setting, name) for cell in cells]) for name in ("ranking_len", "num_prompts")),
        np.array([cell.replicate.draw for cell in cells]),
        np.array([100 * cell.values("Global").mean() for cell in cells]),
    )


class Parts(NamedTuple):
    """The prompts of a pilot."""

    train: int
    dev: int
    test: int
    spare: int

    @classmethod
    def of(cls, size: int) -> Parts:
        dev, test, spare = (max(1, round(share * size)) for share in (DEV_SHARE, TEST_SHARE, SPARE_SHARE))
        return cls(size - dev - test - spare, dev, test, spare)


class Stage(NamedTuple):
    """One more stage of a pilot."""

    size: int  # prompts that it labels at the largest K; 0: there is none
    trained: int  # prompts of all stages that its largest cells are trained on


@dataclass(frozen=True)
class Decision:
    """What the pilot says: each K's split of the budget, and one more stage of the pilot."""

    splits: list[Split]  # that cover a prompt
    outlooks: list[SplitOutlook]  # one per split
    stage: int  # prompts that one more stage would label at the largest K
    gain: float  # expected, of that stage over labelling the best split now; -inf if it cannot be paid

    @property
    def goes_on(self) -> bool:
        """Whether one more stage is worth it."""
        return self.gain >= LEAST_GAIN

    @property
    def best(self) -> int:
        """The index of the split with the highest expected reward, which is the one with the lowest expected regret."""
        return max(range(len(self.splits)), key=lambda i: self.outlooks[i].reward)


def decide(
    posterior: Posterior,
    budget: Decimal,
    prices: Prices,
    ranking_lens: Sequence[int],
    pool_size: int,
    labelled: int,
    stage: Stage,
) -> Decision:
    """Returns what to do with the rest of a budget.

    Args:
        posterior: of the cells trained so far.
        budget: the whole budget, the pilot included.
        prices: of the labels.
        ranking_lens: the K to compare.
        pool_size: prompts in the pool.
        labelled: prompts labelled so far, at the largest K.
        stage: the one more that is weighed.
    """

    def affordable(n_labelled: int) -> list[Split]:
        return [one for one in split_budget(budget, prices, ranking_lens, pool_size, n_labelled) if one.size]

    splits, gain = affordable(labelled), float("-inf")
    pairs = [(one.ranking_len, one.size) for one in splits]
    then = labelled + stage.size
    if stage.size and then <= pool_size and then * prices.of_prompt(max(ranking_lens)) <= budget:
        later = [(one.ranking_len, one.size) for one in affordable(then)]
        gain = expected_gain(posterior, pairs, later, pilot_cells(ranking_lens, stage.trained))
    return Decision(splits, outlooks(posterior, pairs), stage.size, gain)
