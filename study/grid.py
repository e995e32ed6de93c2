"""The cells of a study (algorithm x K responses x M prompts x replicate) and the names of their files.

A grid says what is run; its profile says how. A replicate is a draw of the nested subsets and a training seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import groupby

from data_preprocess.command import InputError
from data_preprocess.ranking import SEED
from data_preprocess.selection import MATCHED, SELECTIONS, Selection
from data_preprocess.subsets import AUGMENT_DIVERSE, AUGMENT_OVERLAP, AUGMENT_RANDOM, AUGMENTATIONS, RANDOM, Subset
from eval_hh.cells import Setting
from eval_hh.estimates import budgets
from study.slurm import Cluster

COMPARED = ("coverage", "per_token", "max_d", "facility", "k_center")  # of sample.py, each compared with random
# Prompts added for high D are matched in length to random ones, as in the fixed-size experiment.
ADDITIONS = (AUGMENT_RANDOM, AUGMENT_DIVERSE + MATCHED, AUGMENT_OVERLAP)


@dataclass(frozen=True)
class Grid:
    """What a study varies."""

    sizes: tuple[int, ...]  # M
    ranking_lens: tuple[int, ...]  # K
    algorithms: tuple[str, ...] = ("PRO", "SFT")
    fixed_size: int = 0  # M of the subsets selected for low and high D, and by each strategy
    match_kind: bool = False  # whether low and high D match the kinds of prompts, which the rankings then name
    augmented: tuple[int, int] = (0, 0)  # M of the random subset to enlarge, and number of prompts added
    chosen_ranking_lens: tuple[int, ...] = (2, 4)  # K of the cells of these experiments
    equal_budget: bool = False  # of the random subsets only those of the largest equal budget
    model: str = ""  # prefix of experiment names, where grids of several models share a root


@dataclass(frozen=True, kw_only=True)
class Study:
    """What every study has, whatever it runs on."""

    name: str
    title: str
    grid: Grid
    replicates: Sequence[tuple[int, int]]  # (draw, seed) of each
    experiments: tuple[str, ...] = ()  # further cells
    source: tuple[str, ...] = ()  # the flag of reproduce.py that names it
    cluster: Cluster = Cluster()


@dataclass(frozen=True)
class Cell(Setting):
    """One point of the grid: a setting and a replicate, the published draw unless another is given."""

    seed: int = field(kw_only=True)
    draw: int = field(default=SEED, kw_only=True)
    model: str = field(default="", kw_only=True)

    @property
    def stage(self) -> int:
        return self.ranking_len if self.algorithm == "PRO" else 1

    @property
    def subset(self) -> Subset:
        return Subset(self.ranking_len, self.num_prompts, self.selection, self.draw)

    @property
    def data(self) -> str:
        """The subset's folder under data/."""
        return self.subset.folder

    @property
    def name(self) -> str:
        """The cell's name within its grid."""
        draw = "" if self.draw == SEED else f"_draw{self.draw}"
        return f"{self.algorithm.lower()}_{self.subset.name}{draw}_seed{self.seed}"

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


def fresh_replicates(count: int) -> list[tuple[int, int]]:
    """Returns the (draw, seed) of replicates that share neither: 42 and 42, 43 and 43, and so on."""
    return [(SEED + number, SEED + number) for number in range(count)]


def seeds_of_one_draw(seeds: Sequence[int]) -> list[tuple[int, int]]:
    """Returns the (draw, seed) of replicates of the published draw."""
    return [(SEED, seed) for seed in seeds]


def cells_of(
    grid: Grid,
    replicates: Sequence[tuple[int, int]],
    fixed_size: bool = False,
    strategies: bool = False,
    augment: bool = False,
) -> list[Cell]:
    """Returns all cells, replicate by replicate, so that a stopped run has whole ones, the most expensive cells first.

    Args:
        grid: what is varied.
        replicates: (draw, seed) of each.
        fixed_size: also the subsets of one size selected for low, random and high D.
        strategies: also the subsets of that size selected by each strategy and at random.
        augment: also the enlarged subsets and the one that is enlarged.

    Low D, high D and the strategies choose from a random half of the rankings, another in each draw.
    """
    shapes = [
        (ranking_len, size, RANDOM)
        for ranking_len in sorted(grid.ranking_lens, reverse=True)
        for size in sorted(grid.sizes, reverse=True)
    ]
    if grid.equal_budget:
        budget = largest_budget("--equal_budget", grid.sizes, grid.ranking_lens)
        shapes = [shape for shape in shapes if budget.get(shape[0]) == shape[1]]
    low, high = (Selection(end, True, grid.match_kind, half=True).name for end in ("low_d", "max_d"))
    base, added = grid.augmented
    experiments = (
        (fixed_size, [(grid.fixed_size, selection) for selection in (low, RANDOM, high)]),
        (strategies, [(grid.fixed_size, RANDOM)]),
        (strategies, [(grid.fixed_size, Selection(strategy, half=True).name) for strategy in COMPARED]),
        (augment, [(base, RANDOM), *((base + added, selection) for selection in ADDITIONS)]),
    )
    for wanted, subsets in experiments:
        shapes += [(k, *subset) for k in grid.chosen_ranking_lens for subset in subsets if wanted]
    return [
        Cell(algorithm, ranking_len, size, selection, seed=seed, draw=draw, model=grid.model)
        for draw, seed in replicates
        for algorithm in grid.algorithms
        for ranking_len, size, selection in dict.fromkeys(shapes)
    ]


def largest_budget(flag: str, sizes: Sequence[int], ranking_lens: Sequence[int]) -> dict[int, int]:
    """Returns {K: M} of the largest equal budget's cells; InputError, naming the flag, if there are none to compare."""
    found = next(iter(budgets(sizes)), None)
    if found is None:
        raise InputError(f"{flag}: expected sizes N and N/2 (K=2 and K=4 then cost the same)")
    budget = {k: size for k, size in found.items() if k in ranking_lens}
    if len(budget) < 2:
        given, known = (" ".join(map(str, sorted(lens))) for lens in (ranking_lens, found))
        raise InputError(f"{flag}: ranking_lens {given}: expected two or more of {known}, whose sizes cost the same")
    return budget


def answering_cell(grid: Grid, cell: Cell) -> Cell:
    """Returns the cell whose model answers the prompts added for an augmented cell.

    It is the SFT cell on the subset that is enlarged, with the same K and draw, and the draw's number as its seed: one
    for PRO and SFT and for all seeds of the draw, so that they train on the same data.
    """
    return Cell("SFT", cell.ranking_len, grid.augmented[0], seed=cell.draw, draw=cell.draw, model=grid.model)


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
    """Returns the flags of the sample.py calls that make these cells' subsets: one per draw and selection."""

    def drawn_by(cell: Cell) -> tuple[int, bool, str]:
        return cell.draw, cell.selection != RANDOM, cell.selection  # random first

    calls = []
    for (draw, _, selection), group in groupby(sorted(cells, key=drawn_by), drawn_by):
        lens, sizes = zip(*((cell.ranking_len, cell.num_prompts) for cell in group), strict=True)
        lens, sizes = ([str(number) for number in sorted(set(numbers), reverse=True)] for numbers in (lens, sizes))
        drawn = [] if draw == SEED else ["--draw", str(draw)]
        calls.append([*lens, "--sizes", *sizes, *SELECTIONS[selection].flags, *drawn])
    return calls


def augment_flags(cell: Cell) -> list[str]:
    """Returns the flags of augment.py that say how an augmented cell's prompts are added."""
    by = cell.selection.removeprefix("augment_")
    strategy = by.removesuffix(MATCHED)
    return ["--by", strategy, *(["--match_length"] if by != strategy else []), "--seed", str(cell.draw)]
