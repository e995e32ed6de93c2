"""The files of rankings that split.py and sample.py read and write.

Each row is read, checked and serialised once, however many files it goes to.
"""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

from data_preprocess.files import json_line, json_lines, write_files
from data_preprocess.ranking import SEED, cut_ranking, rankings_file
from data_preprocess.records import KIND, read_rankings, read_rows
from data_preprocess.response_diversity import Responses, responses_of
from data_preprocess.selection import RANDOM, SELECTIONS, Selection

FULL_LEN = 4
# Subsets enlarged by augment.py are named as if these were selections.
AUGMENT_RANDOM, AUGMENT_OVERLAP, AUGMENT_DIVERSE = "augment_random", "augment_overlap", "augment_diverse"
AUGMENTATIONS = (
    AUGMENT_RANDOM,
    *(Selection(name, matched).name for name in (AUGMENT_OVERLAP, AUGMENT_DIVERSE) for matched in (False, True)),
)
ORIGIN, BASE = "origin", "base"  # key in meta of an enlarged subset's rows, and its value for the original rows
FOLDER = re.compile(r"(?:^|/)(?:draw(\d+)/)?hh_train_len(\d+)_(\d+)(?:_(\w+))?\Z")


class Prompt(NamedTuple):
    """What a prompt is selected by."""

    turns: list[str]
    kind: str | None  # None unless kinds are matched


class RankingLine(NamedTuple):
    """The parts of a ranking that sample.py needs; kept small, since the rankings of all K are in memory at once."""

    line: bytes  # the serialised row
    prompt: Prompt
    responses: Responses
    rewards: list[float]  # of its responses


class Subset(NamedTuple):
    """A subset made by sample.py or augment.py: M rankings of K responses, and their selection."""

    ranking_len: int
    size: int
    selection: str = RANDOM  # one of SELECTIONS or AUGMENTATIONS
    draw: int = SEED  # seed of the random subsets that it belongs to

    @property
    def name(self) -> str:
        """Its name among the subsets of its draw."""
        return f"len{self.ranking_len}_{self._size_and_selection}"

    @property
    def folder(self) -> str:
        """Its folder under data/, as "hh_train_len4_120" or "draw43/hh_train_len4_120"."""
        return (draw_folder(Path(), self.draw) / f"hh_train_{self.name}").as_posix()

    @property
    def key(self) -> str:
        """Its key in the diversity records of its draw.

        A sampled or selected subset has the same prompts for all K. The prompts added to an enlarged one can depend on
        K, since a prompt needs K different answers.
        """
        return self.name if self.selection in AUGMENTATIONS else self._size_and_selection

    @property
    def _size_and_selection(self) -> str:
        return str(self.size) if self.selection == RANDOM else f"{self.size}_{self.selection}"


def draw_folder(data: Path, draw: int) -> Path:
    """Returns the folder of a draw's subsets and records: the data folder itself for the published draw."""
    return data if draw == SEED else data / f"draw{draw}"


def subset_named(folder: str | Path) -> Subset | None:
    """Parses a folder of a subset, or a path that ends in one, into its subset; None for any other path."""
    named = FOLDER.search(Path(folder).as_posix())
    if not named or named[4] not in (None, *(set(SELECTIONS) - {RANDOM}), *AUGMENTATIONS):
        return None
    return Subset(int(named[2]), int(named[3]), named[4] or RANDOM, int(named[1] or SEED))


def base_prompts(data: Path) -> int:
    """Returns how many rows of an enlarged subset come from its base subset; `data` is its folder or file."""
    return sum(row["meta"].get(ORIGIN) == BASE for row in read_rows(data))


def write_split(data: Path, full_len: int = FULL_LEN) -> dict[Path, int]:
    """Cuts the data folder's rankings of 4, writes those of 3 and 2, and returns the number of rows by file.

    With another `full_len` it cuts rankings of that many responses, and writes those of every smaller number.
    """
    cuts = split_rankings(read_rankings(rankings_file(data, full_len), full_len), full_len)
    outputs = {rankings_file(data, ranking_len): cut for ranking_len, cut in cuts.items()}
    write_files({path: json_lines(cut) for path, cut in outputs.items()})
    return {path: len(cut) for path, cut in outputs.items()}


def split_rankings(rows: Iterable[dict], full_len: int = FULL_LEN) -> dict[int, list[dict]]:
    """Cuts all rows to rankings of one response less, those again, and so on down to 2, from one random stream."""
    rng = random.Random(SEED)
    by_len = {}
    for ranking_len in range(full_len - 1, 1, -1):
        rows = [cut_ranking(row, rng, ranking_len) for row in rows]
        by_len[ranking_len] = rows
    return by_len


def read_lines_of(data: Path, ranking_len: int, with_kind: bool = False) -> list[RankingLine]:
    """Reads the data folder's rankings of K responses; arguments and InputError as for read_rankings."""
    rows = read_rankings(rankings_file(data, ranking_len), ranking_len, with_kind)
    return [
        RankingLine(
            json_line(row).encode(),
            Prompt(row["prefix"][0], row["meta"][KIND] if with_kind else None),
            responses_of(row),
            row["reward"],
        )
        for row in rows
    ]


def not_cut(rankings: dict[int, list[RankingLine]]) -> Iterator[str]:
    """Yields a line for each K whose rankings by K are not those of the next larger K with fewer responses.

    Then they may be of an earlier source, since split.py was not run again.
    """
    for larger, smaller in pairwise(sorted(rankings, reverse=True)):
        whole, cut = (
            [(row.prompt.turns, set(zip(row.responses.texts, row.rewards, strict=True))) for row in rankings[k]]
            for k in (larger, smaller)
        )
        same = sum(turns == its and found <= of for (turns, found), (its, of) in zip(cut, whole, strict=False))
        rows = max(len(cut), len(whole))
        if same < rows:
            found = f"{rows - same} of {rows} rankings of {smaller} responses are not cut from those of {larger}"
            yield f"{found}: other prompts, responses or rewards (run split.py again if they should be)"


def by_shared_prompts(rankings: dict[int, list[RankingLine]]) -> Iterator[tuple[list[Prompt], list[int]]]:
    """Yields (prompts, their K) of rankings by K; consecutive K with equal prompts, as from split.py, come together."""
    for prompts, ranking_lens in groupby(rankings, key=lambda k: [row.prompt for row in rankings[k]]):
        yield prompts, list(ranking_lens)


def subset_lines(
    data: Path, rankings: dict[int, list[RankingLine]], chosen: dict[Subset, Sequence[int]]
) -> dict[Path, list[bytes]]:
    """Returns the lines of each subset's file under the data folder, given the indices of its rankings."""
    return {
        data / subset.folder / "train.json": [rankings[subset.ranking_len][index].line for index in indices]
        for subset, indices in chosen.items()
    }
