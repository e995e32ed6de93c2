"""split.py and sample.py on 40,000 rankings of 4: the files of 3 and 2 responses, then 8 nested subsets of each K.

Run: python benchmarks/run.py subset_files [--quick] [--rows N] [--json FILE]
Naive: as in the published scripts, rows are parsed and dumped line by line with json for every file that they go to.
Ours: what split.py and sample.py call, without sample.py's tokenising. Both write the same bytes.
"""

import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import hh_like
from benchmarks.side_by_side import Row, Settings, in_turns, sized
from data_preprocess.files import write_files, write_jsonl
from data_preprocess.ranking import SEED, nested_subsets, rankings_file
from data_preprocess.subsets import Subset, read_lines_of, subset_lines, write_split

RANKING_LENS = (4, 3, 2)
ROWS = 40_000
SIZES = (36000, 24000, 16000, 12000, 6000, 3000, 2000, 1500)  # the paper's, of 40,000 rows
ROUNDS = 3


@dataclass(frozen=True)
class Sizes(Settings):
    rows: int = sized("rankings of 4", ROWS, ROWS // 10)


def write_rankings(root: Path, n_rows: int) -> None:
    """Writes the rankings of 4 as rows of a training file."""
    rows = (
        {"prefix": [row.prefix] * 4, "suffix": row.suffix, "reward": row.reward, "meta": {"id": index}}
        for index, row in enumerate(hh_like.rankings(n_rows, 4))
    )
    write_jsonl(rankings_file(root, 4), rows)


def compare(naive: Path, ours: Path, n_rows: int, sizes: list[int]) -> list[Row]:
    """Times both scripts both ways, each in its own folder; exits if the folders' files differ."""
    split = both_ways(partial(split_naively, naive), partial(write_split, ours), "original/hh_train_len[32]")
    sampled = both_ways(partial(sample_naively, naive, sizes), partial(sample, ours, sizes), "hh_train_len*")
    n_files = check_files(naive, ours)
    what = f"{n_rows:,} rows of 4 responses, {hh_like.source()}"
    both = [sum(seconds) for seconds in zip(split, sampled, strict=True)]
    return [
        Row(f"split.py and sample.py without tokenizing, {what}", *both, "s", "3x", "the sum of the next two"),
        Row("split.py alone", *split, "s"),
        Row(f"sample.py alone, {len(sizes)} sizes for K = 4, 3, 2", *sampled, "s"),
        Row("files of equal sha256 both ways", None, n_files, "of them", "all"),
    ]


def both_ways(naive: partial, ours: partial, outputs: str) -> tuple[float, float]:
    """Returns the seconds of each way in its folder, as on a first run: outputs removed, pending writes synced."""

    def clear(way: Callable) -> None:
        for folder in way.args[0].glob(outputs):
            shutil.rmtree(folder)
        os.sync()

    return in_turns(naive, ours, ROUNDS, before=clear).seconds


def sample(root: Path, sizes: list[int]) -> None:
    """Our way: sample.py without the diversity."""
    rankings = {ranking_len: read_lines_of(root, ranking_len) for ranking_len in RANKING_LENS}
    places = list(range(len(rankings[RANKING_LENS[0]])))
    chosen = nested_subsets(places, sizes, SEED)
    subsets = {Subset(ranking_len, size): chosen[size] for ranking_len in RANKING_LENS for size in sizes}
    write_files(subset_lines(root, rankings, subsets))


def split_naively(root: Path) -> None:
    import numpy as np

    rng = random.Random(42)
    rows = read(rankings_file(root, 4))
    for ranking_len in (3, 2):
        cut = []
        for row in rows:
            drawn = rng.sample(range(ranking_len + 1), ranking_len)
            order = np.argsort([-row["reward"][index] for index in drawn], kind="stable")
            kept = [drawn[place] for place in order]
            cut.append({key: [row[key][i] for i in kept] for key in ("prefix", "suffix", "reward")})
            cut[-1]["meta"] = row["meta"]
        rows = cut
        write(rankings_file(root, ranking_len), rows)


def sample_naively(root: Path, sizes: list[int]) -> None:
    for ranking_len in RANKING_LENS:
        rows = read(rankings_file(root, ranking_len))
        random.Random(42).shuffle(rows)
        for size in sizes:
            write(root / f"hh_train_len{ranking_len}_{size}" / "train.json", rows[:size])


def read(path: Path) -> list[dict]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def check_files(naive: Path, ours: Path) -> int:
    """Returns the number of files; exits if the folders do not hold the same files with the same bytes."""
    digests = [{path.relative_to(root): digest(path) for path in root.rglob("train.json")} for root in (naive, ours)]
    for path in sorted(digests[0].keys() | digests[1].keys()):
        if digests[0].get(path) != digests[1].get(path):
            sys.exit(f"error: {path}: the two ways do not write the same bytes")
    return len(digests[0]) - 1  # without the rankings of 4, which are input


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def measure(settings: Sizes) -> list[Row]:
    sizes = [max(1, size * settings.rows // ROWS) for size in SIZES]
    with tempfile.TemporaryDirectory() as folder:
        naive, ours = Path(folder) / "naive", Path(folder) / "ours"
        for root in (naive, ours):
            write_rankings(root, settings.rows)
        return compare(naive, ours, settings.rows, sizes)
