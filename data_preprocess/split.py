"""Cuts the rankings of 4 responses into rankings of 3 and, from those, of 2.

Run: cd data_preprocess; python split.py
Reads data/original/hh_train_len4/train.json and writes data/original/hh_train_len{3,2}/train.json, all under
STUDY_ROOT.
"""

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_preprocess.files import json_lines, run, study_root, write_files
from data_preprocess.ranking import cut_ranking
from data_preprocess.records import read_rankings

SEED = 42
FULL_LEN = 4


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    folder = study_root() / "data" / "original"
    source = folder / f"hh_train_len{FULL_LEN}" / "train.json"
    by_len = split_rankings(read_rankings(source, FULL_LEN))
    outputs = {folder / f"hh_train_len{length}" / "train.json": rows for length, rows in by_len.items()}
    write_files({path: json_lines(rows) for path, rows in outputs.items()})
    for path, rows in outputs.items():
        print(f"{path}: {len(rows)} rows")


def split_rankings(rows: list[dict]) -> dict[int, list[dict]]:
    """Rankings of 3 cut from all rows, then rankings of 2 cut from those, by one stream of random numbers."""
    rng = random.Random(SEED)
    by_len = {}
    for ranking_len in range(FULL_LEN - 1, 1, -1):
        rows = [cut_ranking(row, rng, ranking_len) for row in rows]
        by_len[ranking_len] = rows
    return by_len


if __name__ == "__main__":
    run(main)
