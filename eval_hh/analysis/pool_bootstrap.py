"""One bootstrap over a pool's test prompts and the seeds for all cells, so that a report's intervals are consistent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_preprocess.command import InputError
from eval_hh.cells import Setting
from eval_hh.estimates import Estimate, estimate, row_draws, seed_weights


class PoolBootstrap:
    """Mean rewards of every cell in a pool, and their joint bootstrap over the pool's test prompts.

    Args:
        rewards: (setting, seed) -> rewards [test prompts].
        pool: its name, for messages.

    Raises:
        InputError: the cells were not scored on the same test prompts.
    """

    def __init__(self, rewards: dict[tuple[Setting, int], np.ndarray], pool: str):
        if len({len(row) for row in rewards.values()}) > 1:
            raise InputError(f"{pool}: the cells were not scored on the same test rows")
        stacked = np.stack(list(rewards.values()))
        self._column = {cell: index for index, cell in enumerate(rewards)}
        self._means = stacked.mean(axis=1)
        self._draws = row_draws(stacked)

    def means(self, settings: Sequence[Setting], seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns mean rewards [settings] over the seeds, and their bootstrap draws [n_draws, settings]."""
        columns = np.array([[self._column[setting, seed] for seed in seeds] for setting in settings])
        weights = seed_weights(len(seeds), len(self._draws))
        draws = (self._draws[:, columns] * weights[:, None, :]).sum(axis=2)
        return self._means[columns].mean(axis=1), draws

    def difference(self, first: Setting, second: Setting, seeds: Sequence[int]) -> Estimate:
        """Returns the mean reward of the first minus that of the second, paired over test prompts and seeds."""
        means, draws = self.means([first, second], seeds)
        return estimate(means[0] - means[1], draws[:, 0] - draws[:, 1])
