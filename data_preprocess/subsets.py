"""The files of rankings that split.py and sample.py read and write.

Each row is read, checked and serialised once, however many files it goes to.
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
RANDOM = "random"  # the published selection, omitted in the names of folders and records
# Subsets enlarged by augment.py are named as if these were selections.
AUGMENT_RANDOM, AUGMENT_DIVERSE = "augment_random", "augment_diverse"
AUGMENTATIONS = (AUGMENT_RANDOM, AUGMENT_DIVERSE, selection_name(AUGMENT_DIVERSE, match_length=True))
ORIGIN, BASE = "origin", "base"  # key in meta of an enlarged subset's rows, and its value for the original rows
FOLDER = re.compile(r"hh_train_len(\d+)_(\d+)(?:_(\w+))?")


class RankingLine(NamedTuple):
    """The parts of a ranking that sample.py needs; kept small, since the rankings of all K are in memory at once."""

    line: bytes  # the serialised row
    turns: list[str]  # of the prompt


class Subset(NamedTuple):
    """A subset made by sample.py or augment.py: M rankings of K responses, and their selection."""

    ranking_len: int
    size: int
    selection: str = RANDOM  # one of SELECTIONS or AUGMENTATIONS

    @property
    def name(self) -> str:
        """Its name among the subsets of all K."""
        return f"len{self.ranking_len}_{self._size_and_selection}"

    @property
    def folder(self) -> str:
        """Its folder's name under data/."""
        return f"hh_train_{self.name}"

    @property
    def key(self) -> str:
        """Its key in the diversity records.

        A sampled or selected subset has the same prompts for all K. The prompts added to an enlarged one can depend on
        K, since a prompt needs K different answers.
        """
        return self.name if self.selection in AUGMENTATIONS else self._size_and_selection

    @property
    def _size_and_selection(self) -> str:
        return str(self.size) if self.selection == RANDOM else f"{self.size}_{self.selection}"


def subset_named(folder: str) -> Subset | None:
    """Parses a folder's name into its subset; None for any other name."""
    named = FOLDER.fullmatch(folder)
    if not named or named[3] not in (None, *(set(SELECTIONS) - {RANDOM}), *AUGMENTATIONS):
        return None
    return Subset(int(named[1]), int(named[2]), named[3] or RANDOM)


def rankings_file(data: Path, ranking_len: int) -> Path:
    """Returns the path of all rankings of K responses, under the data folder."""
    return data / "original" / f"hh_train_len{ranking_len}" / "train.json"


def subset_file(data: Path, ranking_len: int, size: int, selection: str = RANDOM) -> Path:
    """Returns the path of M sampled or selected rankings of K responses, under the data folder."""
    return data / Subset(ranking_len, size, selection).folder / "train.json"


def write_split(data: Path) -> dict[Path, int]:
    """Cuts the data folder's rankings of 4, writes those of 3 and 2, and returns the number of rows by file."""
    cuts = split_rankings(read_rankings(rankings_file(data, FULL_LEN), FULL_LEN))
    outputs = {rankings_file(data, ranking_len): cut for ranking_len, cut in cuts.items()}
    write_files({path: json_lines(cut) for path, cut in outputs.items()})
    return {path: len(cut) for path, cut in outputs.items()}


def split_rankings(rows: Iterable[dict]) -> dict[int, list[dict]]:
    """Cuts all rows to rankings of 3 and those to rankings of 2, from one random stream."""
    rng = random.Random(SEED)
    by_len = {}
    for ranking_len in range(FULL_LEN - 1, 1, -1):
        rows = [cut_ranking(row, rng, ranking_len) for row in rows]
        by_len[ranking_len] = rows
    return by_len


def read_lines_of(data: Path, ranking_len: int) -> list[RankingLine]:
    """Reads the data folder's rankings of K responses; InputError as for read_rankings."""
    rows = read_rankings(rankings_file(data, ranking_len), ranking_len)
    return [RankingLine(json_line(row).encode(), row["prefix"][0]) for row in rows]


def sample_subsets(
    data: Path, rankings: dict[int, list[RankingLine]], sizes: Sequence[int]
) -> tuple[dict[Path, list[bytes]], dict[int, list[list[str]]]]:
    """Samples nested subsets of each K's rankings.

    Args:
        data: the data folder.
        rankings: by K.
        sizes: prompts per subset, each at most the number of rankings.

    Returns:
        (lines of every subset's file, turns of each prompt of the largest subset in order, by K).
    """
    lines, prompts = {}, {}
    for ranking_len, rows in rankings.items():
        subsets = nested_subsets(rows, sizes, SEED)
        lines |= {
            subset_file(data, ranking_len, size): [row.line for row in subset] for size, subset in subsets.items()
        }
        prompts[ranking_len] = [row.turns for row in subsets[max(sizes)]]
    return lines, prompts
