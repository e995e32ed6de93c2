"""The cells of a study (algorithm x K responses x M prompts x seed) and the names of their files.

A grid says what is run; its profile says how.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from data_preprocess.command import InputError
from data_preprocess.selection import MATCHED
from data_preprocess.subsets import AUGMENT_RANDOM, AUGMENTATIONS, RANDOM, Subset
from eval_hh.analysis.chosen_prompts import HIGH_D, LOW_D
from eval_hh.cells import Setting

STRATEGIES = ("coverage", "per_token", "max_d", "facility", "k_center")  # of sample.py, each compared with random
ANSWERING_SEED = 42  # seed of the model that answers added prompts
# Prompts added for high D are matched in length to random ones, as in the fixed-size experiment.
ADDITIONS = (AUGMENT_RANDOM, AUGMENTATIONS[-1])


@dataclass(frozen=True)
class Grid:
    """What a study varies."""

    sizes: tuple[int, ...]  # M
    ranking_lens: tuple[int, ...]  # K
    algorithms: tuple[str, ...] = ("PRO", "SFT")
    fixed_size: int = 0  # M of the subsets selected for low and high D, and by each strategy
    augmented: tuple[int, int] = (0, 0)  # M of the random subset to enlarge, and number of prompts added
    chosen_ranking_lens: tuple[int, ...] = (2, 4)  # K of the cells of these experiments
    model: str = ""  # prefix of experiment names, where grids of several models share a root


@dataclass(frozen=True)
class Cell(Setting):
    """One point of the grid: a setting and a seed."""

    seed: int = field(kw_only=True)
    model: str = field(default="", kw_only=True)

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
    def name(self) -> str:
        """The cell's name within its grid."""
        return f"{self.algorithm.lower()}_{self.subset.name}_seed{self.seed}"

    @property
    def is_augmented(self) -> bool:
        """Whether its subset is made by augment.py, with the model of another cell."""
        return self.selection in AUGMENTATIONS

    @property
    def exp(self) -> str:
        """The experiment's name."""
        return f"{self.model}_{self.name}" if self.model else self.name

    @property
    def result(self) -> str:
        """The result file's name in eval_hh/results/."""
        return f"{self.exp}_{self.stage}.json"


def cells_of(
    grid: Grid, seeds: Sequence[int], fixed_size: bool = False, strategies: bool = False, augment: bool = False
) -> list[Cell]:
    """Returns all cells, seed by seed, the most expensive first, so that no long cell is left for the end.

    Args:
        grid: what is varied.
        seeds: fine-tuning seeds.
        fixed_size: also the subsets of one size selected for low, random and high D.
        strategies: also the subsets of that size selected by each strategy and at random.
        augment: also the enlarged subsets and the one that is enlarged.
    """
    shapes = [
        (ranking_len, size, RANDOM)
        for ranking_len in sorted(grid.ranking_lens, reverse=True)
        for size in sorted(grid.sizes, reverse=True)
    ]
    base, added = grid.augmented
    experiments = (
        (fixed_size, [(grid.fixed_size, selection) for selection in (LOW_D, RANDOM, HIGH_D)]),
        (strategies, [(grid.fixed_size, selection) for selection in (RANDOM, *STRATEGIES)]),
        (augment, [(base, RANDOM), *((base + added, selection) for selection in ADDITIONS)]),
    )
    for wanted, subsets in experiments:
        shapes += [(k, *subset) for k in grid.chosen_ranking_lens for subset in subsets if wanted]
    return [
        Cell(algorithm, ranking_len, size, selection, seed=seed, model=grid.model)
        for seed in seeds
        for algorithm in grid.algorithms
        for ranking_len, size, selection in dict.fromkeys(shapes)
    ]


def answering_cell(grid: Grid, cell: Cell) -> Cell:
    """Returns the cell whose model answers the prompts added for an augmented cell.

    It is the SFT cell on the subset that is enlarged, with the same K: one for PRO and SFT and for all fine-tuning
    seeds, so that they train on the same data.
    """
    return Cell("SFT", cell.ranking_len, grid.augmented[0], seed=ANSWERING_SEED, model=grid.model)


def chosen(cells: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """Returns the cells whose name matches one of the patterns (`pro_len4_*`), or all cells without patterns.

    Raises InputError for a pattern that matches no cell.
    """
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in cells):
            expected = f"expected names like {cells[0].name}, with * for any part"
            raise InputError(f"--only {pattern}: matches no cell ({expected})")
    return [cell for cell in cells if not patterns or any(fnmatchcase(cell.name, one) for one in patterns)]


def sample_flags(cells: Sequence[Cell]) -> list[list[str]]:
    """Returns the flags of the sample.py calls that make these cells' subsets: one call per selection, random first.

    `max_d_matched` is --select max_d --match_length.
    """
    calls = []
    for selection in sorted({cell.selection for cell in cells}, key=lambda name: (name != RANDOM, name)):
        group = [cell for cell in cells if cell.selection == selection]
        lengths = [str(k) for k in sorted({cell.ranking_len for cell in group}, reverse=True)]
        sizes = [str(size) for size in sorted({cell.num_prompts for cell in group}, reverse=True)]
        strategy = selection.removesuffix(MATCHED)
        chosen_by = [] if selection == RANDOM else ["--select", strategy]
        matched = ["--match_length"] if strategy != selection else []
        calls.append([*lengths, "--sizes", *sizes, *chosen_by, *matched])
    return calls
