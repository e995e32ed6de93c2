"""The cells of a study: algorithm x K responses x M prompts x seed, and how a cell's files are named.

Library. A grid names what is to be run; how a cell is run is the business of the profile that the grid belongs to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from data_preprocess.files import InputError
from data_preprocess.subsets import RANDOM, Subset
from eval_hh.fixed_size import SELECTIONS


@dataclass(frozen=True)
class Grid:
    """What a study varies."""

    sizes: tuple[int, ...]  # M
    ranking_lens: tuple[int, ...]  # K
    algorithms: tuple[str, ...] = ("PRO", "SFT")
    fixed_size: int = 0  # M at which D is varied by choosing prompts
    fixed_ranking_lens: tuple[int, ...] = (2, 4)  # K of these cells


@dataclass(frozen=True, order=True)
class Cell:
    """One point of the grid."""

    algorithm: str
    ranking_len: int
    num_prompts: int
    seed: int
    selection: str = RANDOM

    @property
    def stage(self) -> int:
        return self.ranking_len if self.algorithm == "PRO" else 1

    @property
    def subset(self) -> Subset:
        return Subset(self.ranking_len, self.num_prompts, self.selection)

    @property
    def data(self) -> str:
        """The subset's folder under data/."""
        return self.subset.folder

    @property
    def exp(self) -> str:
        """The experiment's name."""
        return f"{self.algorithm.lower()}_len{self.ranking_len}_{self.subset.key}_seed{self.seed}"

    @property
    def result(self) -> str:
        """The result file's name in eval_hh/results/."""
        return f"{self.exp}_{self.stage}.json"


def cells_of(grid: Grid, seeds: Sequence[int], fixed_size: bool = False) -> list[Cell]:
    """All cells, seed by seed, the dearest first, so that no worker ends the run alone with a long one.

    Args:
        grid: what is varied.
        seeds: of fine-tuning.
        fixed_size: also the cells of the experiment that varies D at one number of prompts.
    """
    shapes = [
        (ranking_len, size, RANDOM)
        for ranking_len in sorted(grid.ranking_lens, reverse=True)
        for size in sorted(grid.sizes, reverse=True)
    ]
    if fixed_size:
        shapes += [(k, grid.fixed_size, selection) for k in grid.fixed_ranking_lens for selection in SELECTIONS]
    return [
        Cell(algorithm, ranking_len, size, seed, selection)
        for seed in seeds
        for algorithm in grid.algorithms
        for ranking_len, size, selection in dict.fromkeys(shapes)
    ]


def chosen(cells: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """The cells whose experiment's name one of the patterns (`pro_len4_*`) fits; all of them without a pattern.

    Raises InputError for a pattern that fits none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(cell.exp, pattern) for cell in cells):
            expected = f"expected names like {cells[0].exp}, with * for any part"
            raise InputError(f"--only {pattern}: fits no cell ({expected})")
    return [cell for cell in cells if not patterns or any(fnmatchcase(cell.exp, one) for one in patterns)]
