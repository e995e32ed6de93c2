"""The files of rankings that split.py and sample.py make of one another.

Each row is read, checked and written out as a line once, however many files it goes to.
"""

import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from data_preprocess.files import json_line, json_lines, write_files
from data_preprocess.ranking import SEED, cut_ranking, nested_subsets
from data_preprocess.records import read_rankings
from data_preprocess.selection import SELECTIONS, selection_name

FULL_LEN = 4
RANDOM = "random"  # the published selection, which folders and records do not name
# What augment.py has added to a random subset, by name as if it were a selection.
AUGMENT_RANDOM, AUGMENT_DIVERSE = "augment_random", "augment_diverse"
AUGMENTATIONS = (AUGMENT_RANDOM, AUGMENT_DIVERSE, selection_name(AUGMENT_DIVERSE, match_length=True))
ORIGIN, BASE = "origin", "base"  # in meta of an enlarged subset's rows: what a row is, and its name for those it had
FOLDER = re.compile(r"hh_train_len(\d+)_(\d+)(?:_(\w+))?")


class RankingLine(NamedTuple):
    """A ranking as sample.py needs it: kept small, for all K are held at once."""

    line: bytes  # as it stands in a file
    turns: list[str]  # of its prompt


class Subset(NamedTuple):
    """What sample.py or augment.py made: M rankings of K responses, and by which selection."""

    ranking_len: int
    size: int
    selection: str = RANDOM  # one of SELECTIONS or AUGMENTATIONS

    @property
    def name(self) -> str:
        """What it is called among the subsets of all K."""
        return f"len{self.ranking_len}_{self._size_and_selection}"

    @property
    def folder(self) -> str:
        """Its folder's name under data/."""
        return f"hh_train_{self.name}"

    @property
    def key(self) -> str:
        """Its name in the records of diversity.

        All K of a sampled or selected subset share their prompts; which ones were added can depend on K, for a prompt
        needs K different answers.
        """
        return self.name if self.selection in AUGMENTATIONS else self._size_and_selection

    @property
    def _size_and_selection(self) -> str:
        return str(self.size) if self.selection == RANDOM else f"{self.size}_{self.selection}"


def subset_named(folder: str) -> Subset | None:
    """The subset that a folder's name tells of; None for a name that is given to none."""
    named = FOLDER.fullmatch(folder)
    if not named or named[3] not in (None, *(set(SELECTIONS) - {RANDOM}), *AUGMENTATIONS):
        return None
    return Subset(int(named[1]), int(named[2]), named[3] or RANDOM)


def rankings_file(data: Path, ranking_len: int) -> Path:
    """The file of all rankings of K responses, under the data folder."""
    return data / "original" / f"hh_train_len{ranking_len}" / "train.json"


def subset_file(data: Path, ranking_len: int, size: int, selection: str = RANDOM) -> Path:
    """The file of M sampled or selected rankings of K responses, under the data folder."""
    return data / Subset(ranking_len, size, selection).folder / "train.json"


def write_split(data: Path) -> dict[Path, int]:
    """Cuts the data folder's rankings of 4 and writes those of 3 and of 2; the number of rows by file."""
    cuts = split_rankings(read_rankings(rankings_file(data, FULL_LEN), FULL_LEN))
    outputs = {rankings_file(data, ranking_len): cut for ranking_len, cut in cuts.items()}
    write_files({path: json_lines(cut) for path, cut in outputs.items()})
    return {path: len(cut) for path, cut in outputs.items()}


def split_rankings(rows: Iterable[dict]) -> dict[int, list[dict]]:
    """Rankings of 3 cut from all rows, then rankings of 2 cut from those, by one stream of random numbers."""
    rng = random.Random(SEED)
    by_len = {}
    for ranking_len in range(FULL_LEN - 1, 1, -1):
        rows = [cut_ranking(row, rng, ranking_len) for row in rows]
        by_len[ranking_len] = rows
    return by_len


def read_lines_of(data: Path, ranking_len: int) -> list[RankingLine]:
    """The data folder's rankings of K responses; InputError as read_rankings."""
    rows = read_rankings(rankings_file(data, ranking_len), ranking_len)
    return [RankingLine(json_line(row).encode(), row["prefix"][0]) for row in rows]


def sample_subsets(
    data: Path, rankings: dict[int, list[RankingLine]], sizes: Sequence[int]
) -> tuple[dict[Path, list[bytes]], dict[int, list[list[str]]]]:
    """Nested subsets of each K's rankings.

    Args:
        data: the data folder.
        rankings: by K.
        sizes: prompts per subset, each at most the number of rankings.

    Returns:
        (the lines of every subset's file, the prompts' turns, by K, of the largest subset in its order).
    """
    lines, prompts = {}, {}
    for ranking_len, rows in rankings.items():
        subsets = nested_subsets(rows, sizes, SEED)
        lines |= {
            subset_file(data, ranking_len, size): [row.line for row in subset] for size, subset in subsets.items()
        }
        prompts[ranking_len] = [row.turns for row in subsets[max(sizes)]]
    return lines, prompts
